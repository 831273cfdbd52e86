//! One connection with one channel, on which all of a consumer's queues are consumed.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use fastrand::Rng;
use futures_util::{StreamExt as _, future::try_join_all, stream::SelectAll};
use lapin::{
    Channel, Connection,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    protocol::AMQPError,
    types::{AMQPValue, FieldTable, ShortString},
};
use streambox::message::{HeaderValue, MessageError, Properties, Received};
use streambox_amqp::{ConnectionError, Endpoint, Purpose, Status, WatchedConnection};

use super::{Queues, refusal::meaning};

/// A quorum queue of RabbitMQ 4 makes the consumer active that has the highest priority there. Each process draws its own for each
/// partition, and so each becomes active at about as many as the others. Former versions take whoever came first.
const PRIORITIES: RangeInclusive<i32> = 0..=999;

/// Where and what to consume.
#[derive(Clone)]
pub struct ConsumeSettings {
    /// The broker.
    pub endpoint: Endpoint,
    /// The queues.
    pub queues: Queues,
    /// Messages that the broker sends ahead of their acknowledgement, of all queues together.
    pub prefetch: u16,
    /// Whether the queues are declared, or have to exist.
    pub declares: bool,
    /// Of this consumer, drawn by lot: from it follow its priorities at the partitions.
    pub seed: u64,
}

impl fmt::Debug for ConsumeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password, which the endpoint leaves out.
        f.debug_struct("ConsumeSettings")
            .field("endpoint", &self.endpoint)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl Purpose for ConsumeSettings {
    type Counts = ();

    const OWNER: &'static str = "the consumer";

    const CONNECTION_NAME: &'static str = "streambox-consumer";

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn meaning(&self, error: &AMQPError) -> Option<ConnectionError> {
        meaning(error, &self.endpoint, self.queues.name())
    }
}

/// A message as it was delivered.
#[derive(Debug)]
pub struct Delivery {
    /// By which it is acknowledged on the session that has delivered it.
    pub tag: u64,
    /// The event, or why the message is none.
    pub message: Result<Received, MessageError>,
}

/// One connection that consumes.
pub struct Session {
    /// First, so that the socket is cut before anything of lapin's is dropped: a consumer that is dropped is cancelled, and RabbitMQ would put
    /// what is unacknowledged behind the rest.
    watched: WatchedConnection<ConsumeSettings>,
    settings: Arc<ConsumeSettings>,
    channel: Channel,
    consumers: SelectAll<lapin::Consumer>,
    queues: usize,
    /// The prefetch of each queue.
    share: u16,
}

impl Session {
    /// Connects, declares the queues if that is wanted, and begins to consume them.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn open(settings: Arc<ConsumeSettings>, status: Arc<Status<()>>) -> Result<Self, ConnectionError> {
        let mut watched = WatchedConnection::open(Arc::clone(&settings), status).await?;
        let connection = Arc::clone(&watched.connection);
        if settings.declares {
            settings.queues.declare_on(&mut watched, &*settings).await?;
        }
        let opening = async {
            consume(&connection, &settings).await.map_err(|error| ConnectionError::from_lapin(&error, &*settings))
        };
        let (channel, consumers, share) = watched.within_connect_timeout("opening a channel", opening).await?;
        watched.opened();
        let queues = consumers.len();
        Ok(Self { watched, settings, channel, consumers, queues, share })
    }

    /// The next message. It can be dropped at any time.
    ///
    /// # Errors
    /// Why the session has ended. What was not acknowledged comes again in the next one, in order.
    pub async fn next(&mut self) -> Result<Delivery, ConnectionError> {
        loop {
            if self.consumers.len() < self.queues {
                let ended = format!(
                    "the broker has ended a consumer of {:?}: was its queue deleted?",
                    self.settings.queues.name()
                );
                return Err(self.watched.reason_or(ConnectionError::Failed(ended)).await);
            }
            let delivered = tokio::select! {
                biased;
                changed = self.watched.changed() => {
                    // A broker that takes no messages goes on delivering them.
                    changed?;
                    continue;
                }
                delivered = self.consumers.next() => delivered,
            };
            match delivered {
                Some(Ok(message)) => return Ok(Delivery { tag: message.delivery_tag, message: received(&message) }),
                Some(Err(error)) => {
                    let met = ConnectionError::from_lapin(&error, &*self.settings);
                    return Err(self.watched.reason_or(met).await);
                }
                // Noticed above.
                None => self.queues = self.queues.max(1),
            }
        }
    }

    /// Messages are done with.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn ack(&mut self, tags: impl IntoIterator<Item = u64>) -> Result<(), ConnectionError> {
        // They are written together. Each one alone would wait until lapin's own thread has written it.
        let acks = tags.into_iter().map(|tag| self.channel.basic_ack(tag, BasicAckOptions::default()));
        let done = try_join_all(acks).await;
        done.map(|_| ()).map_err(|error| ConnectionError::from_lapin(&error, &*self.settings))
    }

    /// A message goes to the dead letters.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn reject(&mut self, tag: u64) -> Result<(), ConnectionError> {
        let done = self.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await;
        done.map_err(|error| ConnectionError::from_lapin(&error, &*self.settings))
    }

    /// Afterwards everything has come that the broker had given to this session before: [`next`](Self::next) returns it without waiting.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn let_come(&mut self) -> Result<(), ConnectionError> {
        // It changes nothing, and its answer stands behind the deliveries.
        let asked = self.channel.basic_qos(self.share, BasicQosOptions::default());
        asked.await.map_err(|error| ConnectionError::from_lapin(&error, &*self.settings))
    }

    /// Closes the connection in an orderly way: every message that is not acknowledged is returned to its place.
    pub async fn close(self) {
        self.watched.close("the consumer is done").await;
    }
}

async fn consume(
    connection: &Connection,
    settings: &ConsumeSettings,
) -> lapin::Result<(Channel, SelectAll<lapin::Consumer>, u16)> {
    let channel = connection.create_channel().await?;
    let (mut consumers, queues) = (SelectAll::new(), settings.queues.queue_names());
    // For each consumer: quorum queues know no other.
    let share = (settings.prefetch / u16::try_from(queues.len()).unwrap_or(u16::MAX)).max(1);
    channel.basic_qos(share, BasicQosOptions::default()).await?;
    let (are_partitions, mut priorities) = (queues.len() > 1, Rng::with_seed(settings.seed));
    for queue in queues {
        let mut arguments = FieldTable::default();
        if are_partitions {
            arguments.insert("x-priority".into(), AMQPValue::LongInt(priorities.i32(PRIORITIES)));
        }
        let (queue, tag) = (queue.as_str().into(), ShortString::default());
        consumers.push(channel.basic_consume(queue, tag, BasicConsumeOptions::default(), arguments).await?);
    }
    Ok((channel, consumers, share))
}

/// A message's event.
fn received(message: &Message) -> Result<Received, MessageError> {
    let from = &message.properties;
    let properties = Properties {
        message_id: from.message_id().as_ref().map(ShortString::as_str),
        event_type: from.kind().as_ref().map(ShortString::as_str),
        content_type: from.content_type().as_ref().map(ShortString::as_str),
    };
    let headers = from.headers().iter().flat_map(FieldTable::inner).filter_map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok()?.into(),
            AMQPValue::LongLongInt(number) => HeaderValue::from(*number),
            _ => return None,
        };
        Some((name.as_str(), value))
    });
    Received::from_parts(properties, headers, &message.data)
}
