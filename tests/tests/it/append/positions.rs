//! Where an append may go: positions of other tables, streams that have lost their first event.

use streambox::{Error, ExpectedVersion, Invalid, StreamPosition};
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
