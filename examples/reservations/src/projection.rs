//! The read model's consumer: each event counts once and in order, although it may come more than once.

use std::{convert::Infallible, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use streambox::{
    aggregate::Aggregate as _,
    message::{HeaderValue, MessageError, Properties, Received},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    concert::{Concert, ConcertEvent},
    table::FreeSeats,
};

const PREFETCH: u16 = 100;
const RECONNECT_DELAY: Duration = Duration::from_secs(2);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Projection {
    pub(crate) url: String,
    pub(crate) exchange: String,
    pub(crate) queue: String,
    pub(crate) free_seats: FreeSeats,
}

impl Projection {
    /// Consumes until `stop` is true. After a failure, of an event or of the broker, it begins again at the first event that was
    /// not counted: the queue keeps them in order.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        while let Err(error) = self.consume(&mut stop).await {
            eprintln!("the projection begins again in {RECONNECT_DELAY:?}: {error}");
            tokio::select! {
                () = sleep(RECONNECT_DELAY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn consume(&self, stop: &mut watch::Receiver<bool>) -> Result<(), Failure> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        self.declare(&channel).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (queue, none) = (self.queue.as_str().into(), FieldTable::default());
        let mut deliveries = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), none).await?;
        eprintln!("the projection follows queue {}", self.queue);
        let outcome = tokio::select! {
            Err(error) = self.count_all(&mut deliveries) => Err(error),
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        // Before `deliveries` is dropped: lapin would cancel the consumer, and RabbitMQ put what is unacknowledged behind the rest.
        let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "the projection ends".into())).await;
        outcome
    }

    /// A queue that keeps the order, has one consumer at a time, and deletes nothing.
    async fn declare(&self, channel: &Channel) -> Result<(), Failure> {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let (text, dead) = (|text: &str| AMQPValue::LongString(text.into()), format!("{}.dead", self.queue));
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
        channel.queue_declare(dead.as_str().into(), durable, arguments.clone()).await?;
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(&dead));
        channel.queue_declare(self.queue.as_str().into(), durable, arguments).await?;

        let (exchange, none) = (self.exchange.as_str(), FieldTable::default());
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none.clone()).await?;
        let (queue, binding) = (self.queue.as_str().into(), "concert.#".into());
        Ok(channel.queue_bind(queue, exchange.into(), binding, QueueBindOptions::default(), none).await?)
    }

    async fn count_all(&self, deliveries: &mut lapin::Consumer) -> Result<Infallible, Failure> {
        loop {
            let delivery = deliveries.next().await.ok_or("the broker has ended the consumer")??;
            match received(&delivery) {
                // A replay is for those who rebuild.
                Ok(event) if event.replay.is_some() => {}
                Ok(event) => _ = count(&event, &self.free_seats).await?,
                Err(MessageError::NotAnEvent) => {
                    // A dead letter that is not an event leaves no gap in a stream.
                    delivery.acker.reject(BasicRejectOptions { requeue: false }).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            // Only now: what is not acknowledged comes again.
            delivery.acker.ack(BasicAckOptions::default()).await?;
        }
    }
}

/// Counts an event's change of the free seats. Returns whether it was new.
async fn count(event: &Received, free_seats: &FreeSeats) -> Result<bool, Failure> {
    // Its payload is as it was appended, perhaps by an older version of the service.
    let events = Concert::decode(&event.event_type, &event.payload)?;
    Ok(free_seats.count(&event.stream_id, event.version, events.iter().map(change).sum()).await?)
}

fn received(delivery: &Delivery) -> Result<Received, MessageError> {
    let from = &delivery.properties;
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
    Received::from_parts(properties, headers, &delivery.data)
}

/// By how many the free seats change.
fn change(event: &ConcertEvent) -> i64 {
    match event {
        ConcertEvent::Announced { seats } => i64::from(*seats),
        ConcertEvent::SeatReserved { .. } => -1,
        ConcertEvent::SeatReleased { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use streambox::{
        aggregate::Repository,
        testing::{EmbeddedDynamoDb, deliver_shuffled},
    };

    use super::*;
    use crate::table::{self, Emails};

    #[tokio::test]
    async fn each_event_counts_once_in_whatever_way_it_comes() {
        let engine = EmbeddedDynamoDb::start().await;
        let concerts = Repository::<Concert>::new(engine.event_store().await);
        table::create(&engine.client(), "own").await.unwrap();
        let emails = Emails::new("own");
        for id in ["1", "2"] {
            concerts.execute(id, |concert| concert.announce(10)).await.unwrap();
            for guest in ["ann", "bob", "eve"] {
                concerts.execute(id, |concert| concert.reserve(&format!("{guest}-{id}"), None, &emails)).await.unwrap();
            }
            concerts.execute(id, |concert| concert.release(2, &emails)).await.unwrap();
        }
        for seed in 0..5 {
            let own = format!("own-{seed}");
            table::create(&engine.client(), &own).await.unwrap();
            let free_seats = FreeSeats::new(engine.client(), own);
            deliver_shuffled(concerts.store(), seed, async |event| count(&event, &free_seats).await.map(drop)).await;
            for id in ["1", "2"] {
                let concert = Repository::<Concert>::stream_id(id).unwrap();
                assert_eq!(free_seats.of(&concert).await.unwrap(), Some(8), "concert {id}, seed {seed}");
            }
        }
    }
}
