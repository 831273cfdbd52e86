//! What consumers of the tests are: a queue, an inbox that receives everything that comes into it.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use streambox::{
    StreamId, Uuid,
    message::{HeaderValue, MessageError, Properties, Received},
    outbox::OutboxEvent,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{PATIENCE, tally::Tally, unique};

/// A broker that can't be reached is tried again after this time.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// The longest that an inbox waits for its subscription before it tries anew.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// After this time without a delivery an inbox verifies that its connection is alive.
const SILENCE: Duration = Duration::from_secs(3);

/// Messages that the broker sends ahead of their acknowledgement.
const PREFETCH: u16 = 500;

/// An inbox that was left behind disappears after this time without a consumer.
const QUEUE_EXPIRES_MS: i32 = 600_000;

/// A message as a consumer gets it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The routing key.
    pub routing_key: String,
    /// The event.
    pub event: Received,
    /// All properties.
    pub properties: BasicProperties,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    fn new(delivery: &Delivery) -> Option<Self> {
        Some(Self {
            routing_key: delivery.routing_key.to_string(),
            event: received(delivery).ok()?,
            properties: delivery.properties.clone(),
            body: delivery.data.clone(),
        })
    }
}

/// The event of a delivery.
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

/// A durable queue that is bound to an exchange and has no consumer yet.
#[derive(Debug)]
pub struct BoundQueue {
    url: String,
    exchange: String,
    name: String,
}

impl BoundQueue {
    /// Declares the exchange and the queue, and binds it.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached or refuses.
    pub async fn declare(url: &str, exchange: &str, binding: &str) -> lapin::Result<Self> {
        Self::declare_with(url, exchange, binding, classic()).await
    }

    /// As [`declare`](Self::declare), with room for this many messages: the broker refuses (nacks) what is published beyond.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached or refuses.
    pub async fn declare_bounded(url: &str, exchange: &str, binding: &str, messages: i32) -> lapin::Result<Self> {
        let mut limits = classic();
        limits.insert("x-max-length".into(), AMQPValue::LongInt(messages));
        limits.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        Self::declare_with(url, exchange, binding, limits).await
    }

    /// As [`declare`](Self::declare), with a quorum queue, which deletes nothing however often its consumer is lost.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached or refuses.
    pub async fn declare_quorum(url: &str, exchange: &str, binding: &str) -> lapin::Result<Self> {
        let mut kind = FieldTable::default();
        kind.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        // -1 means "no limit" from RabbitMQ 4.0 on only: 3.10 deletes what is returned once.
        kind.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
        Self::declare_with(url, exchange, binding, kind).await
    }

    async fn declare_with(url: &str, exchange: &str, binding: &str, arguments: FieldTable) -> lapin::Result<Self> {
        let name = unique("inbox");
        declare(url, exchange, &name, binding, arguments).await?;
        Ok(Self { url: url.to_owned(), exchange: exchange.to_owned(), name })
    }

    /// The exchange that it is bound to.
    #[must_use]
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many messages it holds.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached.
    pub async fn messages(&self) -> lapin::Result<u64> {
        let connection = connect(&self.url).await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(self.name.as_str().into(), passive, FieldTable::default()).await?;
        connection.close(200, "done".into()).await?;
        Ok(queue.message_count().into())
    }

    /// Begins to consume.
    #[must_use]
    pub fn consume(self) -> Inbox {
        let (sender, messages) = mpsc::channel(usize::from(PREFETCH));
        let consumer = tokio::spawn(consume_for_ever(self.url.clone(), self.name.clone(), sender));
        Inbox { queue: self, messages, tally: Tally::default(), consumer }
    }
}

/// A queue and its consumer, which reconnects for ever and acknowledges what it has received.
#[derive(Debug)]
pub struct Inbox {
    queue: BoundQueue,
    messages: mpsc::Receiver<Message>,
    tally: Tally,
    consumer: JoinHandle<()>,
}

impl Inbox {
    /// Declares an exchange and a queue that is bound to all of it, and consumes.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached or refuses.
    pub async fn open(url: &str, exchange: &str) -> lapin::Result<Self> {
        Self::bound(url, exchange, "#").await
    }

    /// Declares an exchange and a queue that is bound to it by `binding`, and consumes.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached or refuses.
    pub async fn bound(url: &str, exchange: &str, binding: &str) -> lapin::Result<Self> {
        Ok(BoundQueue::declare(url, exchange, binding).await?.consume())
    }

    /// The exchange that it is bound to.
    #[must_use]
    pub fn exchange(&self) -> &str {
        &self.queue.exchange
    }

    /// Waits for the next message.
    ///
    /// # Panics
    /// If none comes within [`PATIENCE`].
    pub async fn next(&mut self) -> Message {
        self.next_within(PATIENCE).await.unwrap_or_else(|| panic!("no message came; so far: {}", summary(&self.tally)))
    }

