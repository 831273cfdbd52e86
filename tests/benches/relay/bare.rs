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
use streambox_tests::broker::named_broker_url;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};

use crate::{Failure, stage::Stage};

/// As `streambox-relay` has it by default.
const PUBLISHERS: usize = 2;

/// What was read of a stream.
type Lane = VecDeque<PendingEntry>;

/// Streams with something to publish. A publisher takes as many as a batch has room for, and puts back those that
/// have more.
#[derive(Clone)]
struct Ready {
    sender: mpsc::UnboundedSender<Lane>,
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Lane>>>,
    /// Events that are not published yet.
    left: watch::Sender<u64>,
}

/// Drains a stage. Returns events a second until the last confirm.
#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
pub(crate) async fn drain(stage: &Stage, events: u64) -> Result<f64, Failure> {
    let outbox = stage.store.outbox();
    let bounds = Bounds::default();
    let started = Instant::now();
    let (sender, receiver) = mpsc::unbounded_channel();
    let ready = Ready { sender, receiver: Arc::new(Mutex::new(receiver)), left: watch::Sender::new(events) };
    let (keys, to_delete) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(read(outbox.clone(), ready.clone(), bounds.max_reads, bounds.entries_per_read));
    tasks.spawn(delete(outbox, to_delete));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let exchange = stage.queue.exchange().to_owned();
        publishers.spawn(publish(exchange, ready.clone(), keys.clone(), bounds.max_batch_events, started));
    }
    drop(keys);
    let mut elapsed = Duration::ZERO;
    while let Some(last) = publishers.join_next().await {
        elapsed = elapsed.max(last??);
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(events as f64 / elapsed.as_secs_f64())
}

/// The index by pages; of each stream the entries by consistent queries.
async fn read(outbox: Outbox, ready: Ready, max_reads: usize, entries_per_read: u16) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let page = outbox.scan(cursor, SCAN_LIMIT).await?;
        let mut streams = page.streams;
        streams.dedup();
        let read = stream::iter(streams).map(|stream| read_stream(&outbox, stream, entries_per_read));
        let mut read = read.buffer_unordered(max_reads);
        while let Some(lane) = read.next().await {
            ready.sender.send(lane?)?;
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

/// One entry of each stream at a time. Returns when the last was confirmed.
async fn publish(
    exchange: String,
    ready: Ready,
    keys: mpsc::UnboundedSender<PendingKey>,
    window: usize,
    started: Instant,
) -> Result<Duration, Failure> {
    let connection = Connection::connect(&named_broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut left = ready.left.subscribe();
    let (mut lanes, mut last) = (Vec::new(), Duration::ZERO);
    loop {
        tokio::select! {
            _ = async { ready.receiver.lock().await.recv_many(&mut lanes, window).await } => {}
            _ = left.wait_for(|left| *left == 0) => break,
        }
        let batch: Vec<_> = lanes.iter_mut().filter_map(VecDeque::pop_front).collect();
        publish_batch(&channel, &exchange, &batch).await?;
        last = started.elapsed();
        ready.left.send_modify(|left| *left -= batch.len() as u64);
        for entry in batch {
            keys.send(entry.key())?;
        }
        for lane in lanes.drain(..).filter(|lane| !lane.is_empty()) {
            ready.sender.send(lane)?;
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(last)
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
async fn delete(outbox: Outbox, mut keys: mpsc::UnboundedReceiver<PendingKey>) -> Result<(), Failure> {
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
