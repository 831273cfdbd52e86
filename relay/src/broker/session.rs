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

use futures_util::{FutureExt as _, Stream, StreamExt as _, TryFutureExt as _, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{FieldTable, ShortString},
};
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use super::{BrokerSettings, Message, Unroutable, failure::Broken, link, state::Status};
use crate::core::{Outcome, Outgoing};

/// The heartbeat that is asked for; the URL's parameter `heartbeat` comes first. A peer that is silent for two is gone.
const HEARTBEAT_SECONDS: u16 = 20;

/// How often an idle connection is looked at: of an orderly close by the broker lapin gives no sign.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The longest to wait for the reason of an end that was only met by its consequences. lapin tells it within milliseconds.
const REASON_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct Session<'a> {
    /// First, so that the socket is cut before anything of lapin's is dropped, and can't be used by it any more.
    _plug: link::Plug,
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
    /// Whether the channel is open for publishing. Before, an error of a channel is an answer to what was tried.
    is_open: bool,
}

impl<'a> Session<'a> {
    pub(super) async fn open(settings: &'a BrokerSettings, status: &'a Status) -> Result<Self, Broken> {
        let plug = link::Plug::default();
        let limit = settings.connect_timeout();
        let slow = |_| Broken::Slow { what: "connecting", limit };
        let connection = Arc::new(timeout(limit, connect(settings, &plug)).await.map_err(slow)??);
        let events = Box::pin(connection.events_listener());
        let mut health =
            Health { connection: Arc::clone(&connection), events, status, settings, is_blocked: false, is_open: false };
        let opening = open_channel(&connection, settings);
        let channel = health.within(settings.timeouts.channel, "opening a channel", opening).await?;
        // What was refused on the way is no news.
        while let Some(Some(_)) = health.events.next().now_or_never() {}
        health.is_open = true;
        status.connected();
        Ok(Self { _plug: plug, settings, channel, health })
    }

