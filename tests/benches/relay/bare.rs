//! The bare loop: the relay's requests to DynamoDB and its publishes, as many at the same time and in batches as large, and
//! none of its logic. It knows how many events there are, judges nothing, keeps nothing and repeats nothing.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::try_join_all, stream};
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use streambox::{
    StreamId,
    limits::MAX_BATCH_DELETES,
    outbox::{Outbox, PendingEntry, PendingKey},
};
use streambox_relay::{broker::Message, core::Bounds, relay::SCAN_LIMIT};
use streambox_tests::broker::shared_broker_url;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{Failure, stage::Stage};

/// As `streambox-relay` has it by default.
const PUBLISHERS: usize = 2;

/// What was read of a stream.
type Lane = VecDeque<PendingEntry>;

/// Drains a stage. Returns events a second until the last confirm.
#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
pub(crate) async fn drain(stage: &Stage, events: u64) -> Result<f64, Failure> {
    let outbox = stage.store.outbox();
    let bounds = Bounds::default();
    let started = Instant::now();
    let (lanes, to_publish) = async_channel(bounds.max_streams);
    let (keys, to_delete) = mpsc::channel(bounds.max_streams);
    let mut tasks = JoinSet::new();
    tasks.spawn(read(outbox.clone(), lanes, bounds.max_reads, bounds.entries_per_read));
    tasks.spawn(delete(outbox, to_delete));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let exchange = stage.queue.exchange().to_owned();
        publishers.spawn(publish(exchange, Arc::clone(&to_publish), keys.clone(), bounds.max_batch_events, started));
    }
    drop(keys);
    let (mut published, mut elapsed) = (0, Duration::ZERO);
    while let Some(done) = publishers.join_next().await {
        let (count, last) = done??;
        published += count;
        elapsed = elapsed.max(last);
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    assert_eq!(published, events, "the bare loop has published everything");
    Ok(published as f64 / elapsed.as_secs_f64())
}

type Lanes = Arc<tokio::sync::Mutex<mpsc::Receiver<Lane>>>;

/// A channel whose receiving end several tasks share.
fn async_channel(size: usize) -> (mpsc::Sender<Lane>, Lanes) {
    let (sender, receiver) = mpsc::channel(size);
    (sender, Arc::new(tokio::sync::Mutex::new(receiver)))
}

/// The index by pages; of each stream the entries by consistent queries.
async fn read(outbox: Outbox, lanes: mpsc::Sender<Lane>, reads: usize, entries_per_read: u16) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let page = outbox.scan(cursor, SCAN_LIMIT).await?;
        let mut streams = page.streams;
        streams.dedup();
        let read = stream::iter(streams).map(|stream| read_stream(&outbox, stream, entries_per_read));
        let mut read = read.buffer_unordered(reads);
        while let Some(lane) = read.next().await {
            lanes.send(lane?).await?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn read_stream(outbox: &Outbox, stream: StreamId, entries_per_read: u16) -> Result<Lane, Failure> {
    let (mut lane, mut from) = (Lane::new(), 1);
    loop {
        let page = outbox.pending(&stream, from, entries_per_read).await?;
        from = page.entries.last().map_or(from, |last| last.first + 1);
        lane.extend(page.entries);
        if !page.has_more {
            return Ok(lane);
        }
    }
}

/// One entry of each lane at a time. Returns how many, and when the last was confirmed.
async fn publish(
    exchange: String,
    to_publish: Lanes,
    keys: mpsc::Sender<PendingKey>,
    window: usize,
    started: Instant,
) -> Result<(u64, Duration), Failure> {
    let connection = Connection::connect(&shared_broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut lanes: Vec<Lane> = Vec::new();
    let (mut published, mut last) = (0, Duration::ZERO);
    loop {
        if lanes.is_empty() {
            match to_publish.lock().await.recv().await {
                Some(lane) => lanes.push(lane),
                None => break,
            }
        }
        // Its share of what is there; the rest is for the others.
        if let Ok(mut more) = to_publish.try_lock() {
            let share = more.len().div_ceil(PUBLISHERS).min(window - lanes.len());
            lanes.extend((0..share).map_while(|_| more.try_recv().ok()));
        }
        let batch: Vec<_> = lanes.iter_mut().filter_map(VecDeque::pop_front).collect();
        publish_batch(&channel, &exchange, &batch).await?;
        last = started.elapsed();
        published += batch.len() as u64;
        for entry in batch {
            keys.send(entry.key()).await?;
        }
        lanes.retain(|lane| !lane.is_empty());
    }
    connection.close(200, "done".into()).await?;
    Ok((published, last))
}

async fn publish_batch(channel: &Channel, exchange: &str, batch: &[PendingEntry]) -> Result<(), Failure> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let event = |entry: &PendingEntry| entry.events.as_ref()?.first().cloned();
    let messages: Option<Vec<_>> = batch.iter().map(|entry| Some((entry.stream_id.clone(), event(entry)?))).collect();
    let messages = messages.ok_or("small events stand in their entries")?;
    let written = messages.iter().map(async |(stream, event)| -> Result<_, Failure> {
        let message = Message::new(stream, event)?;
        let (key, payload) = (message.routing_key, event.payload.as_bytes());
        Ok(channel.basic_publish(exchange.into(), key, options, payload, message.properties).await?)
    });
    for confirm in try_join_all(try_join_all(written).await?).await? {
        if confirm != Confirmation::Ack(None) {
            return Err("not published".into());
        }
    }
    Ok(())
}

/// Batches of deletes, as many at the same time as the relay makes.
async fn delete(outbox: Outbox, mut keys: mpsc::Receiver<PendingKey>) -> Result<(), Failure> {
    let mut under_way: JoinSet<Result<(), Failure>> = JoinSet::new();
    let mut batch = Vec::with_capacity(MAX_BATCH_DELETES);
    while keys.recv_many(&mut batch, MAX_BATCH_DELETES).await > 0 {
        // Until it is full, or nothing more will come.
        while batch.len() < MAX_BATCH_DELETES && keys.recv_many(&mut batch, MAX_BATCH_DELETES).await > 0 {}
        while !batch.is_empty() {
            if under_way.len() == Bounds::default().max_deletes
                && let Some(done) = under_way.join_next().await
            {
                done??;
            }
            let (outbox, some): (_, Vec<_>) =
                (outbox.clone(), batch.drain(..batch.len().min(MAX_BATCH_DELETES)).collect());
            under_way.spawn(async move {
                let left = outbox.delete(&some).await?;
                left.is_empty().then_some(()).ok_or_else(|| "the engine has left deletes out".into())
            });
        }
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}
