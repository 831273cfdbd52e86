//! A consumer that handles each event once, in order, although each may come more than once.
//!
//! ```sh
//! alias consumer='cargo run -p streambox-relay --example consumer --'
//! consumer amqp://127.0.0.1:5672/%2f streambox orders 'order.#' orders.ndjson      # follow the exchange
//! consumer --rebuild amqp://127.0.0.1:5672/%2f orders-rebuild orders-new.ndjson    # take a replay, then end
//! ```
//!
//! The crate `streambox-consumer` is for services in Rust: it reads missing events from the table, and parks streams. This program shows the
//! rules for those that are written without it. They are in `docs/consuming.md`. What it does for them:
//!
//! - *The memory is part of the effect.* The last version of each stream is written together with the effect, in one
//!   transaction: written before, an event can be lost; written after, it can be handled twice. Here the effect is a line in a
//!   file, and the line itself is the memory. With a database, keep the last versions in a table of the same database.
//! - *The queue keeps the order, and deletes nothing*: see [`declare`].
//! - *Nothing is requeued.* An effect that fails is tried again in place. An event that can't be decoded holds its stream: it
//!   and everything behind it in the stream stay unacknowledged. After [`HOLD_LIMIT`] the program ends, and a restart, of a
//!   corrected version perhaps, gets all of it again, in order.
//! - *It ends by closing the connection*, before it drops the consumer. A consumer that is cancelled first leaves its
//!   unacknowledged messages behind those that the next one gets.
//! - *Live messages and replayed ones never meet in one memory*: see [`Consumer::take`].
//!
//! When it loses its connection it ends as well: run it under something that restarts it.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fs::{File, OpenOptions},
    future::pending,
    io::{self, BufRead as _, BufReader, Write as _},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use streambox::{
    StreamId,
    message::{HeaderValue, MessageError, Properties, Received},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Messages that the broker sends ahead of their acknowledgement. Those of held streams count as well: when all are held,
/// nothing more comes.
const PREFETCH: u16 = 100;

/// The longest that a message is kept unacknowledged. It has to be shorter than the broker's `consumer_timeout` (30 minutes by
/// default): RabbitMQ 4.3 then gives the message to another consumer, behind what that one has already got.
const HOLD_LIMIT: Duration = Duration::from_mins(10);

/// The longest to say goodbye; then the connection ends with the program.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(100);
const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(10);

/// How often a queue may give a message to consumers that are lost: never enough. Quorum queues delete (or dead-letter) a
/// message beyond that, and since RabbitMQ 4.0 the default is 20. `-1` means "no limit" from 4.0 on only: on 3.10 it
/// deletes every message that comes back for the first time.
const DELIVERY_LIMIT: i32 = i32::MAX;

const WAITS: &str = "its stream waits for a version of this program that can read it";

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (url, queue, binding, file) = match *arguments.as_slice() {
        ["--rebuild", url, queue, file] => (url, queue, None, file),
        [url, exchange, queue, binding, file] => (url, queue, Some((exchange, binding)), file),
        _ => return Err("usage: consumer URL EXCHANGE QUEUE BINDING FILE | consumer --rebuild URL QUEUE FILE".into()),
    };
    let mut stop = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];

    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    declare(&channel, queue, binding).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = channel.basic_consume(queue.into(), "".into(), options, none).await?;
    println!("waiting for messages");

    let mut consumer = Consumer { queue, is_rebuild: binding.is_none(), file, journal: None, held: Held::default() };
    let [terminate, interrupt] = &mut stop;
    let outcome = tokio::select! {
        outcome = consumer.consume(&mut deliveries) => outcome,
        _ = terminate.recv() => Ok(Ended::Stopped),
        _ = interrupt.recv() => Ok(Ended::Stopped),
    };
    if let Ok(Ended::Rebuilt) = outcome {
        println!("rebuilt from {} events", consumer.journal()?.events);
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    // Before `deliveries` is dropped: lapin then cancels a consumer whose connection is open. If it is lost, there is nothing
    // to close.
    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "the consumer ends".into())).await;
    outcome.map(|_| ())
}

