//! Deletes the queues of a consumer.

use std::time::Duration;

use lapin::{
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
    protocol::AMQPSoftError,
};
use streambox_amqp::{ConnectionError, Purpose};
use tokio::time::sleep;

use super::{
    Queues,
    definition::Definition,
    look,
    operator::{Operator, is},
};

/// How often a queue is looked at until it is not consumed: the broker forgets a closed connection's consumers a moment later.
const LOOKS: u32 = 25;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(super) async fn delete<P: Purpose>(operator: &mut Operator<'_, P>, queues: &Queues) -> Result<(), ConnectionError> {
    // A quorum queue does not take the conditions of AMQP: unused, or empty.
    for queue in queues.queue_names() {
        wait_until_unused(operator, &queue).await?;
    }
    // First what gives messages, so that none is dropped that another consumer could want.
    if let Some(exchange) = Definition::of(queues).hash_exchange {
        let delete = ExchangeDeleteOptions::default();
        operator.require(async |channel| channel.exchange_delete(exchange.name, delete).await).await?;
    }
    for queue in queues.queue_names() {
        delete_queue(operator, &queue).await?;
    }
    let dead = queues.dead_letters();
    if counts(operator, &dead).await?.is_some_and(|(messages, _)| messages == 0) {
        delete_queue(operator, &dead).await?;
    }
    Ok(())
}

async fn delete_queue<P: Purpose>(operator: &mut Operator<'_, P>, queue: &str) -> Result<(), ConnectionError> {
    let options = QueueDeleteOptions::default();
    operator.require(async |channel| channel.queue_delete(queue.into(), options).await).await.map(|_| ())
}

async fn wait_until_unused<P: Purpose>(operator: &mut Operator<'_, P>, queue: &str) -> Result<(), ConnectionError> {
    for _ in 0..LOOKS {
        match counts(operator, queue).await? {
            Some((_, consumers)) if consumers > 0 => sleep(LOOK_INTERVAL).await,
            _ => return Ok(()),
        }
    }
    Err(ConnectionError::refused(format!("queue {queue:?} is consumed: stop its consumers first")))
}

/// How many messages and consumers a queue has; none if it does not exist.
async fn counts<P: Purpose>(
    operator: &mut Operator<'_, P>,
    queue: &str,
) -> Result<Option<(u32, u32)>, ConnectionError> {
    match operator.attempt(async |channel| look(&channel, queue).await).await? {
        Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
        Err(refusal) if is(&refusal, &AMQPSoftError::NOTFOUND) => Ok(None),
        Err(refusal) => Err(operator.meaning(refusal)),
    }
}
