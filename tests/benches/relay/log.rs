//! An event log, drained by the plainest relay that keeps the promises, and by the program.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use streambox_relay::broker::Message;
use streambox_tests::broker::named_broker_url;

use crate::{Failure, median, stage::Stage};

pub(crate) async fn measure(file: &Path, rounds: usize) -> Result<(), Failure> {
    println!("draining {}, each event an append of its own; events/s until the last confirm", file.display());
    println!("{:>7}{:>14}{:>14}{:>10}", "round", "plain loop", "drain", "ratio");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let stage = Stage::set().await?;
        let events = stage.import(file).await?;
        let plain = plain_loop(&stage, events).await?;
        stage.strike(events).await?;

        let stage = Stage::set().await?;
        let events = stage.import(file).await?;
        let drain = stage.drain().await?;
        stage.strike(events).await?;

        println!("{round:>7}{plain:>14.0}{drain:>14.0}{:>10.1}", drain / plain);
        ratios.push(drain / plain);
    }
    println!("{:>35}{:>10.1}", "median", median(&mut ratios));
    Ok(())
}

/// One entry after the other: publish, wait for the confirm, delete. Reads as the relay does: the index by pages, a
/// stream's entries by one consistent query.
#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
async fn plain_loop(stage: &Stage, events: u64) -> Result<f64, Failure> {
    let connection = Connection::connect(&named_broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let outbox = stage.store.outbox();
    let started = Instant::now();
    let (mut published, mut elapsed) = (0, Duration::ZERO);
    while published < events {
        let mut streams = outbox.scan(None, 1_000).await?.streams;
        streams.dedup();
        for stream in streams {
            for entry in outbox.pending(&stream, 1, 100).await?.entries {
                for event in entry.events.as_ref().ok_or("small events stand in their entries")? {
                    publish(&channel, stage.queue.exchange(), &Message::new(&stream, event)?, &event.payload).await?;
                    published += 1;
                }
                elapsed = started.elapsed();
                outbox.delete(&[entry.key()]).await?;
            }
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(published as f64 / elapsed.as_secs_f64())
}

async fn publish(channel: &Channel, exchange: &str, message: &Message, payload: &str) -> Result<(), Failure> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (key, properties) = (message.routing_key.clone(), message.properties.clone());
    let confirm = channel.basic_publish(exchange.into(), key, options, payload.as_bytes(), properties).await?.await?;
    match confirm {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("not published: {other:?}").into()),
    }
}
