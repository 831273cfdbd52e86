//! A service on streambox, to copy from: seats of concerts over HTTP, and a read model that follows the queue.
//!
//! Settings come from the environment; the README beside this file lists them.

mod api;
mod concert;
mod projection;
mod table;

use std::{env, error::Error};

use streambox::{EventStore, aggregate::Repository, client_from_env, create_table};
use streambox_consumer::{Consumer, Inbox, Queues, TlsFiles, create_inbox_table};
use streambox_relay::Relay;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    api::Service,
    table::{Emails, FreeSeats},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let (events, own) = (setting("STREAMBOX_TABLE", "streambox"), setting("RESERVATIONS_TABLE", "reservations"));
    let inbox = setting("RESERVATIONS_INBOX", "reservations-inbox");
    let client = client_from_env().await;
    if env::var_os("RESERVATIONS_CREATE_TABLES").is_some() {
        create_table(&client, &events).await?;
        table::create(&client, &own).await?;
        create_inbox_table(&client, &inbox).await?;
    }

    let url = setting("STREAMBOX_AMQP_URL", "amqp://127.0.0.1:5672/%2f");
    let exchange = setting("STREAMBOX_EXCHANGE", "streambox");
    let mut store = EventStore::builder(client.clone(), &events);
    let mut relay = None;
    if env::var_os("RESERVATIONS_RELAY").is_some() {
        let inside = Relay::builder(EventStore::new(client.clone(), &events), &url).exchange(&exchange).spawn()?;
        store = store.on_append(inside.waker());
        relay = Some(inside);
    }

    let free_seats = FreeSeats::new(client.clone(), &own);
    let queue = setting("RESERVATIONS_QUEUE", "free-seats");
    let queues = Queues::new(&queue)?.exchange(&exchange)?.category("concert")?;
    queues.declare(&url, TlsFiles::default()).await?;
    let projection = Inbox::new(client, &inbox, &queue)?.projection(free_seats.clone());
    let store = store.build();
    let consumer = Consumer::builder(url, queues, projection).store(store.clone()).spawn()?;
    eprintln!("the projection follows queue {queue}");
    let concerts = Repository::new(store);
    let service = Service { concerts: concerts.clone(), emails: Emails::new(own), free_seats };

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(setting("RESERVATIONS_HTTP", "127.0.0.1:8080")).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    let relay = relay.map(|relay| tokio::spawn(run(relay, stopped.clone())));
    let projection = tokio::spawn(follow(consumer, stopped));
    axum::serve(listener, api::router(service))
        .with_graceful_shutdown(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        })
        .await?;

    // No request is under way any more.
    stop.send(true)?;
    projection.await?;
    if let Some(relay) = relay {
        relay.await?;
    }
    concerts.snapshots_settled().await;
    Ok(())
}

/// Lets the relay inside of this service run until `stop` is true. If it ends by itself, the service goes on: its events stay pending.
async fn run(mut relay: Relay, mut stop: watch::Receiver<bool>) {
    let ended = tokio::select! {
        error = relay.ended() => Some(error),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let error = if ended.is_some() { ended } else { relay.stop().await.err() };
    if let Some(error) = error {
        eprintln!("the relay has ended: {error}");
    }
}

/// Lets the consumer run until `stop` is true. If it ends by itself, the service goes on: the queue collects what is published.
async fn follow(mut consumer: Consumer, mut stop: watch::Receiver<bool>) {
    let ended = tokio::select! {
        error = consumer.ended() => Some(error),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let error = if ended.is_some() { ended } else { consumer.stop().await.err() };
    if let Some(error) = error {
        eprintln!("the projection has ended: {error}");
    }
}
