//! A consumer that handles each event once, in order, though each may come more than once.
//!
//! ```sh
//! cargo run -p streambox-relay --example consumer -- amqp://127.0.0.1:5672/%2f streambox orders 'order.#' orders.ndjson
//! ```
//!
//! What the relay promises: within a stream, the first delivery of each event comes in version order; later ones may repeat
//! what came before. So a consumer remembers the last version that it has handled of each stream, and drops
//! `version <= last_seen`. That memory has to be written **together with the effect**, in one transaction: written before, an
//! event can be lost; written after, it can be handled twice. Here the effect is a line in a file, and the line itself is the
//! memory. With a database, keep the last version in a table of the same database.
//!
//! A gap (3 after 1) is no error: the queue is bound to some events only, or the others are private.
//!
//! One process reads a queue (it consumes exclusively): two would handle two events of a stream at the same time. To have
//! several, give each a queue of its own, for example by the consistent-hash exchange, with the stream id as its key.

use std::{
    collections::HashMap,
    error::Error,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
};

use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use streambox_relay::broker::{REPLAY_HEADER, STREAM_ID_HEADER, VERSION_HEADER};

/// Messages that the broker sends ahead of their acknowledgement.
const PREFETCH: u16 = 100;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [url, exchange, queue, binding, file] = arguments.as_slice() else {
        return Err("usage: consumer URL EXCHANGE QUEUE BINDING FILE".into());
    };
    let mut journal = Journal::open(file)?;

    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (none, topic) = (FieldTable::default(), lapin::ExchangeKind::Topic);
    channel.exchange_declare(exchange.as_str().into(), topic, durable, none.clone()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), durable, none.clone()).await?;
    let (bind, key) = (QueueBindOptions::default(), binding.as_str().into());
    channel.queue_bind(queue.as_str().into(), exchange.as_str().into(), key, bind, none.clone()).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let mut deliveries = channel.basic_consume(queue.as_str().into(), "".into(), exclusive, none).await?;
    println!("waiting for messages");

    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        match Event::of(&delivery) {
            Ok(event) => {
                let is_new = journal.handle(&event)?;
                let (what, stream, version) = (if is_new { "handled" } else { "dropped" }, event.stream, event.version);
                println!("{what} {stream} {version}{}", if event.is_replay { " (replay)" } else { "" });
                // Only now: what is not acknowledged comes again.
                delivery.acker.ack(BasicAckOptions::default()).await?;
            }
            // Not the relay's, or no JSON: it will not get better. To the dead letters, where the queue has any.
            Err(why) => {
                eprintln!("rejected: {why}");
                let reject = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
                delivery.acker.nack(reject).await?;
            }
        }
    }
    Err("the broker has closed the connection".into())
}

/// What this consumer needs of a message.
struct Event<'a> {
    stream: &'a str,
    version: u64,
    kind: &'a str,
    data: &'a RawValue,
    is_replay: bool,
}

impl<'a> Event<'a> {
    fn of(delivery: &'a Delivery) -> Result<Self, Failure> {
        let headers = delivery.properties.headers().as_ref().ok_or("there are no headers")?.inner();
        let Some(AMQPValue::LongString(stream)) = headers.get(STREAM_ID_HEADER) else {
            return Err("there is no stream id".into());
        };
        let Some(AMQPValue::LongLongInt(version)) = headers.get(VERSION_HEADER) else {
            return Err("there is no version".into());
        };
        Ok(Self {
            stream: std::str::from_utf8(stream.as_bytes())?,
            version: u64::try_from(*version)?,
            kind: delivery.properties.kind().as_ref().map_or("", |kind| kind.as_str()),
            data: serde_json::from_slice(&delivery.data)?,
            is_replay: headers.contains_key(REPLAY_HEADER),
        })
    }
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
    last_seen: HashMap<String, u64>,
}

impl Journal {
    /// Reads what was handled before. A line that was cut off by a crash was never acknowledged, and is taken away.
    fn open(path: &str) -> Result<Self, Failure> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut last_seen = HashMap::new();
        let mut whole_bytes = 0;
        let mut lines = BufReader::new(&file);
        let mut text = String::new();
        while lines.read_line(&mut text)? > 0 && text.ends_with('\n') {
            let line: Line<'_> = serde_json::from_str(&text)?;
            last_seen.insert(line.stream.into_owned(), line.version);
            whole_bytes += text.len() as u64;
            text.clear();
        }
        file.set_len(whole_bytes)?;
        Ok(Self { file, last_seen })
    }

    /// Returns whether the event was new.
    fn handle(&mut self, event: &Event<'_>) -> io::Result<bool> {
        if self.last_seen.get(event.stream).is_some_and(|last| event.version <= *last) {
            return Ok(false);
        }
        let (stream, event_type) = (event.stream.into(), event.kind.into());
        // One object a line: in JSON, line breaks stand between tokens only.
        let line = serde_json::to_string(&Line { stream, version: event.version, event_type, data: event.data })?;
        self.file.write_all(format!("{}\n", line.replace(['\n', '\r'], " ")).as_bytes())?;
        self.file.sync_data()?;
        self.last_seen.insert(event.stream.to_owned(), event.version);
        Ok(true)
    }
}
