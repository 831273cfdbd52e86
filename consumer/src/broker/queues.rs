//! The queues that a consumer listens to, declared on purpose.

use std::{ops::RangeInclusive, sync::Arc};

use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions},
    protocol::AMQPError,
    types::{AMQPValue, FieldTable},
};
use streambox_amqp::{
    ConnectionError, Endpoint, Purpose, Status, TlsFiles, WatchedConnection, parse_url, without_password,
};

use crate::BadConfiguration;

/// Most queues of one consumer.
const PARTITIONS: RangeInclusive<u16> = 1..=64;

/// AMQP's short strings end at 255 bytes, and the names of dead letters and partitions are longer than the consumer's.
const MAX_NAME_BYTES: usize = 200;

/// What the relay publishes to, unless set otherwise.
const DEFAULT_EXCHANGE: &str = "streambox";

/// By which streams are spread over partitions: all of a stream's events go to one.
const HASH_HEADER: &str = "stream_id";

/// The queues of one consumer: what they are bound to, and how many they are.
///
/// Each is a durable quorum queue with a single active consumer, so that streams keep their order. Messages that are not events go to the
/// queue `NAME.dead`. Deliveries are not counted: a queue of RabbitMQ 4 would delete a message after its 20th lost connection otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queues {
    name: String,
    exchange: String,
    categories: Vec<String>,
    partitions: u16,
}

/// Why queues can't be declared, checked or purged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueuesError {
    /// A setting can't be used.
    #[error(transparent)]
    Configuration(#[from] BadConfiguration),
    /// The broker does not answer, or refuses.
    #[error("{0}")]
    Broker(String),
}

