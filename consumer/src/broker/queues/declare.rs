//! Declares queues, exchanges and bindings.

use lapin::{
    Channel,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPError, AMQPSoftError},
    types::{FieldTable, ShortString},
};
use streambox_amqp::{ConnectionError, Purpose};

use super::{
    definition::{Binding, Definition, Exchange, Queue},
    operator::{Operator, is},
};

pub(super) async fn declare<P: Purpose>(
    operator: &mut Operator<'_, P>,
    definition: &Definition,
) -> Result<(), ConnectionError> {
    refuse_other_partitions(operator, definition).await?;
    for queue in &definition.queues {
        operator.require(async |channel| declare_queue(&channel, queue).await).await?;
    }
    if let Some(exchange) = &definition.hash_exchange {
        operator.require(async |channel| declare_exchange(&channel, exchange).await).await?;
    }
    let exchange = &definition.exchange;
    if let Err(refusal) = operator.attempt(async |channel| declare_exchange(&channel, exchange).await).await?
        && !is_usable(&refusal)
    {
        return Err(operator.meaning(refusal));
    }
    for binding in &definition.bindings {
        operator.require(async |channel| bind(&channel, binding).await).await?;
    }
    Ok(())
}

/// Another number of partitions would give streams to other queues while the former ones still have some of their events.
async fn refuse_other_partitions<P: Purpose>(
    operator: &mut Operator<'_, P>,
    definition: &Definition,
) -> Result<(), ConnectionError> {
    let mut found = None;
    for name in &definition.of_other_partitions {
        if exists(operator, name).await? {
            found = Some(name.clone());
        }
    }
    // A part of the queues without the exchange is what an interrupted call has left.
    if found.is_none()
        && let Some(hash) = &definition.hash_exchange
        && exchange_exists(operator, &hash.name).await?
    {
        for queue in definition.queues.iter().skip(1) {
            if !exists(operator, &queue.name).await? {
                let (missing, exchange) = (&queue.name, &hash.name);
                return Err(ConnectionError::refused(format!(
                    "exchange {exchange:?} exists, and queue {missing:?} does not: there are queues for another number of partitions, or one \
                     was deleted. A stream's events would be in two queues: declare a set of queues with another name, move the \
                     consumers to it, and delete the former one"
                )));
            }
        }
    }
    match found {
        None => Ok(()),
        Some(name) => Err(ConnectionError::refused(format!(
            "there are queues of this name for another number of partitions ({name:?} exists), and a stream's events would be in two \
             queues: declare a set of queues with another name, move the consumers to it, and delete the former one"
        ))),
    }
}

/// Whether a queue exists. One that the user may not see exists.
pub(super) async fn exists<P: Purpose>(
    operator: &mut Operator<'_, P>,
    name: &ShortString,
) -> Result<bool, ConnectionError> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let look = async |channel: Channel| channel.queue_declare(name.clone(), passive, FieldTable::default()).await;
    Ok(!matches!(operator.attempt(look).await?, Err(refusal) if is(&refusal, &AMQPSoftError::NOTFOUND)))
}

/// Whether an exchange exists. RabbitMQ 4.3 hides one that the user may not configure; it counts as existing.
pub(super) async fn exchange_exists<P: Purpose>(
    operator: &mut Operator<'_, P>,
    name: &ShortString,
) -> Result<bool, ConnectionError> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let (kind, none) = (lapin::ExchangeKind::Topic, FieldTable::default());
    let look = async |channel: Channel| channel.exchange_declare(name.clone(), kind, passive, none).await;
    Ok(!matches!(operator.attempt(look).await?, Err(refusal) if is(&refusal, &AMQPSoftError::NOTFOUND)))
}

pub(super) async fn declare_queue(channel: &Channel, queue: &Queue) -> lapin::Result<lapin::Queue> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.name.clone(), durable, queue.arguments.clone()).await
}

pub(super) async fn declare_exchange(channel: &Channel, exchange: &Exchange) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.name.clone(), exchange.kind.clone(), durable, exchange.arguments.clone()).await
}

async fn bind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    let Binding { source, destination, is_to_queue, key } = binding.clone();
    let none = FieldTable::default();
    if is_to_queue {
        channel.queue_bind(destination, source, key, QueueBindOptions::default(), none).await
    } else {
        channel.exchange_bind(destination, source, key, ExchangeBindOptions::default(), none).await
    }
}

/// Whether the exchange that the relay publishes to can be bound to although it could not be declared: it belongs to somebody who gave it
/// arguments (an alternate exchange, for instance), or the user may not configure it. Binding to it decides then.
pub(super) fn is_usable(refusal: &AMQPError) -> bool {
    let said = refusal.get_message().as_str();
    let of_the_exchange = ["type", "durable", "auto_delete", "internal"];
    let has_other_arguments = is(refusal, &AMQPSoftError::PRECONDITIONFAILED)
        && !of_the_exchange.iter().any(|name| said.contains(&format!("inequivalent arg '{name}'")));
    has_other_arguments || is(refusal, &AMQPSoftError::ACCESSREFUSED)
}
