//! What is consumed: two queues of one exchange, filled with messages as the relay publishes them.

use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions},
};
use streambox::{StreamId, Uuid, outbox::OutboxEvent};
use streambox_consumer::{Queues, TlsFiles};
use streambox_relay::broker::Message;
use streambox_tests::{broker::named_broker_url, unique};

use crate::{Failure, Shape};

/// Messages whose confirms are awaited together.
const BATCH: usize = 256;
/// Of each payload, about.
const PAYLOAD_BYTES: usize = 300;

/// A queue for each side, with the same in it.
pub(crate) struct Backlog {
    pub(crate) bare: Queues,
    pub(crate) ours: Queues,
}

impl Backlog {
    /// Declares and fills the queues: the first event of each stream, then the second of each.
    pub(crate) async fn publish(Shape { streams, events }: Shape) -> Result<Self, Failure> {
        let exchange = unique("bench");
        let queues = |side: &str| Queues::new(unique(side))?.exchange(exchange.as_str());
        let backlog = Self { bare: queues("bare")?, ours: queues("ours")? };
        for queues in [&backlog.bare, &backlog.ours] {
            queues.declare(&named_broker_url(), TlsFiles::default()).await?;
        }
        let connection = Connection::connect(&named_broker_url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES));
        let all = (1..=events).flat_map(|version| (0..streams).map(move |stream| (stream, version)));
        let batches = stream::iter(all).chunks(BATCH).map(Ok::<_, Failure>);
        batches.try_for_each(|batch| publish(&channel, &exchange, batch, &payload)).await?;
        connection.close(200, "done".into()).await?;
        Ok(backlog)
    }

    /// Deletes queues and exchange. The last messages of a side may be in its queue again: RabbitMQ loses acknowledgements of a quorum queue
    /// that it has not processed when the connection closes.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let connection = Connection::connect(&named_broker_url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        for queue in [&self.bare, &self.ours].map(|queues| [queues.name().to_owned(), queues.dead_letters()]).concat() {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        }
        channel.exchange_delete(self.bare.of_exchange().into(), ExchangeDeleteOptions::default()).await?;
        connection.close(200, "done".into()).await?;
        Ok(())
    }
}

async fn publish(channel: &Channel, exchange: &str, batch: Vec<(u64, u64)>, payload: &str) -> Result<(), Failure> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let written = batch.into_iter().map(async |(stream, version)| -> Result<_, Failure> {
        let mut event = OutboxEvent::new(version, Uuid::new_v4(), "Counted", payload);
        event.previous_version = (version > 1).then(|| version - 1);
        let message = Message::new(&StreamId::new(format!("order-{stream}"))?, &event)?;
        let (key, properties) = (message.routing_key, message.properties);
        Ok(channel.basic_publish(exchange.into(), key, options, payload.as_bytes(), properties).await?)
    });
    for confirm in try_join_all(try_join_all(written).await?).await? {
        if confirm != Confirmation::Ack(None) {
            return Err("not published".into());
        }
    }
    Ok(())
}
