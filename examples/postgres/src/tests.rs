//! On a real server: each event counts once, whatever is repeated, and whoever else works.

use streambox::{EventStore, ExpectedVersion, NewEvent, StreamId, message::Received, testing};
use streambox_consumer::{Applied, Projection as _, Rebuild};
use streambox_tests::postgres::PostgresServer;

use crate::projection::{Failure, Orders};

/// Orders of two customers, some of them cancelled since.
async fn orders() -> EventStore {
    let store = testing::event_store().await;
    for number in 1..=10 {
        let data = serde_json::json!({ "customer": format!("customer-{}", number % 2), "total_cents": number * 100 });
        let events = [
            NewEvent::json("OrderPlaced", &data).unwrap(),
            NewEvent::json("OrderChecked", &()).unwrap().private(),
            NewEvent::json("OrderShipped", &()).unwrap(),
        ];
        let order = StreamId::new(format!("order-{number}")).unwrap();
        store.append(&order, ExpectedVersion::NoStream, events).await.unwrap();
    }
    store
}

/// What a consumer does with a message: applies it, or drops it if it came before.
async fn receive(orders: &Orders, event: Received) -> Result<(), Failure> {
    if orders.apply(&event, event.previous_version.unwrap_or(0)).await? == Applied::Moved {
        let position = orders.position(&event.stream_id).await?;
        assert!(event.version <= position.version, "the events of a stream come in order");
    }
    Ok(())
}

async fn assert_counted(orders: &Orders) {
    assert_eq!(orders.of_customer("customer-0").await.unwrap(), (5, 3_000));
    assert_eq!(orders.of_customer("customer-1").await.unwrap(), (5, 2_500));
}

#[tokio::test]
async fn c1_deliveries_that_are_repeated_and_shuffled_take_effect_once() {
    let Some(server) = PostgresServer::start() else { return };
    let (store, orders) = (orders().await, Orders::open(&server.url()).await.unwrap());
    for seed in 0..5 {
        testing::deliver_shuffled(&store, seed, async |event| receive(&orders, event).await).await;
        assert_counted(&orders).await;
    }
}

#[tokio::test]
async fn c1_rebuilds_and_a_consumer_at_the_same_time_count_each_event_once() {
    let Some(server) = PostgresServer::start() else { return };
    let store = orders().await;
    // Three processes, each with a connection of its own.
    let (first, second) = (Orders::open(&server.url()).await.unwrap(), Orders::open(&server.url()).await.unwrap());
    let consumer = Orders::open(&server.url()).await.unwrap();
    let delivered = testing::deliver_shuffled(&store, 1, async |event| receive(&consumer, event).await);
    let (first_report, second_report, ()) =
        tokio::join!(Rebuild::new(&store, &first).run(), Rebuild::new(&store, &second).run(), delivered);
    for report in [first_report.unwrap(), second_report.unwrap()] {
        assert_eq!((report.events, report.applied + report.already_applied), (30, 20));
    }
    assert_counted(&consumer).await;
}

#[tokio::test]
async fn nothing_is_stored_behind_another_version_or_of_an_event_that_can_not_be_read() {
    let Some(server) = PostgresServer::start() else { return };
    let orders = Orders::open(&server.url()).await.unwrap();
    let stream = StreamId::new("order-1").unwrap();
    let placed = |version, data| testing::received(&stream, version, NewEvent::json("OrderPlaced", data).unwrap());
    let good = serde_json::json!({ "customer": "customer-1", "total_cents": 100 });
    let (first, second) = (placed(1, &good), placed(2, &good));
    assert_eq!(orders.apply(&second, 1).await.unwrap(), Applied::Moved, "there is no position yet");
    assert_eq!(orders.apply(&first, 0).await.unwrap(), Applied::Stored);
    assert_eq!(orders.apply(&first, 0).await.unwrap(), Applied::Moved);
    let unreadable = placed(2, &serde_json::json!({ "customer": 7 }));
    assert!(matches!(orders.apply(&unreadable, 1).await, Err(Failure::Event(_))));
    let position = orders.position(&stream).await.unwrap();
    assert_eq!((position.version, position.event_id), (1, Some(first.event_id)), "it was rolled back");
    assert_eq!(orders.of_customer("customer-1").await.unwrap(), (1, 100));
}