    /// Waits for the next message; `None` if none comes within `limit`.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Message> {
        let received = timeout(limit, self.messages.recv()).await.ok()??;
        self.tally.count(received.event.stream_id.as_str(), received.event.version);
        Some(received)
    }

    /// Waits until this many different events were received.
    ///
    /// # Panics
    /// If no message comes within [`PATIENCE`].
    pub async fn receive_distinct(&mut self, events: u64) -> &Tally {
        while self.tally.distinct() < events {
            self.next().await;
        }
        &self.tally
    }

    /// Takes what the queue still holds: until the broker says that it is empty and everything in it was received.
    ///
    /// # Panics
    /// If the end does not come within [`PATIENCE`].
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached.
    pub async fn receive_rest(&mut self) -> lapin::Result<&Tally> {
        let connection = connect(&self.queue.url).await?;
        let channel = connection.create_channel().await?;
        // A sentinel behind everything else: when it arrives, all before it has.
        let sentinel = StreamId::new(unique("sentinel")).expect("a stream id");
        let event = OutboxEvent::new(1, Uuid::new_v4(), "Sentinel", "null");
        let properties = streambox_relay::broker::Message::new(&sentinel, &event).expect("a message").properties;
        let options = lapin::options::BasicPublishOptions::default();
        channel.basic_publish("".into(), self.queue.name.as_str().into(), options, b"null", properties).await?;
        loop {
            let Ok(Some(received)) = timeout(PATIENCE, self.messages.recv()).await else {
                panic!("the queue's end does not come; so far: {}", summary(&self.tally))
            };
            let Received { stream_id, version, .. } = &received.event;
            if *stream_id == sentinel {
                return Ok(&self.tally);
            }
            if stream_id.category() != sentinel.category() {
                self.tally.count(stream_id.as_str(), *version);
            }
        }
    }

    /// What was received so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Deletes queue and exchange.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached.
    pub async fn close(self) -> lapin::Result<()> {
        self.consumer.abort();
        remove(&self.queue.url, &[self.queue.name()], Some(self.exchange())).await
    }

    /// Deletes the queue alone: the exchange is somebody else's.
    ///
    /// # Errors
    /// lapin's, if the broker can't be reached.
    pub async fn close_queue(self) -> lapin::Result<()> {
        self.consumer.abort();
        remove(&self.queue.url, &[self.queue.name()], None).await
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.consumer.abort();
    }
}

/// Deletes queues with what is in them, and an exchange. What does not exist is none of their errors.
///
/// # Errors
/// lapin's, if the broker can't be reached.
pub async fn remove(url: &str, queues: &[&str], exchange: Option<&str>) -> lapin::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    for queue in queues {
        channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await?;
    }
    if let Some(exchange) = exchange {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "done".into()).await
}

/// Named, since a node's or a virtual host's default may be another type: it has no delivery limit.
fn classic() -> FieldTable {
    let mut kind = FieldTable::default();
    kind.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    kind
}

fn summary(tally: &Tally) -> String {
    format!(
        "{} distinct events, {} duplicates, {} order violations",
        tally.distinct(),
        tally.duplicates(),
        tally.order_violations().len()
    )
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default().with_connection_name("streambox-inbox".into())).await
}

async fn declare(
    url: &str,
    exchange: &str,
    queue: &str,
    binding: &str,
    mut arguments: FieldTable,
) -> lapin::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    arguments.insert("x-expires".into(), AMQPValue::LongInt(QUEUE_EXPIRES_MS));
    channel.queue_declare(queue.into(), durable, arguments).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), binding.into(), options, FieldTable::default()).await?;
    connection.close(200, "done".into()).await
}

async fn consume_for_ever(url: String, queue: String, messages: mpsc::Sender<Message>) {
    while !messages.is_closed() {
        // The broker may be away, that is what some tests are about.
        let _ = consume(&url, &queue, &messages).await;
        sleep(RECONNECT_DELAY).await;
    }
}

async fn consume(url: &str, queue: &str, messages: &mpsc::Sender<Message>) -> lapin::Result<()> {
    let subscribed = async {
        let connection = connect(url).await?;
        let channel: Channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let deliveries = channel.basic_consume(queue.into(), tag, options, FieldTable::default()).await?;
        lapin::Result::Ok((connection, channel, deliveries))
    };
    // A broker that is stopped in the middle of a handshake never answers, and lapin waits for ever.
    let Ok(subscribed) = timeout(SUBSCRIBE_TIMEOUT, subscribed).await else { return Ok(()) };
    let (_connection, channel, mut deliveries) = subscribed?;
    loop {
        let delivery = match timeout(SILENCE, deliveries.next()).await {
            Ok(Some(delivery)) => delivery?,
            Ok(None) => return Ok(()),
            // Nothing is coming, or nothing can: lapin does not always report that a broker was killed. So a request probes the connection.
            Err(_) => match timeout(SILENCE, channel.basic_qos(PREFETCH, BasicQosOptions::default())).await {
                Ok(answer) => {
                    answer?;
                    continue;
                }
                Err(_) => return Ok(()),
            },
        };
        if let Some(received) = Message::new(&delivery)
            && messages.send(received).await.is_err()
        {
            return Ok(());
        }
        let Ok(acked) = timeout(SILENCE, delivery.acker.ack(BasicAckOptions::default())).await else { return Ok(()) };
        acked?;
    }
}
