//! One connection with one channel, used by one task.
//!
//! The *batch barrier*: all messages of a batch are written, then every confirm is awaited, and only then is anything
//! concluded. A returned message may be attached to another message's confirm by lapin, but within one channel every
//! return comes before its own confirm; so at the barrier all returns of the batch are known, whoever carries them.
//! For the same reason a batch that breaks off says nothing about any of its messages.

use std::{
    collections::HashSet,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    stream::{FuturesUnordered, TryStreamExt as _},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event, ExchangeKind, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{FieldTable, ShortString},
};
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use super::{BrokerSettings, Message, Unpublishable, Unroutable, failure::ConnectionError, link, state::Status};
use crate::core::{Outcome, Outgoing};

/// The heartbeat that is asked for; the URL's parameter `heartbeat` comes first. A peer that is silent for two is gone.
const HEARTBEAT_SECONDS: u16 = 20;

/// How often an idle connection is looked at: of an orderly close by the broker lapin gives no sign.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

const CONFIRMING: &str = "confirming";

/// The longest to wait for the reason of an end that was only met by its consequences. lapin tells it within milliseconds.
const REASON_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct Session<'a> {
    /// First, so that the socket is cut before anything of lapin's is dropped, and can't be used by it any more.
    _guard: link::SocketGuard,
    settings: &'a BrokerSettings,
    channel: Channel,
    health: Health<'a>,
}

/// Whether the connection is alive, and whether the broker takes messages.
struct Health<'a> {
    connection: Arc<Connection>,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    status: &'a Status,
    settings: &'a BrokerSettings,
    is_blocked: bool,
    /// Whether an error of a channel ends the session. It does not while the channel is being opened, where it is an answer
    /// to what was tried, nor where many channels share the connection.
    ends_with_channel: bool,
}

impl<'a> Session<'a> {
    pub(super) async fn open(settings: &'a BrokerSettings, status: &'a Status) -> Result<Self, ConnectionError> {
        let guard = link::SocketGuard::default();
        let limit = settings.connect_timeout();
        let slow = |_| ConnectionError::Slow { what: "connecting", limit };
        let connection = Arc::new(timeout(limit, connect(settings, &guard)).await.map_err(slow)??);
        let events = Box::pin(connection.events_listener());
        let mut health = Health {
            connection: Arc::clone(&connection),
            events,
            status,
            settings,
            is_blocked: false,
            ends_with_channel: false,
        };
        let opening = open_channel(&connection, settings);
        let channel = health.within(settings.timeouts.connect, "opening a channel", opening).await?;
        // What was refused on the way is no news.
        while let Some(Some(_)) = health.events.next().now_or_never() {}
        health.ends_with_channel = true;
        status.connected();
        Ok(Self { _guard: guard, settings, channel, health })
    }

    /// Its connection, for more channels ([`open_more`]). From now on an error of a channel ends nothing else.
    pub(super) fn share(&mut self) -> Arc<Connection> {
        self.health.ends_with_channel = false;
        Arc::clone(&self.health.connection)
    }