/// Declares the queue, and whatever belongs to it.
///
/// - A *quorum* queue is replicated, and survives the loss of a node.
/// - With a *single active consumer*, one consumer gets messages, and the next takes over when that one is gone. Of two at once,
///   each would have some of a stream's events. (An `exclusive` consumer of a quorum queue does not keep others away.)
/// - *No limit* removes events: not [`DELIVERY_LIMIT`], and neither `x-message-ttl`, `x-max-length` nor `x-expires` is set.
/// - *Dead letters* are messages that are no events: what is no part of a stream leaves no gap in it.
///
/// A replay goes to a queue that is bound to nothing.
async fn declare(channel: &Channel, queue: &str, binding: Option<(&str, &str)>) -> Result<(), Failure> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    quorum.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    let mut arguments = quorum.clone();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    if binding.is_some() {
        let dead = format!("{queue}.dead");
        // By way of the default exchange, where a queue's name is its routing key.
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(dead.as_str().into()));
        channel.queue_declare(dead.into(), durable, quorum).await?;
    }
    channel.queue_declare(queue.into(), durable, arguments).await?;
    if let Some((exchange, binding)) = binding {
        let (durable, none) = (ExchangeDeclareOptions { durable: true, ..Default::default() }, FieldTable::default());
        channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none.clone()).await?;
        channel.queue_bind(queue.into(), exchange.into(), binding.into(), QueueBindOptions::default(), none).await?;
    }
    Ok(())
}

struct Consumer<'a> {
    queue: &'a str,
    is_rebuild: bool,
    file: &'a str,
    /// Opened when the first message comes: until then another consumer may be the active one, and write to the file.
    journal: Option<Journal>,
    held: Held,
}

/// Streams that wait for something that this program can't do, and how many of their messages are here, unacknowledged.
#[derive(Default)]
struct Held {
    streams: HashSet<StreamId>,
    messages: u16,
    since: Option<Instant>,
}

/// How it ended.
enum Ended {
    Stopped,
    Rebuilt,
}

/// What becomes of a message.
enum Verdict {
    Ack,
    DeadLetter,
    Hold(StreamId),
    ReplayEnded,
}

impl Consumer<'_> {
    fn journal(&mut self) -> Result<&mut Journal, Failure> {
        match &mut self.journal {
            Some(journal) => Ok(journal),
            none => Ok(none.insert(Journal::open(self.file)?)),
        }
    }

    async fn consume(&mut self, deliveries: &mut lapin::Consumer) -> Result<Ended, Failure> {
        loop {
            let held_too_long = async {
                match self.held.since {
                    Some(since) => sleep_until(since + HOLD_LIMIT).await,
                    None => pending().await,
                }
            };
            let delivery = tokio::select! {
                delivery = deliveries.next() => delivery.ok_or("the broker has ended the consumer")??,
                () = held_too_long => {
                    return Err(format!("streams are held: {:?}; they begin again with the restart", self.held.streams).into());
                }
            };
            match self.take(&delivery).await? {
                // Only now: what is not acknowledged comes again.
                Verdict::Ack => _ = delivery.acker.ack(BasicAckOptions::default()).await?,
                Verdict::DeadLetter => {
                    delivery.acker.reject(BasicRejectOptions { requeue: false }).await?;
                }
                Verdict::Hold(stream) => {
                    self.held.streams.insert(stream);
                    self.held.messages += 1;
                    self.held.since.get_or_insert_with(Instant::now);
                    if self.held.messages == PREFETCH {
                        eprintln!("nothing more comes: all {PREFETCH} messages that are here belong to held streams");
                    }
                }
                Verdict::ReplayEnded => return Ok(Ended::Rebuilt),
            }
        }
    }

    /// Decides about a message, and handles it if that is due.
    ///
    /// A live queue gives events in order, so `version <= last_seen` was handled before. A replayed event is not part of that
    /// order: to take it could put `last_seen` ahead of live events that have not come yet, and these would be dropped. So a
    /// consumer that follows an exchange drops whatever is marked as a replay, and one that rebuilds takes nothing else.
    async fn take(&mut self, delivery: &Delivery) -> Result<Verdict, Failure> {
        let event = match received(delivery) {
            Ok(event) => event,
            Err(error @ MessageError::NotAnEvent) => {
                eprintln!("dead letter: {error}");
                return Ok(Verdict::DeadLetter);
            }
            Err(MessageError::Broken { stream_id, part, why }) => {
                eprintln!("held {stream_id}: the {part} of a message {why}; {WAITS}");
                return Ok(Verdict::Hold(stream_id));
            }
        };
        let name = format!("{} {}", event.stream_id, event.version);
        if event.is_replay_end() && self.is_rebuild {
            return self.compare_with(&event.payload()?);
        }
        match event.replay {
            Some(_) if !self.is_rebuild => {
                println!("dropped {name} (replay)");
                return Ok(Verdict::Ack);
            }
            None if self.is_rebuild => {
                return Err(format!(
                    "queue {} gets live events ({name}), so it is bound to an exchange: a live event that comes first makes \
                     everything before it look as if it had been seen. Delete the queue, and replay to one without bindings",
                    self.queue
                )
                .into());
            }
            _ => {}
        }
        if self.held.streams.contains(&event.stream_id) {
            println!("held {name}: its stream is held");
            return Ok(Verdict::Hold(event.stream_id));
        }
        // What a consumer of one's own decodes the payload into.
        let data = match serde_json::from_str::<&RawValue>(&event.payload) {
            Ok(data) => data,
            Err(error) => {
                eprintln!("held {name}: it can't be decoded: {error}; {WAITS}");
                return Ok(Verdict::Hold(event.stream_id));
            }
        };
        let what = if self.handle(&event, data).await? { "handled" } else { "dropped" };
        println!("{what} {name}{}", if event.replay.is_some() { " (replay)" } else { "" });
        Ok(Verdict::Ack)
    }

    /// Handles an event, again and again until that succeeds: what is behind it has to wait. Returns whether it was new.
    async fn handle(&mut self, event: &Received, data: &RawValue) -> Result<bool, Failure> {
        let (began, mut delay) = (Instant::now(), FIRST_RETRY_DELAY);
        loop {
            match self.journal()?.handle(event, data) {
                Ok(is_new) => return Ok(is_new),
                Err(error) if began.elapsed() > HOLD_LIMIT => return Err(error.into()),
                Err(error) => eprintln!("{} {} failed, it is tried again: {error}", event.stream_id, event.version),
            }
            sleep(delay).await;
            delay = LONGEST_RETRY_DELAY.min(delay * 2);
        }
    }

    /// Whether everything that was published has come. A new file holds just the events of the replay.
    fn compare_with(&mut self, replay: &ReplayEnded) -> Result<Verdict, Failure> {
        let events = self.journal()?.events;
        let held = &self.held.streams;
        if held.is_empty() && events == replay.published {
            return Ok(Verdict::ReplayEnded);
        }
        Err(format!(
            "replay {} has published {} events, and the file has {events} (held: {held:?}): replay once more, into a new file",
            replay.replay, replay.published
        )
        .into())
    }
}

