//! One connection with one channel, used by one task.
//!
//! The *batch barrier*: all messages of a batch are written, then every confirm is awaited, and only then is anything
//! concluded. A returned message may be attached to another message's confirm by lapin, but within one channel every
//! return comes before its own confirm; so at the barrier all returns of the batch are known, whoever carries them.
//! For the same reason a batch that breaks off says nothing about any of its messages.

use std::{collections::HashSet, future::Future, time::Duration};

use futures_util::future::try_join_all;
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::timeout;

use super::{BrokerSettings, Message, Unroutable};
use crate::core::{Outcome, Outgoing};

/// The longest to wait for connection, channel and exchange together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that writing one batch may take. A broker that has run out of memory or disk stops reading.
pub const BATCH_WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest to wait for the confirms of one batch.
pub const BATCH_CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

const HEARTBEAT_SECONDS: u16 = 20;

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Amqp(#[from] lapin::Error),
    #[error("{what} took longer than {limit:?}")]
    Slow { what: &'static str, limit: Duration },
    #[error("the broker did not confirm in confirm mode")]
    NotConfirmed,
}

pub(super) struct Session {
    channel: Channel,
    /// Dropping it closes the connection, and with it whatever lapin still holds back.
    _connection: Connection,
}

impl Session {
    pub(super) async fn open(settings: &BrokerSettings) -> Result<Self, Broken> {
        within(CONNECT_TIMEOUT, "connecting", Self::connect(settings)).await?
    }

    async fn connect(settings: &BrokerSettings) -> Result<Self, Broken> {
        let mut uri = settings.uri.clone();
        // The only way to bound the TCP connect itself.
        let timeout_ms = u64::try_from(CONNECT_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout = uri.query.connection_timeout.or(Some(timeout_ms));
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECONDS));
        let properties = ConnectionProperties::default().with_connection_name("streambox-relay".into());
        let connection = Connection::connect_uri(uri, properties).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        if let Some(queue) = &settings.form.queue {
            // A queue that does not exist is noticed before anything is published.
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
            return Ok(Self { channel, _connection: connection });
        }
        channel
            .exchange_declare(settings.exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        Ok(Self { channel, _connection: connection })
    }

    /// Publishes a batch and waits at the barrier. The outcomes are in the order of the batch.
    pub(super) async fn publish(&self, settings: &BrokerSettings, batch: &[Outgoing]) -> Result<Vec<Outcome>, Broken> {
        let messages: Vec<_> =
            batch.iter().map(|outgoing| settings.form.message(&outgoing.stream, &outgoing.event)).collect();

        // All are handed to lapin at once, which then writes them in large pieces. By one task: each future takes its place
        // among the confirms and in the queue of frames in one go, when it is polled first.
        let written = try_join_all(batch.iter().zip(&messages).filter_map(|(outgoing, message)| {
            let message = message.as_ref().ok()?;
            Some(self.channel.basic_publish(
                settings.destination(),
                message.routing_key.clone(),
                BasicPublishOptions { mandatory: true, immediate: false },
                message.body(&outgoing.event),
                message.properties.clone(),
            ))
        }));
        let confirms = within(BATCH_WRITE_TIMEOUT, "writing a batch", written).await??;

        let confirmed = try_join_all(confirms);
        let mut acked = Vec::with_capacity(batch.len());
        let mut returned = HashSet::new();
        for confirmation in within(BATCH_CONFIRM_TIMEOUT, "confirming a batch", confirmed).await?? {
            acked.push(match confirmation {
                Confirmation::Ack(_) => true,
                Confirmation::Nack(_) => false,
                Confirmation::NotRequested => return Err(Broken::NotConfirmed),
            });
            let message = confirmation.take_message();
            returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
        }

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
        Ok(messages.into_iter().map(outcome).collect())
    }
}

async fn within<T>(limit: Duration, what: &'static str, work: impl Future<Output = T>) -> Result<T, Broken> {
    timeout(limit, work).await.map_err(|_| Broken::Slow { what, limit })
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
