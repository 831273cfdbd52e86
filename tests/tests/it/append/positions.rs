//! Where an append may go: positions of other tables, streams that have lost their first event, streams that must exist.

use streambox::{Error, ExpectedVersion, Invalid, StreamPosition, Uuid};
use streambox_tests::{
    engine::{TestTable, event, stream},
    programs::run,
};

#[tokio::test]
async fn a_position_of_another_table_is_refused_by_appends_and_reads_and_nothing_is_sent() {
    let (table, other) = (TestTable::create().await, TestTable::create().await);
    let order = stream("order-1");
    table.fill(&order, 2).await;
    other.fill(&order, 1).await;
    let position = table.store.position(&order).await.unwrap();
    other.wire.take();
    let append = other.store.append(&order, ExpectedVersion::At(position.clone()), [event(3)]).await.unwrap_err();
    let read = other.store.reader_from(position.clone()).next_page().await.unwrap_err();
    for error in [append, read] {
        assert!(matches!(&error, Error::Invalid(Invalid::PositionOfOtherTable { .. })), "{error}");
        let said = error.to_string();
        assert!(said.contains(&table.name) && said.contains(&other.name) && said.contains("load the stream"), "{said}");
    }
    assert_eq!(other.wire.take().len(), 0);
    // Another store of the same table is as good as the first.
    let (same, _) = table.another();
    same.append(&order, ExpectedVersion::At(position), [event(3)]).await.unwrap();
    // Every table has the start of every stream.
    let start = StreamPosition::start(stream("order-2"));
    other.store.append(&stream("order-2"), ExpectedVersion::At(start), [event(1)]).await.unwrap();
}

#[tokio::test]
async fn g2_a_stream_without_its_first_event_is_not_begun_again_by_version_zero() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 3).await;
    table.publish_all(&order).await;
    table.delete(&order, "event#00000000000000000001").await;
    let items = table.items().await;
    // By one event of two, the transaction itself notices; by one alone, the read of the end does.
    for (expected, events) in [(ExpectedVersion::Exact(0), 1), (ExpectedVersion::NoStream, 2)] {
        let error = table.store.append(&order, expected, (1..=events).map(event)).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict(conflict) if conflict.current.version() == 3), "{error}");
    }
    assert_eq!(table.items().await, items, "nothing was written");
    let append = ["append", "order-1", "--type", "A", "--data", "1", "--expect", "none"];
    let refused = run("streambox", Some(&table), None, append).await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("stream order-1 is at version 3, expected no stream"), "{}", refused.stderr);
    assert_eq!(table.items().await, items, "nothing was written");
}

#[tokio::test]
async fn an_append_to_an_existing_stream_goes_to_its_end_and_a_stream_without_events_is_a_conflict() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let sent = || table.wire.take().into_iter().map(|exchange| exchange.operation).collect::<Vec<_>>();
    let append = async || {
        table.wire.take();
        table.store.append(&order, ExpectedVersion::StreamExists, [event(3), event(4)]).await
    };

    let error = append().await.unwrap_err();
    assert_eq!(error.to_string(), "stream order-1 is at version 0, expected an existing stream");
    assert!(matches!(&error, Error::Conflict(conflict) if conflict.current == StreamPosition::start(order.clone())));
    assert_eq!(sent(), ["Query"]);
    assert_eq!(table.items().await, 0, "nothing was written");

    table.fill(&order, 2).await;
    let appended = append().await.unwrap();
    assert_eq!((appended.first_version, appended.position.version()), (3, 4));
    assert_eq!(sent(), ["Query", "TransactWriteItems"]);
}

#[tokio::test]
async fn g3_a_repeat_at_the_end_of_an_existing_stream_is_recognised_while_it_is_the_newest() {
    let table = TestTable::create().await;
    let (order, append_id) = (stream("order-1"), Uuid::new_v4());
    table.fill(&order, 1).await;
    let append = async || {
        let (store, _) = table.another();
        store.append_with_id(append_id, &order, ExpectedVersion::StreamExists, [event(2)]).await.unwrap()
    };
    let (first, repeat) = (append().await, append().await);
    assert!(repeat.already_stored && !first.already_stored);
    assert_eq!(repeat.position, first.position);
    table.store.append(&order, ExpectedVersion::At(first.position.clone()), [event(3)]).await.unwrap();
    let late = append().await;
    assert!(!late.already_stored, "as with `Any`: at the end it is another append");
    let ids: std::collections::HashSet<_> = first.event_ids().chain(late.event_ids()).collect();
    assert_eq!((late.first_version, ids.len()), (4, 2), "whose event has an id of its own");
}

#[tokio::test]
async fn g2_an_append_at_the_end_is_tried_again_if_another_writer_was_quicker() {
    let table = TestTable::create().await;
    for (number, expected) in [ExpectedVersion::Any, ExpectedVersion::StreamExists].into_iter().enumerate() {
        let order = stream(&format!("order-{number}"));
        table.fill(&order, 1).await;
        table.wire.take();
        table.store.position(&order).await.unwrap();
        // Its end as it was before the other writer came.
        let mut earlier = Some(table.wire.take().remove(0).answer);
        table.store.append(&order, expected.clone(), [event(2)]).await.unwrap();
        table.wire.set_fault(move |exchange| {
            if let Some(earlier) = earlier.take_if(|_| exchange.operation == "Query") {
                exchange.answer = earlier;
            }
        });
        table.wire.take();
        let appended = table.store.append(&order, expected, [event(3)]).await.unwrap();
        assert_eq!(appended.first_version, 3);
        let sent: Vec<_> = table.wire.take().into_iter().map(|exchange| exchange.operation).collect();
        assert_eq!(sent, ["Query", "TransactWriteItems", "Query", "TransactWriteItems"]);
        table.wire.clear_faults();
    }
}

#[tokio::test]
async fn g1_a_transaction_with_a_stream_that_must_exist_and_does_not_stores_nothing() {
    let table = TestTable::create().await;
    let (order, customer) = (stream("order-1"), stream("customer-7"));
    table.fill(&order, 1).await;
    let commit = async || {
        let transaction = table.store.transaction().append(&order, ExpectedVersion::StreamExists, [event(2)]);
        transaction.append(&customer, ExpectedVersion::StreamExists, [event(1)]).commit().await
    };
    let error = commit().await.unwrap_err();
    assert!(matches!(&error, Error::Conflict(conflict) if *conflict.current.stream() == customer), "{error}");
    assert_eq!(table.items().await, 2, "nothing was written");
    table.fill(&customer, 1).await;
    assert_eq!(commit().await.unwrap().appends.len(), 2);
}