    /// Whether the broker has said that it takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.health.is_blocked
    }

    /// Waits until the connection is blocked, unblocked or lost.
    pub(super) async fn changed(&mut self) -> Result<(), ConnectionError> {
        self.health.changed().await
    }

    /// Publishes a batch and waits at the barrier. The outcomes are in the order of the batch.
    pub(super) async fn publish(&mut self, batch: &[Outgoing]) -> Result<Vec<Outcome>, BrokenOffBatch> {
        let (settings, channel) = (self.settings, &self.channel);
        let messages: Vec<_> =
            batch.iter().map(|outgoing| message_of(settings, &self.health.connection, outgoing)).collect();

        // All are handed to lapin at once, which then writes them in large pieces. By one task: each future takes its place
        // among the confirms and in the queue of frames in one go, when it is polled first.
        let failed = |error: lapin::Error| ConnectionError::from_lapin(&error, settings);
        let sendable = batch.iter().zip(&messages).enumerate();
        let mut writing: FuturesUnordered<_> = sendable
            .filter_map(|(place, (outgoing, message))| {
                let message = message.as_ref().ok()?;
                let sent = send(channel, settings, message, outgoing);
                Some(async move { Ok::<_, lapin::Error>((place, sent.await?)) })
            })
            .collect();
        let mut confirms = FuturesUnordered::new();
        let (limit, what) = (settings.timeouts.publish, "writing a message");
        loop {
            // What is there already needs no clock.
            let written = match writing.try_next().now_or_never() {
                Some(written) => written.map_err(failed),
                None => self.health.within(limit, what, async { writing.try_next().await.map_err(failed) }).await,
            };
            match written {
                Ok(Some((place, confirm))) => confirms.push(async move { Ok((place, confirm.await?)) }),
                Ok(None) => break,
                Err(error) => return Err(BrokenOffBatch::of(error, &mut confirms, false)),
            }
        }

        let mut acked = vec![None; batch.len()];
        let mut returned = HashSet::new();
        let limit = settings.timeouts.confirm;
        loop {
            let confirmed = match confirms.try_next().now_or_never() {
                Some(confirmed) => confirmed.map_err(failed),
                None => {
                    self.health.within(limit, CONFIRMING, async { confirms.try_next().await.map_err(failed) }).await
                }
            };
            let (place, confirmation) = match confirmed {
                Ok(Some(confirmed)) => confirmed,
                Ok(None) => break,
                Err(error) => {
                    let any_confirmed = acked.iter().any(Option::is_some);
                    return Err(BrokenOffBatch::of(error, &mut confirms, any_confirmed));
                }
            };
            acked[place] = Some(match confirmation {
                Confirmation::Ack(_) => true,
                Confirmation::Nack(_) => false,
                Confirmation::NotRequested => return Err(ConnectionError::NotConfirmed.into()),
            });
            let message = confirmation.take_message();
            returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
        }
        drop(writing);
        let (sent_back, routing_key) = accepted_unroutable(settings, &messages, &returned);
        let outcome = |(message, acked)| match message {
            Ok(message) => judge(settings, &message, acked == Some(true), &returned),
            Err(unpublishable) => refused(&unpublishable),
        };
        let outcomes: Vec<_> = messages.into_iter().zip(acked).map(outcome).collect();
        let confirmed = outcomes.iter().filter(|outcome| **outcome == Outcome::Confirmed).count();
        self.health.status.confirmed(confirmed, sent_back, &routing_key, settings.exchange.as_str());
        Ok(outcomes)
    }

    /// Says goodbye. A broker that does not listen is not waited for.
    pub(super) async fn close(self) {
        if !self.is_blocked() {
            let closed = self.health.connection.close(200, "the relay is done".into());
            // Either way the socket is cut then.
            let _ = timeout(self.settings.timeouts.close, closed).await;
        }
    }
}

/// A batch that broke off: it says nothing about any of its messages.
pub(super) struct BrokenOffBatch {
    pub(super) error: ConnectionError,
    /// Whether some of its messages were confirmed before: whoever ended it was there.
    pub(super) any_confirmed: bool,
}

impl BrokenOffBatch {
    fn of<C>(error: ConnectionError, confirms: &mut FuturesUnordered<C>, any_confirmed: bool) -> Self
    where
        C: Future<Output = Result<(usize, Confirmation), lapin::Error>>,
    {
        let any_confirmed = any_confirmed || {
            let mut ready = std::iter::from_fn(|| confirms.next().now_or_never().flatten());
            ready.any(|confirmed| matches!(confirmed, Ok((_, Confirmation::Ack(_) | Confirmation::Nack(_)))))
        };
        Self { error, any_confirmed }
    }
}

impl From<ConnectionError> for BrokenOffBatch {
    fn from(error: ConnectionError) -> Self {
        Self { error, any_confirmed: false }
    }
}

impl Health<'_> {
    async fn changed(&mut self) -> Result<(), ConnectionError> {
        let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.next() => event.ok_or(ConnectionError::Closed)?,
                _ = look.tick() => {
                    let status = self.connection.status();
                    if !status.connected() {
                        return Err(ConnectionError::Closed);
                    }
                    // It was said before anybody listened.
                    if status.blocked() != self.is_blocked {
                        self.turn("the broker's reason was missed".to_owned());
                        return Ok(());
                    }
                    continue;
                }
            };
            match event {
                Event::ConnectionBlocked(reason) if !self.is_blocked => {
                    self.turn(reason);
                    return Ok(());
                }
                Event::ConnectionUnblocked if self.is_blocked => {
                    self.turn(String::new());
                    return Ok(());
                }
                Event::Error(error) if self.ends_with_channel || !error.is_amqp_soft_error() => {
                    return Err(ConnectionError::from_lapin(&error, self.settings));
                }
                _ => {}
            }
        }
    }

    fn turn(&mut self, reason: String) {
        self.is_blocked = !self.is_blocked;
        if self.is_blocked {
            tracing::warn!(reason, "the broker takes no messages (an alarm of memory or disk); it is waited for");
            self.status.blocked(reason);
        } else {
            tracing::info!("the broker takes messages again");
            self.status.unblocked();
        }
    }

    /// Does `work` within `limit`. While the broker is blocked the time stands still: a new connection would be blocked as
    /// well.
    async fn within<T>(
        &mut self,
        limit: Duration,
        what: &'static str,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let mut work = pin!(work);
        let mut deadline = Instant::now() + limit;
        loop {
            tokio::select! {
                biased;
                done = &mut work => match done {
                    Err(met @ ConnectionError::ClosedBefore(_)) => return Err(reason(&mut self.events, met, self.settings).await),
                    done => return done,
                },
                changed = self.changed() => {
                    changed?;
                    deadline = Instant::now() + limit;
                }
                () = sleep_until(deadline), if !self.is_blocked => return Err(slow(what, limit)),
            }
        }
    }
}

