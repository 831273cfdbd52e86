//! One connection with one channel, used by one task.
//!
//! The *batch barrier*: all messages of a batch are written, then every confirm is awaited, and only then is anything
//! concluded. A returned message may be attached to another message's confirm by lapin, but within one channel every
//! return comes before its own confirm; so at the barrier all returns of the batch are known, whoever carries them.
//! For the same reason a batch that breaks off says nothing about any of its messages.

use std::{collections::HashSet, future::Future, sync::Arc};

use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{FuturesUnordered, TryStreamExt as _},
};
use lapin::{Channel, Confirmation, Connection, PublisherConfirm, options::BasicPublishOptions, types::ShortString};
use streambox_amqp::{CONFIRMING, ConnectionError, Status, WatchedConnection};

use super::{
    BrokerSettings, Message, Unpublishable, Unroutable,
    opening::open_channel,
    state::{Unroutables, count_confirmed},
};
use crate::core::{Outcome, Outgoing};

pub(super) struct Session {
    /// First, so that the socket is cut before anything of lapin's is dropped.
    watched: WatchedConnection<BrokerSettings>,
    settings: Arc<BrokerSettings>,
    channel: Channel,
}

impl Session {
    pub(super) async fn open(
        settings: Arc<BrokerSettings>,
        status: Arc<Status<Unroutables>>,
    ) -> Result<Self, ConnectionError> {
        let mut watched = WatchedConnection::open(Arc::clone(&settings), status).await?;
        let connection = Arc::clone(&watched.connection);
        let opening = open_channel(&connection, &settings);
        let channel = watched.within_connect_timeout("opening a channel", opening).await?;
        watched.opened();
        Ok(Self { watched, settings, channel })
    }

    /// Its connection, for more channels ([`open_for_confirms`](super::opening::open_for_confirms)). From now on an error of a channel ends nothing else.
    pub(super) fn share(&mut self) -> Arc<Connection> {
        self.watched.share()
    }

    /// Whether the broker has said that it takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.watched.is_blocked()
    }

    /// Waits until the connection is blocked, unblocked or lost.
    pub(super) async fn changed(&mut self) -> Result<(), ConnectionError> {
        self.watched.changed().await
    }

    /// Publishes a batch and waits at the barrier. The outcomes are in the order of the batch.
    pub(super) async fn publish(&mut self, batch: &[Outgoing]) -> Result<Vec<Outcome>, BrokenOffBatch> {
        let (settings, channel) = (&*self.settings, &self.channel);
        let messages: Vec<_> =
            batch.iter().map(|outgoing| message_of(settings, &self.watched.connection, outgoing)).collect();

        // All are handed to lapin at once, which then writes them in large pieces. One task does it: at its first poll each
        // future enters both lapin's confirms and its queue of frames.
        let failed = |error: lapin::Error| ConnectionError::from_lapin(&error, settings);
        let sendable = batch.iter().zip(&messages).enumerate();
        let mut writing: FuturesUnordered<_> = sendable
            .filter_map(|(index, (outgoing, message))| {
                let message = message.as_ref().ok()?;
                let sent = send(channel, settings, message, outgoing);
                Some(async move { Ok::<_, lapin::Error>((index, sent.await?)) })
            })
            .collect();
        let mut confirms = FuturesUnordered::new();
        let (limit, what) = (settings.timeouts.publish, "writing a message");
        loop {
            // A result that is already there needs no timer.
            let written = match writing.try_next().now_or_never() {
                Some(written) => written.map_err(failed),
                None => self.watched.within(limit, what, async { writing.try_next().await.map_err(failed) }).await,
            };
            match written {
                Ok(Some((index, confirm))) => confirms.push(async move { Ok((index, confirm.await?)) }),
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
                    self.watched.within(limit, CONFIRMING, async { confirms.try_next().await.map_err(failed) }).await
                }
            };
            let (index, confirmation) = match confirmed {
                Ok(Some(confirmed)) => confirmed,
                Ok(None) => break,
                Err(error) => {
                    let any_confirmed = acked.iter().any(Option::is_some);
                    return Err(BrokenOffBatch::of(error, &mut confirms, any_confirmed));
                }
            };
            acked[index] = Some(match confirmation {
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
        count_confirmed(&self.watched.status, confirmed, sent_back, &routing_key, settings.exchange.as_str());
        Ok(outcomes)
    }

    /// Closes the connection in an orderly way, unless the broker is blocked.
    pub(super) async fn close(self) {
        self.watched.close("the relay is done").await;
    }
}

/// A batch that broke off: it says nothing about any of its messages.
pub(super) struct BrokenOffBatch {
    pub(super) error: ConnectionError,
    /// Whether some of its messages were confirmed before: the broker was working.
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

/// The outcome of a message at the barrier.
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

/// An event that no message can carry is not sent.
pub(super) fn refused(why: &Unpublishable) -> Outcome {
    Outcome::Refused(why.to_string())
}

/// How many messages that no queue takes count as published, and the routing key of one of them.
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
