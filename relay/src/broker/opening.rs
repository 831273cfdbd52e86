//! Opens a channel that can publish.

use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{FieldTable, ShortString},
};
use streambox_amqp::ConnectionError;

use super::BrokerSettings;

/// Opens a channel that confirms what is published on it.
pub(super) async fn open_for_confirms(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Opens the channel for batches. Declares the exchange; a queue has to exist.
pub(super) async fn open_channel(
    connection: &Connection,
    settings: &BrokerSettings,
) -> Result<Channel, ConnectionError> {
    let failed = |error: &lapin::Error| ConnectionError::from_lapin(error, settings);
    let exchange = &settings.exchange;
    if let Some(queue) = &settings.form.queue {
        return open_channel_for_queue(connection, queue).await.map_err(|error| failed(&error));
    }
    let mut channel = connection.create_channel().await.map_err(|error| failed(&error))?;
    if let Err(refused) = declare(&channel, exchange, false).await {
        // An error has closed the channel. An exchange that exists is enough if the user may not configure it, or if its owner
        // gave it arguments: an alternate exchange, for instance.
        let has_arguments = has_other_arguments(&refused);
        if !is_access_refused(&refused) && !has_arguments {
            return Err(failed(&refused));
        }
        channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        if !has_arguments && declare(&channel, exchange, true).await.is_err() {
            // RabbitMQ 4.3 and later hide exchanges that the user may not configure.
            let probe = connection.create_channel().await.map_err(|error| failed(&error))?;
            probe_exchange(&probe, exchange).await.map_err(|_| failed(&refused))?;
            channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        }
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| failed(&error))?;
    Ok(channel)
}

/// For a queue without an exchange. A queue that does not exist is noticed before anything is published.
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

/// Checks whether an exchange exists and may be written to, by a publish inside a transaction that is rolled back: the broker
/// checks at the publish, and delivers nothing before a commit.
async fn probe_exchange(channel: &Channel, exchange: &ShortString) -> lapin::Result<()> {
    channel.tx_select().await?;
    let (key, options) = (ShortString::default(), BasicPublishOptions::default());
    channel.basic_publish(exchange.clone(), key, options, &[], BasicProperties::default()).await?;
    channel.tx_rollback().await?;
    channel.close(200, "done".into()).await
}

/// Whether an exchange differs from the required one in its arguments only. RabbitMQ compares these last, and names the first
/// difference.
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