    /// Whether the broker has said that it takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.health.is_blocked
    }

    /// Waits until the connection is blocked, unblocked or broken.
    pub(super) async fn changed(&mut self) -> Result<(), Broken> {
        self.health.changed().await
    }

    /// Publishes a batch and waits at the barrier. The outcomes are in the order of the batch.
    pub(super) async fn publish(&mut self, batch: &[Outgoing]) -> Result<Vec<Outcome>, Broken> {
        let (settings, channel) = (self.settings, &self.channel);
        let messages: Vec<_> =
            batch.iter().map(|outgoing| settings.form.message(&outgoing.stream, &outgoing.event)).collect();

        // All are handed to lapin at once, which then writes them in large pieces. By one task: each future takes its place
        // among the confirms and in the queue of frames in one go, when it is polled first.
        let written = try_join_all(batch.iter().zip(&messages).filter_map(|(outgoing, message)| {
            let message = message.as_ref().ok()?;
            Some(channel.basic_publish(
                settings.destination(),
                message.routing_key.clone(),
                BasicPublishOptions { mandatory: true, immediate: false },
                message.body(&outgoing.event),
                message.properties.clone(),
            ))
        }));
        let broken = |error: lapin::Error| Broken::from_lapin(&error, settings);
        let written = written.map_err(broken);
        let confirms = self.health.within(settings.timeouts.publish, "writing a batch", written).await?;

        let confirmed = try_join_all(confirms).map_err(broken);
        let mut acked = Vec::with_capacity(batch.len());
        let mut returned = HashSet::new();
        for confirmation in self.health.within(settings.timeouts.confirm, "confirming a batch", confirmed).await? {
            acked.push(match confirmation {
                Confirmation::Ack(_) => true,
                Confirmation::Nack(_) => false,
                Confirmation::NotRequested => return Err(Broken::NotConfirmed),
            });
            let message = confirmation.take_message();
            returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
        }
        let sent_back = accepted_unroutable(settings, &messages, &returned);
        let routing_key = sent_back.first().map_or(String::new(), ToString::to_string);
        let unroutable = sent_back.len();
        let outcomes = judge(settings, messages, acked, &returned);
        let confirmed = outcomes.iter().filter(|outcome| **outcome == Outcome::Confirmed).count();
        self.health.status.confirmed(confirmed, unroutable, &routing_key, settings.exchange.as_str());
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

impl Health<'_> {
    async fn changed(&mut self) -> Result<(), Broken> {
        let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.next() => event.ok_or(Broken::Closed)?,
                _ = look.tick() => {
                    let status = self.connection.status();
                    if !status.connected() {
                        return Err(Broken::Closed);
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
                Event::Error(error) if self.is_open || !error.is_amqp_soft_error() => {
                    return Err(Broken::from_lapin(&error, self.settings));
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
        work: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, Broken> {
        let mut work = pin!(work);
        let mut deadline = Instant::now() + limit;
        loop {
            tokio::select! {
                biased;
                done = &mut work => match done {
                    Err(met @ Broken::ClosedBefore(_)) => return Err(reason(&mut self.events, met, self.settings).await),
                    done => return done,
                },
                changed = self.changed() => {
                    changed?;
                    deadline = Instant::now() + limit;
                }
                () = sleep_until(deadline), if !self.is_blocked => return Err(Broken::Slow { what, limit }),
            }
        }
    }
}

/// Why the connection has ended, where lapin tells it; else what was met.
async fn reason(events: &mut (impl Stream<Item = Event> + Unpin), met: Broken, settings: &BrokerSettings) -> Broken {
    let error = |event| async { if let Event::Error(error) = event { Some(error) } else { None } };
    let mut errors = pin!(events.filter_map(error));
    match timeout(REASON_TIMEOUT, errors.next()).await {
        Ok(Some(error)) => Broken::from_lapin(&error, settings),
        Ok(None) | Err(_) => met,
    }
}

async fn connect(settings: &BrokerSettings, plug: &link::Plug) -> Result<Connection, Broken> {
    let mut uri = settings.uri.clone();
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECONDS));
    let properties = ConnectionProperties::default().with_connection_name("streambox-relay".into());
    let connected = link::connect(uri, properties, settings.tls.clone(), plug, settings.connect_timeout());
    connected.await.map_err(|error| Broken::from_lapin(&error, settings))
}

async fn open_channel(connection: &Connection, settings: &BrokerSettings) -> Result<Channel, Broken> {
    let broken = |error: &lapin::Error| Broken::from_lapin(error, settings);
    let exchange = &settings.exchange;
    if let Some(queue) = &settings.form.queue {
        return open_channel_for_queue(connection, queue).await.map_err(|error| broken(&error));
    }
    let mut channel = connection.create_channel().await.map_err(|error| broken(&error))?;
    if let Err(refused) = declare(&channel, exchange, false).await {
        // Where the user may not configure the exchange, it is enough that it exists. An error has closed the channel.
        if !is_access_refused(&refused) {
            return Err(broken(&refused));
        }
        channel = connection.create_channel().await.map_err(|error| broken(&error))?;
        if declare(&channel, exchange, true).await.is_err() {
            // From 4.3 on RabbitMQ tells even that only to who may configure it.
            let probe = connection.create_channel().await.map_err(|error| broken(&error))?;
            take_back_a_message(&probe, exchange).await.map_err(|_| broken(&refused))?;
            channel = connection.create_channel().await.map_err(|error| broken(&error))?;
        }
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| broken(&error))?;
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
async fn take_back_a_message(channel: &Channel, exchange: &ShortString) -> lapin::Result<()> {
    channel.tx_select().await?;
    let (key, options) = (ShortString::default(), BasicPublishOptions::default());
    channel.basic_publish(exchange.clone(), key, options, &[], BasicProperties::default()).await?;
    channel.tx_rollback().await?;
    channel.close(200, "done".into()).await
}

fn is_access_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)))
}

/// What the barrier says of each message.
fn judge(
    settings: &BrokerSettings,
    messages: Vec<Result<Message, super::Unpublishable>>,
    acked: Vec<bool>,
    returned: &HashSet<ShortString>,
) -> Vec<Outcome> {
    let mut acked = acked.into_iter();
    let outcome = |message: Result<Message, _>| match message {
        Err(unpublishable) => Outcome::Refused(format!("{unpublishable}")),
        Ok(_) if acked.next() != Some(true) => {
            Outcome::Refused("the broker refused the message (nack): look at its queues' limits and log".to_owned())
        }
        Ok(message) => {
            let id = message.properties.message_id().as_ref();
            let is_returned = id.is_some_and(|id| returned.contains(id));
            judge_routing(settings, &message, is_returned)
        }
    };
    messages.into_iter().map(outcome).collect()
}

/// The routing keys of those that no queue takes and that count as published all the same.
fn accepted_unroutable<'a>(
    settings: &BrokerSettings,
    messages: &'a [Result<Message, super::Unpublishable>],
    returned: &HashSet<ShortString>,
) -> Vec<&'a ShortString> {
    if settings.unroutable != Unroutable::Accept || settings.form.queue.is_some() {
        return Vec::new();
    }
    let is_returned =
        |message: &&Message| message.properties.message_id().as_ref().is_some_and(|id| returned.contains(id));
    messages.iter().flatten().filter(is_returned).map(|message| &message.routing_key).collect()
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
    fn met(settings: &BrokerSettings) -> Broken {
        let met = ErrorKind::InvalidChannelState(ChannelState::Closing, "basic.publish");
        Broken::from_lapin(&met.into(), settings)
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
        assert!(matches!(met(&settings), Broken::ClosedBefore(_)));
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
