//! An append whose answer is lost on its way back.

use streambox::{Error, EventStore, ExpectedVersion, Uuid};
use streambox_tests::engine::{TestTable, client, event, stream};

use std::time::Duration;

/// More losses than the SDK and the library together repeat a request within the timeout.
const FOR_EVER: u32 = u32::MAX;

#[tokio::test]
async fn g3_an_append_whose_answers_are_lost_is_stored_once() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.wire.lose_answers("TransactWriteItems", 5);

    let appended = table.store.append(&order, ExpectedVersion::NoStream, [event(1), event(2)]).await.unwrap();

    let sent = table.wire.take();
    assert_eq!(sent.len(), 6, "five answers were lost, the sixth came");
    assert!(sent.iter().all(|exchange| exchange.request == sent[0].request), "one request, sent again unchanged");
    assert_eq!((appended.first_version, appended.position.version()), (1, 2));
    let history = table.store.read(&order).await.unwrap();
    assert_eq!(history.events.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(table.items().await, 3, "two events and one pending entry");
}

#[tokio::test]
async fn g3_a_repeat_by_another_process_reports_the_first_result() {
    let table = TestTable::create().await;
    let (order, append_id) = (stream("order-1"), Uuid::new_v4());
    let first = table.store.append_with_id(append_id, &order, ExpectedVersion::NoStream, [event(1)]).await.unwrap();
    let at = ExpectedVersion::At(first.position.clone());
    table.store.append(&order, at, [event(2)]).await.unwrap();

    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Exact(0)] {
        let (another, _) = table.another();
        let repeat = another.append_with_id(append_id, &order, expected, [event(1)]).await.unwrap();
        assert!(repeat.already_stored && !first.already_stored);
        assert_eq!(
            (repeat.first_version, &repeat.position, repeat.recorded_at_ms),
            (first.first_version, &first.position, first.recorded_at_ms)
        );
    }
    assert_eq!(table.items().await, 4, "two appends of one event");
}

#[tokio::test]
async fn g3_after_a_timeout_the_caller_repeats_the_append_and_finds_it_stored() {
    let table = TestTable::create().await;
    let (order, append_id) = (stream("order-1"), Uuid::new_v4());
    table.fill(&order, 3).await;
    let wire = streambox_tests::wire::Wire::new();
    let impatient = EventStore::builder(client(table.url(), Some(&wire)), &table.name)
        .operation_timeout(Duration::from_secs(2))
        .build();
    wire.lose_answers("TransactWriteItems", FOR_EVER);

    let append = async |store: &EventStore| {
        store.append_with_id(append_id, &order, ExpectedVersion::Exact(3), [event(4), event(5)]).await
    };
    let error = append(&impatient).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { outcome_unknown: true, .. }), "{error}");
    wire.lose_answers("TransactWriteItems", 0);
    let repeat = append(&table.store).await.unwrap();

    assert!(repeat.already_stored);
    assert_eq!((repeat.first_version, repeat.position.version()), (4, 5));
    let history = table.store.read(&order).await.unwrap();
    assert_eq!(history.events.len(), 5);
    assert_eq!(table.pending().await, 4);
}

#[tokio::test]
async fn g3_the_same_append_id_at_another_place_is_another_append() {
    let table = TestTable::create().await;
    let (order, append_id) = (stream("order-1"), Uuid::new_v4());
    let first = table.store.append_with_id(append_id, &order, ExpectedVersion::NoStream, [event(1)]).await.unwrap();
    let at = ExpectedVersion::At(first.position);
    let second = table.store.append_with_id(append_id, &order, at, [event(2)]).await.unwrap();
    assert!(!second.already_stored);
    assert_eq!(second.position.version(), 2);
}

#[tokio::test]
async fn g2_a_conflict_says_where_the_stream_is_and_changes_nothing() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.fill(&order, 3).await;
    let items = table.items().await;
    let history = table.store.read(&order).await.unwrap();

    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Exact(2), ExpectedVersion::Exact(4)] {
        let error = table.store.append(&order, expected.clone(), [event(9)]).await.unwrap_err();
        let Error::Conflict(conflict) = error else { panic!("{expected}: {error}") };
        assert_eq!(conflict.current.version(), 3, "{expected}");
        // What the conflict carries is good for the next attempt.
        assert_eq!(conflict.current, history.position);
    }
    assert_eq!(table.items().await, items);
    assert_eq!(table.store.read(&order).await.unwrap(), history);
}