impl Queues {
    /// One queue of this name, bound to every event of the exchange `streambox`. The name is the consumer's.
    ///
    /// # Errors
    /// The name is empty, has more than 200 bytes, or begins with `amq.`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadConfiguration> {
        let name = checked("name of the queue", name.into())?;
        Ok(Self { name, exchange: DEFAULT_EXCHANGE.to_owned(), categories: Vec::new(), partitions: 1 })
    }

    /// The topic exchange that the relay publishes to. It is declared if it does not exist.
    ///
    /// # Errors
    /// As [`new`](Self::new), of the exchange's name.
    pub fn exchange(self, name: impl Into<String>) -> Result<Self, BadConfiguration> {
        Ok(Self { exchange: checked("exchange", name.into())?, ..self })
    }

    /// Only the events of this category, one more with each call: what stands before the first `-` of their stream ids.
    ///
    /// A category is consumed whole: what is bound to some event types only would look like gaps.
    ///
    /// # Errors
    /// It is not the name of a category.
    pub fn category(mut self, name: impl Into<String>) -> Result<Self, BadConfiguration> {
        let name = checked("category", name.into())?;
        if name.contains(['-', '.', '*', '#']) {
            let why = "a category has no `-`, and what is bound has no `.`, `*` and `#`".to_owned();
            return Err(BadConfiguration { setting: "category", value: name, why });
        }
        self.categories.push(name);
        Ok(self)
    }

    /// Spreads the streams over this many queues, `NAME.0`, `NAME.1` and so on, of which each has its own active consumer. The exchange `NAME`
    /// spreads them, by the plugin `rabbitmq_consistent_hash_exchange`.
    ///
    /// # Errors
    /// Not 1 to 64.
    pub fn partitions(self, partitions: u16) -> Result<Self, BadConfiguration> {
        if PARTITIONS.contains(&partitions) {
            return Ok(Self { partitions, ..self });
        }
        let why = format!("allowed is {} to {}", PARTITIONS.start(), PARTITIONS.end());
        Err(BadConfiguration { setting: "partitions", value: partitions.to_string(), why })
    }

    /// The consumer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The exchange that the relay publishes to.
    #[must_use]
    pub fn of_exchange(&self) -> &str {
        &self.exchange
    }

    /// The names of the queues.
    #[must_use]
    pub fn queue_names(&self) -> Vec<String> {
        match self.partitions {
            1 => vec![self.name.clone()],
            partitions => (0..partitions).map(|partition| format!("{}.{partition}", self.name)).collect(),
        }
    }

    /// The name of the queue for messages that are not events.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// Declares exchange, queues, bindings and dead letters, if they are not there.
    ///
    /// # Errors
    /// [`QueuesError`]: one of them is there with other properties, a permission is missing, the broker does not answer.
    pub async fn declare(&self, amqp_url: &str, tls: TlsFiles) -> Result<(), QueuesError> {
        self.with_connection(amqp_url, tls, async |connection| self.declare_on(connection).await).await
    }

    /// Deletes every message of the queues.
    ///
    /// # Errors
    /// As [`declare`](Self::declare); a queue does not exist.
    pub async fn purge(&self, amqp_url: &str, tls: TlsFiles) -> Result<(), QueuesError> {
        let purge = async |connection: &Connection| {
            let channel = connection.create_channel().await?;
            for queue in self.queue_names() {
                channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
            }
            Ok(())
        };
        self.with_connection(amqp_url, tls, purge).await
    }

    async fn with_connection<T>(
        &self,
        amqp_url: &str,
        tls: TlsFiles,
        work: impl AsyncFnOnce(&Connection) -> lapin::Result<T>,
    ) -> Result<T, QueuesError> {
        let uri = parse_url(amqp_url).map_err(|why| BadConfiguration {
            setting: "amqp_url",
            value: without_password(amqp_url),
            why,
        })?;
        let mut endpoint = Endpoint::new(uri);
        endpoint.tls = tls;
        let purpose = Arc::new(Declaring { endpoint, name: self.name.clone() });
        let (status, _) = Status::new(Arc::default());
        let failed = |error: ConnectionError| QueuesError::Broker(error.to_string());
        let mut watched = WatchedConnection::open(Arc::clone(&purpose), Arc::new(status)).await.map_err(failed)?;
        let connection = Arc::clone(&watched.connection);
        let working = async { work(&connection).await.map_err(|error| ConnectionError::from_lapin(&error, &*purpose)) };
        let done = watched.within_connect_timeout("declaring queues", working).await;
        watched.close("done").await;
        done.map_err(failed)
    }

    /// Declares everything, on a connection that is open.
    pub(crate) async fn declare_on(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let (exchange, none) = (self.exchange.as_str(), FieldTable::default());
        channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none).await?;
        queue(&channel, &self.dead_letters(), quorum()).await?;
        for name in self.queue_names() {
            queue(&channel, &name, self.arguments()).await?;
        }
        let name = self.name.as_str();
        if self.partitions > 1 {
            let mut hash = FieldTable::default();
            hash.insert("hash-header".into(), text(HASH_HEADER));
            let kind = ExchangeKind::Custom("x-consistent-hash".to_owned());
            channel.exchange_declare(name.into(), kind, durable, hash).await?;
            for queue in self.queue_names() {
                // The key is a weight.
                let (options, none) = (QueueBindOptions::default(), FieldTable::default());
                channel.queue_bind(queue.into(), name.into(), "1".into(), options, none).await?;
            }
        }
        for key in self.routing_keys() {
            let (key, none) = (key.as_str().into(), FieldTable::default());
            if self.partitions > 1 {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(name.into(), exchange.into(), key, options, none).await?;
            } else {
                channel.queue_bind(name.into(), exchange.into(), key, QueueBindOptions::default(), none).await?;
            }
        }
        Ok(())
    }

    fn routing_keys(&self) -> Vec<String> {
        match self.categories.as_slice() {
            [] => vec!["#".to_owned()],
            categories => categories.iter().map(|category| format!("{category}.#")).collect(),
        }
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(&self.dead_letters()));
        arguments
    }
}

/// What declaring is, for its errors.
#[derive(Debug)]
struct Declaring {
    endpoint: Endpoint,
    name: String,
}

impl Purpose for Declaring {
    type Counts = ();

    const OWNER: &'static str = "the consumer";

    const CONNECTION_NAME: &'static str = "streambox-consumer queues";

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn meaning(&self, error: &AMQPError) -> Option<ConnectionError> {
        super::session::meaning(error, &self.endpoint, &self.name)
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    // RabbitMQ 4 reads any negative number as no limit, RabbitMQ 3 takes none.
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
    arguments
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, arguments).await.map(drop)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn checked(setting: &'static str, name: String) -> Result<String, BadConfiguration> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("it has {} bytes; allowed are {MAX_NAME_BYTES}", name.len())
    } else if name.starts_with("amq.") {
        "names that begin with `amq.` are the broker's own".to_owned()
    } else {
        return Ok(name);
    };
    Err(BadConfiguration { setting, value: name, why })
}
