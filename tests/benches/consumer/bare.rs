//! The bare loop, as one writes it by hand: tasks that each have a share of the streams, and apply and acknowledge one message after the
//! other. It looks for no gaps, parks nothing, and ends with the first error.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    primitives::Blob,
    types::{AttributeValue, TransactWriteItem, Update},
};
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use streambox::{
    Client, Uuid,
    message::{STREAM_ID_HEADER, VERSION_HEADER},
};
use streambox_consumer::Queues;
use streambox_tests::broker::named_broker_url;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Clock, Failure, Figures, Settings,
    stage::{CONSUMER, Counts, INBOX_TABLE, Stage},
};

pub(crate) async fn consume(stage: &Stage, queues: &Queues, settings: Settings) -> Result<Figures, Failure> {
    let clock = Clock::start();
    let connection = Connection::connect(&named_broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(settings.prefetch, BasicQosOptions::default()).await?;
    let (queue, tag, options) = (queues.name().into(), ShortString::default(), BasicConsumeOptions::default());
    let mut deliveries = channel.basic_consume(queue, tag, options, FieldTable::default()).await?;

    let (mut lanes, mut tasks) = (Vec::new(), JoinSet::new());
    for _ in 0..settings.concurrency {
        let (lane, messages) = mpsc::channel(settings.prefetch.into());
        tasks.spawn(work(stage.client.clone(), stage.counts.clone(), messages));
        lanes.push(lane);
    }
    for _ in 0..stage.events() {
        let delivery = deliveries.next().await.ok_or("the queue has ended")??;
        let mut hasher = DefaultHasher::new();
        stream_id(&delivery)?.hash(&mut hasher);
        lanes[usize::try_from(hasher.finish() % lanes.len() as u64)?].send(delivery).await?;
    }
    drop(lanes);
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let figures = clock.stop(stage.events());
    connection.close(200, "done".into()).await?;
    Ok(figures)
}

async fn work(client: Client, counts: Counts, mut messages: mpsc::Receiver<Delivery>) -> Result<(), Failure> {
    while let Some(delivery) = messages.recv().await {
        let (position, effect) = (position(&delivery)?, counts.item(stream_id(&delivery)?)?);
        let stored = client.transact_write_items().transact_items(position).transact_items(effect).send().await;
        match stored {
            Ok(_) => {}
            Err(error) if error.as_service_error().is_some_and(was_applied) => {}
            Err(error) => return Err(error.into()),
        }
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// The position moves to this event, unless it is there already.
fn position(delivery: &Delivery) -> Result<TransactWriteItem, Failure> {
    let version = match header(delivery, VERSION_HEADER)? {
        AMQPValue::LongLongInt(version) => version.to_string(),
        other => return Err(format!("not a version: {other:?}").into()),
    };
    let id = Uuid::try_parse(delivery.properties.message_id().as_ref().ok_or("no message id")?.as_str())?;
    let update = Update::builder()
        .table_name(INBOX_TABLE)
        .key("stream_id", AttributeValue::S(stream_id(delivery)?.to_owned()))
        .key("consumer", AttributeValue::S(format!("{CONSUMER}@1")))
        .update_expression("SET last_version = :version, last_event_id = :id")
        .condition_expression("attribute_not_exists(last_version) OR last_version < :version")
        .expression_attribute_values(":version", AttributeValue::N(version))
        .expression_attribute_values(":id", AttributeValue::B(Blob::new(id.into_bytes())))
        .build()?;
    Ok(TransactWriteItem::builder().update(update).build())
}

fn was_applied(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else { return false };
    let of_position = cancelled.cancellation_reasons().first().and_then(|reason| reason.code());
    of_position == Some("ConditionalCheckFailed")
}

fn stream_id(delivery: &Delivery) -> Result<&str, Failure> {
    match header(delivery, STREAM_ID_HEADER)? {
        AMQPValue::LongString(id) => Ok(str::from_utf8(id.as_bytes())?),
        other => Err(format!("not a stream id: {other:?}").into()),
    }
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Result<&'a AMQPValue, Failure> {
    let headers = delivery.properties.headers().as_ref().ok_or("no headers")?;
    headers.inner().get(name).ok_or_else(|| format!("no header {name}").into())
}