fn slow(what: &'static str, limit: Duration) -> ConnectionError {
    if what == CONFIRMING { ConnectionError::Unconfirmed { limit } } else { ConnectionError::Slow { what, limit } }
}

/// Why the connection has ended, where lapin tells it; else what was met.
async fn reason(
    events: &mut (impl Stream<Item = Event> + Unpin),
    met: ConnectionError,
    settings: &BrokerSettings,
) -> ConnectionError {
    let error = |event| async { if let Event::Error(error) = event { Some(error) } else { None } };
    let mut errors = pin!(events.filter_map(error));
    match timeout(REASON_TIMEOUT, errors.next()).await {
        Ok(Some(error)) => ConnectionError::from_lapin(&error, settings),
        Ok(None) | Err(_) => met,
    }
}

async fn connect(settings: &BrokerSettings, guard: &link::SocketGuard) -> Result<Connection, ConnectionError> {
    let mut uri = settings.uri.clone();
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECONDS));
    let properties = ConnectionProperties::default().with_connection_name("streambox-relay".into());
    let connected = link::connect(uri, properties, settings.tls.clone(), guard, settings.connect_timeout());
    connected.await.map_err(|error| ConnectionError::from_lapin(&error, settings))
}

/// Opens another channel of a connection, for publishing.
pub(super) async fn open_more(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// The message of an event, if this connection can carry it.
pub(super) fn message_of(
    settings: &BrokerSettings,
    connection: &Connection,
    outgoing: &Outgoing,
) -> Result<Message, Unpublishable> {
    let message = settings.form.message(&outgoing.stream, &outgoing.event)?;
    let bytes = message.header_frame_bytes();
    match usize::try_from(connection.configuration().frame_max()).unwrap_or(usize::MAX) {
        // No limit.
        0 => Ok(message),
        limit if bytes > limit => Err(Unpublishable::HeadersTooLong { bytes, limit }),
        _ => Ok(message),
    }
}

/// Sends a message; its confirm is awaited separately.
pub(super) async fn send(
    channel: &Channel,
    settings: &BrokerSettings,
    message: &Message,
    outgoing: &Outgoing,
) -> lapin::Result<PublisherConfirm> {
    let publishing = channel.basic_publish(
        settings.destination(),
        message.routing_key.clone(),
        BasicPublishOptions { mandatory: true, immediate: false },
        message.body(&outgoing.event),
        message.properties.clone(),
    );
    publishing.await
}

async fn open_channel(connection: &Connection, settings: &BrokerSettings) -> Result<Channel, ConnectionError> {
    let failed = |error: &lapin::Error| ConnectionError::from_lapin(error, settings);
    let exchange = &settings.exchange;
    if let Some(queue) = &settings.form.queue {
        return open_channel_for_queue(connection, queue).await.map_err(|error| failed(&error));
    }
    let mut channel = connection.create_channel().await.map_err(|error| failed(&error))?;
    if let Err(refused) = declare(&channel, exchange, false).await {
        // An error has closed the channel. It is enough that the exchange exists, where the user may not configure it, and
        // where it has arguments of its owner's: an alternate exchange, for instance.
        let has_arguments = has_other_arguments(&refused);
        if !is_access_refused(&refused) && !has_arguments {
            return Err(failed(&refused));
        }
        channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        if !has_arguments && declare(&channel, exchange, true).await.is_err() {
            // From 4.3 on RabbitMQ tells even that only to who may configure it.
            let probe = connection.create_channel().await.map_err(|error| failed(&error))?;
            probe_exchange(&probe, exchange).await.map_err(|_| failed(&refused))?;
            channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        }
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| failed(&error))?;
    Ok(channel)
}

/// Past any exchange. A queue that does not exist is noticed before anything is published.
async fn open_channel_for_queue(connection: &Connection, queue: &ShortString) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn declare(channel: &Channel, exchange: &ShortString, passive: bool) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// Asks whether an exchange exists and may be written to: the broker looks when a transaction publishes, and delivers nothing
/// before it is committed, which this one never is.
async fn probe_exchange(channel: &Channel, exchange: &ShortString) -> lapin::Result<()> {
    channel.tx_select().await?;
    let (key, options) = (ShortString::default(), BasicPublishOptions::default());
    channel.basic_publish(exchange.clone(), key, options, &[], BasicProperties::default()).await?;
    channel.tx_rollback().await?;
    channel.close(200, "done".into()).await
}

/// Whether an exchange is what is needed, but for arguments. RabbitMQ compares these last, and names the first difference.
fn has_other_arguments(error: &lapin::Error) -> bool {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { return false };
    let said = error.get_message().as_str();
    let is_inequivalent = matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
        && said.contains("inequivalent arg '");
    let of_the_exchange = ["type", "durable", "auto_delete", "internal"];
    is_inequivalent && !of_the_exchange.iter().any(|name| said.contains(&format!("inequivalent arg '{name}'")))
}

fn is_access_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)))
}