/// An event of what lapin delivers.
fn received(delivery: &Delivery) -> Result<Received, MessageError> {
    let properties = &delivery.properties;
    let headers = properties.headers().iter().flat_map(FieldTable::inner).filter_map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.into(),
            AMQPValue::LongLongInt(number) => HeaderValue::from(*number),
            _ => return None,
        };
        Some((name.as_str(), value))
    });
    let properties = Properties {
        message_id: properties.message_id().as_ref().map(ShortString::as_str),
        event_type: properties.kind().as_ref().map(ShortString::as_str),
        content_type: properties.content_type().as_ref().map(ShortString::as_str),
    };
    Received::from_parts(properties, headers, &delivery.data)
}

/// The body of the message that ends a replay.
#[derive(Deserialize)]
struct ReplayEnded {
    replay: String,
    published: u64,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    version: u64,
    #[serde(rename = "type", borrow)]
    event_type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The file: effect and memory in one.
struct Journal {
    file: File,
    whole_bytes: u64,
    events: u64,
    last_seen: HashMap<StreamId, u64>,
}

impl Journal {
    /// Reads what was handled before. A line that was cut off by a crash was never acknowledged, and is overwritten. A consumer
    /// that the broker has given up may still be at work: its lock is waited for. (A database would compare `last_seen` in the
    /// transaction that raises it.)
    fn open(path: &str) -> Result<Self, Failure> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        file.lock()?;
        let (mut whole_bytes, mut events, mut last_seen) = (0, 0, HashMap::new());
        let mut lines = BufReader::new(&file);
        let mut text = String::new();
        while lines.read_line(&mut text)? > 0 && text.ends_with('\n') {
            let line: Line<'_> = serde_json::from_str(&text)?;
            last_seen.insert(StreamId::new(line.stream)?, line.version);
            whole_bytes += text.len() as u64;
            events += 1;
            text.clear();
        }
        Ok(Self { file, whole_bytes, events, last_seen })
    }

    /// Returns whether the event was new.
    fn handle(&mut self, event: &Received, data: &RawValue) -> io::Result<bool> {
        if event.version <= self.last_seen.get(&event.stream_id).copied().unwrap_or(0) {
            return Ok(false);
        }
        let (stream, event_type) = (event.stream_id.as_str().into(), event.event_type.as_str().into());
        // One object a line: in JSON, line breaks stand between tokens only.
        let line = serde_json::to_string(&Line { stream, version: event.version, event_type, data })?;
        let line = format!("{}\n", line.replace(['\n', '\r'], " "));
        // An attempt that failed may have left a part of a line.
        self.file.set_len(self.whole_bytes)?;
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.whole_bytes += line.len() as u64;
        self.events += 1;
        self.last_seen.insert(event.stream_id.clone(), event.version);
        Ok(true)
    }
}
