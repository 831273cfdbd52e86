//! A consumer as a process, for tests that kill it: its effects are those of [`Effects`]. It finds DynamoDB, the events table and the broker
//! as the programs do.

use std::{env, error::Error};

use clap::Parser;
use streambox::{EventStore, client_from_env};
use streambox_consumer::{Consumer, Inbox, Queues};
use streambox_tests::effects::Effects;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Arguments {
    /// Its name, and that of its queue
    name: String,
    /// The exchange of the relay
    exchange: String,
    /// The table of the inbox
    inbox: String,
    /// The table of the effects
    effects: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { name, exchange, inbox, effects } = Arguments::parse();
    let client = client_from_env().await;
    let store = EventStore::new(client.clone(), env::var("STREAMBOX_TABLE")?);
    let queues = Queues::new(&name)?.exchange(exchange)?;
    let projection = Inbox::new(client.clone(), &inbox, &name)?.projection(Effects::of_table(client, effects));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut consumer = Consumer::builder(env::var("STREAMBOX_AMQP_URL")?, queues, projection).store(store).spawn()?;
    eprintln!("consuming");
    tokio::select! {
        error = consumer.ended() => return Err(error.into()),
        _ = terminate.recv() => {}
    }
    let status = consumer.stop().await?;
    eprintln!("applied {}", status.applied);
    Ok(())
}