/// What the barrier says of a message.
pub(super) fn judge(
    settings: &BrokerSettings,
    message: &Message,
    is_acked: bool,
    returned: &HashSet<ShortString>,
) -> Outcome {
    if !is_acked {
        return Outcome::Refused(
            "the broker refused the message (nack): look at its queues' limits and log".to_owned(),
        );
    }
    let id = message.properties.message_id().as_ref();
    judge_routing(settings, message, id.is_some_and(|id| returned.contains(id)))
}

/// What no message can carry is not sent.
pub(super) fn refused(why: &Unpublishable) -> Outcome {
    Outcome::Refused(why.to_string())
}

/// How many messages no queue takes that count as published all the same, and the routing key of one of them.
fn accepted_unroutable(
    settings: &BrokerSettings,
    messages: &[Result<Message, Unpublishable>],
    returned: &HashSet<ShortString>,
) -> (usize, String) {
    if settings.unroutable != Unroutable::Accept || settings.form.queue.is_some() {
        return (0, String::new());
    }
    let is_returned =
        |message: &&Message| message.properties.message_id().as_ref().is_some_and(|id| returned.contains(id));
    let mut sent_back = messages.iter().flatten().filter(is_returned);
    let first = sent_back.next().map(|message| message.routing_key.to_string());
    (usize::from(first.is_some()) + sent_back.count(), first.unwrap_or_default())
}

fn judge_routing(settings: &BrokerSettings, message: &Message, is_returned: bool) -> Outcome {
    match settings.unroutable {
        _ if is_returned && settings.form.queue.is_some() => {
            Outcome::Refused(format!("there is no queue {:?}", message.routing_key.as_str()))
        }
        Unroutable::Halt if is_returned => Outcome::Refused(format!(
            "no queue takes routing key {:?} of exchange {:?}: bind one, or run with --unroutable accept",
            message.routing_key.as_str(),
            settings.exchange.as_str(),
        )),
        _ => Outcome::Confirmed,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use lapin::{
        ChannelState, ErrorKind,
        protocol::{AMQPError, AMQPHardError},
    };

    use super::*;

    /// What a publish meets on a channel whose connection the broker has just closed.
    fn met(settings: &BrokerSettings) -> ConnectionError {
        let met = ErrorKind::InvalidChannelState(ChannelState::Closing, "basic.publish");
        ConnectionError::from_lapin(&met.into(), settings)
    }

    fn settings() -> BrokerSettings {
        BrokerSettings::new("amqp://user:secret@host".parse().expect("a valid URL"), "events".into())
    }

    #[tokio::test]
    async fn the_brokers_words_stand_for_an_end_that_was_met_by_its_consequence() {
        let settings = settings();
        let forced = AMQPError::new(AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED), "maintenance".into());
        let error = ErrorKind::ProtocolError(forced).into();
        let mut events = stream::iter([Event::Connected, Event::Error(error)]).chain(stream::pending());
        assert!(matches!(met(&settings), ConnectionError::ClosedBefore(_)));
        let told = reason(&mut events, met(&settings), &settings).await.to_string();
        assert_eq!(told, "the broker at host:5672 says: maintenance");
    }

    #[tokio::test]
    async fn where_no_reason_is_told_the_consequence_is() {
        let settings = settings();
        for mut events in [stream::pending().boxed(), stream::empty().boxed()] {
            let told = reason(&mut events, met(&settings), &settings).await.to_string();
            assert!(told.starts_with("the connection to host:5672 has been closed"), "{told}");
        }
    }
}
