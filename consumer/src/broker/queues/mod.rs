//! The queues that a consumer listens to, declared on purpose, and compared with what is there.
//!
//! `definition` is what is declared, as data; `declare`, `check` and `delete` are its uses, `operator` sends their requests.

mod check;
mod declare;
mod definition;
mod delete;
mod operator;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

pub use check::{QueueDifference, QueuesCheck};
use definition::Definition;
use lapin::{
    Channel,
    options::{QueueDeclareOptions, QueuePurgeOptions},
    protocol::AMQPError,
    types::FieldTable,
};
use operator::Operator;
use streambox_amqp::{
    ConnectionError, Endpoint, Purpose, Status, TlsFiles, WatchedConnection, parse_url, without_password,
};

use tokio::time::sleep;

use crate::BadConfiguration;

/// How many queues one consumer can have.
const PARTITIONS: RangeInclusive<u16> = 1..=64;

/// AMQP's short strings end at 255 bytes, and the names of dead letters and partitions are longer than the consumer's.
const MAX_NAME_BYTES: usize = 200;

/// From one look into the queues to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What the relay publishes to, unless set otherwise.
const DEFAULT_EXCHANGE: &str = "streambox";

/// The queues of one consumer: what they are bound to, and how many they are.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use streambox_consumer::{Queues, TlsFiles};
///
/// let queues = Queues::new("free-seats")?.category("concert")?.category("booking")?;
/// queues.declare("amqps://user:password@broker.example:5671/%2f", TlsFiles::default()).await?;
/// # Ok(())
/// # }
/// ```
///
/// Each is a durable quorum queue with a single active consumer, so that streams keep their order. Messages that are not events go to the
/// queue `NAME.dead`. The delivery limit is one that is never reached: by its default a queue of RabbitMQ 4 deletes a message after its 20th
/// lost connection.
///
/// **Another number of partitions** gives most streams to another queue, where their next events would overtake those that are still in the
/// former one. So it is another set of queues, with another name: declare `free-seats-8` beside `free-seats`, let the consumers come to the
/// end of what the former queues had then, stop them, start them on the new queues, and delete the former ones. Nothing is lost, since the new
/// queues get every event from their declaration on, and nothing is applied twice, since a consumer's positions do not depend on its
/// queues. The inbox's name stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queues {
    name: String,
    exchange: String,
    categories: Vec<String>,
    partitions: u16,
}

/// Why queues can't be declared, checked, purged or deleted.
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
        let exchange = checked("exchange", name.into())?;
        if self.partitions > 1 && exchange == self.name {
            let why =
                "it has the name of the queue, which an exchange that spreads streams over partitions has".to_owned();
            return Err(BadConfiguration { setting: "exchange", value: exchange, why });
        }
        Ok(Self { exchange, ..self })
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
    /// Each process consumes all of them. From RabbitMQ 4.0 on, several processes are active on about as many each, and what one leaves the
    /// others take over; have several partitions for each process. Former versions make the process that came first active on all.
    ///
    /// # Errors
    /// Not 1 to 64.
    pub fn partitions(self, partitions: u16) -> Result<Self, BadConfiguration> {
        let why = if !PARTITIONS.contains(&partitions) {
            format!("allowed is {} to {}", PARTITIONS.start(), PARTITIONS.end())
        } else if partitions > 1 && self.exchange == self.name {
            "the relay publishes to an exchange of this name, and another one would spread streams over partitions"
                .to_owned()
        } else {
            return Ok(Self { partitions, ..self });
        };
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

    /// Declares exchange, queues, bindings and dead letters, if they are not there. What is there stays as it is; it can be repeated.
    ///
    /// # Errors
    /// [`QueuesError`]: one of them is there with other properties, or there are queues for another number of partitions; a permission or the
    /// plugin is missing; the broker does not answer.
    pub async fn declare(&self, amqp_url: &str, tls: TlsFiles) -> Result<(), QueuesError> {
        self.with_operator(amqp_url, tls, async |operator| declare::declare(operator, &Definition::of(self)).await)
            .await
    }

    /// Compares queues and exchanges with what [`declare`](Self::declare) declares, and changes nothing.
    ///
    /// AMQP shows neither bindings nor policies, so this does not compare them: `declare` again to be sure of the bindings.
    ///
    /// # Errors
    /// [`QueuesError`]: the user may not configure anything, or the broker does not answer.
    pub async fn check(&self, amqp_url: &str, tls: TlsFiles) -> Result<QueuesCheck, QueuesError> {
        self.with_operator(amqp_url, tls, async |operator| check::check(operator, &Definition::of(self)).await).await
    }

    /// Deletes every message of the queues that no consumer has, and returns how many they were. A consumer keeps what it has not acknowledged
    /// yet.
    ///
    /// # Errors
    /// As [`declare`](Self::declare); a queue does not exist.
    pub async fn purge(&self, amqp_url: &str, tls: TlsFiles) -> Result<u64, QueuesError> {
        let purge = async |operator: &mut Operator<'_, Declaring>| {
            let mut deleted = 0;
            for queue in self.queue_names() {
                let options = QueuePurgeOptions::default();
                let purged = async |channel: Channel| channel.queue_purge(queue.as_str().into(), options).await;
                deleted += u64::from(operator.require(purged).await?);
            }
            Ok(deleted)
        };
        self.with_operator(amqp_url, tls, purge).await
    }

    /// Deletes the queues of a consumer that is not needed any more, with every message that is in them, the bindings, and the exchange that
    /// spreads streams over partitions. The queue of dead letters goes along if it is empty. What does not exist is passed over, so it can be
    /// repeated; the exchange that the relay publishes to stays.
    ///
    /// A consumer that was stopped a moment ago is waited for, up to 5 seconds.
    ///
    /// # Errors
    /// [`QueuesError::Broker`]: a queue is consumed, and nothing was deleted; or the user may not configure the queues, or the broker does not
    /// answer. Then some of them may be deleted.
    pub async fn delete(&self, amqp_url: &str, tls: TlsFiles) -> Result<(), QueuesError> {
        self.with_operator(amqp_url, tls, async |operator| delete::delete(operator, self).await).await
    }

    /// Waits until the queues have no message that no consumer has, as long as it takes.
    pub(crate) async fn wait_for_empty(&self, amqp_url: &str, tls: TlsFiles) -> Result<(), QueuesError> {
        let wait = async |operator: &mut Operator<'_, Declaring>| {
            loop {
                let mut is_empty = true;
                for queue in self.queue_names() {
                    let found = operator.require(async |channel| look(&channel, queue.as_str()).await).await?;
                    is_empty &= found.message_count() == 0;
                }
                if is_empty {
                    return Ok(());
                }
                sleep(LOOK_INTERVAL).await;
            }
        };
        self.with_operator(amqp_url, tls, wait).await
    }

    async fn with_operator<T>(
        &self,
        amqp_url: &str,
        tls: TlsFiles,
        work: impl AsyncFnOnce(&mut Operator<'_, Declaring>) -> Result<T, ConnectionError>,
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
        let done = work(&mut Operator::on(&mut watched, &*purpose)).await;
        watched.close("done").await;
        done.map_err(failed)
    }

    /// As [`declare`](Self::declare), on a connection that is open.
    pub(super) async fn declare_on<P: Purpose>(
        &self,
        watched: &mut WatchedConnection<P>,
        purpose: &P,
    ) -> Result<(), ConnectionError> {
        declare::declare(&mut Operator::on(watched, purpose), &Definition::of(self)).await
    }
}

/// What the broker says of a queue that exists.
async fn look(channel: &Channel, queue: &str) -> lapin::Result<lapin::Queue> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await
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
        super::refusal::meaning(error, &self.endpoint, &self.name)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_number_that_can_not_be_used_is_refused_with_its_value_and_what_is_allowed() {
        let queues = || Queues::new("seats").unwrap();
        for (refused, words) in [
            (Queues::new(""), ["name of the queue = ", "empty"]),
            (Queues::new("amq.seats"), ["amq.seats", "the broker's own"]),
            (Queues::new("n".repeat(201)), ["201 bytes", "allowed are 200"]),
            (queues().exchange(""), ["exchange = ", "empty"]),
            (queues().partitions(0), ["partitions = 0", "1 to 64"]),
            (queues().partitions(65), ["partitions = 65", "1 to 64"]),
            (queues().category("order-1"), ["category = order-1", "has no `-`"]),
            (queues().category("order.#"), ["category = order.#", "no `.`"]),
            (queues().exchange("seats").unwrap().partitions(2), ["partitions = 2", "exchange of this name"]),
            (queues().partitions(2).unwrap().exchange("seats"), ["exchange = seats", "of the queue"]),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(words.iter().all(|words| error.contains(words)), "{words:?}: {error}");
        }
        assert!(queues().exchange("seats").is_ok(), "queues and exchanges have names of their own");
    }
}
