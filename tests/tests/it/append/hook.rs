//! The function that a store calls after each append that is stored.

use std::sync::{Arc, Mutex};

use streambox::{
    Error, EventStore,
    ExpectedVersion::{Any, At, Exact, NoStream},
    StoredAppend, Uuid,
};
use streambox_tests::engine::{TestTable, event, stream};

/// Stream, first and last version, whether something is to be published.
type Call = (String, u64, u64, bool);

/// What a store has called its function with.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().expect("nothing panics that holds it"))
    }
}

fn hooked(table: &TestTable) -> (EventStore, Calls) {
    let calls = Calls::default();
    let kept = calls.clone();
    let hook = move |append: &StoredAppend<'_>| {
        let call = (append.stream.to_string(), append.first_version, append.last_version, append.has_public_events);
        kept.0.lock().expect("nothing panics that holds it").push(call);
    };
    (EventStore::builder(table.store_client(), &table.name).on_append(hook).build(), calls)
}

fn call(stream: &str, first: u64, last: u64, is_public: bool) -> Call {
    (stream.to_owned(), first, last, is_public)
}

#[tokio::test]
async fn an_append_that_is_stored_calls_it_once_and_a_conflict_or_a_refused_append_does_not() {
    let table = TestTable::create().await;
    let (store, calls) = hooked(&table);
    let order = stream("order-1");
    let first = store.append(&order, NoStream, [event(1), event(2)]).await.unwrap();
    assert_eq!(calls.take(), [call("order-1", 1, 2, true)]);
    for expected in [NoStream, Exact(1)] {
        assert!(matches!(store.append(&order, expected, [event(3)]).await, Err(Error::Conflict(_))));
    }
    assert!(matches!(store.append(&order, NoStream, []).await, Err(Error::Invalid(_))));
    assert_eq!(calls.take(), []);
    store.append(&order, At(first.position), [event(3).private()]).await.unwrap();
    assert_eq!(calls.take(), [call("order-1", 3, 3, false)], "nothing of it is to be published");
}

#[tokio::test]
async fn an_append_whose_first_answer_is_lost_calls_it_once_and_its_repeat_once_more() {
    let table = TestTable::create().await;
    let (store, calls) = hooked(&table);
    let (order, id) = (stream("order-1"), Uuid::from_u128(7));
    table.wire.lose_answers("TransactWriteItems", 1);
    store.append_with_id(id, &order, NoStream, [event(1)]).await.unwrap();
    assert_eq!(calls.take(), [call("order-1", 1, 1, true)]);
    assert!(store.append_with_id(id, &order, NoStream, [event(1)]).await.unwrap().already_stored);
    assert_eq!(calls.take(), [call("order-1", 1, 1, true)]);
}

#[tokio::test]
async fn a_transaction_calls_it_for_each_of_its_streams() {
    let table = TestTable::create().await;
    let (store, calls) = hooked(&table);
    let transaction = store.transaction().append(&stream("order-1"), NoStream, [event(1)]);
    transaction.append(&stream("order-2"), NoStream, [event(1), event(2)]).commit().await.unwrap();
    assert_eq!(calls.take(), [call("order-1", 1, 1, true), call("order-2", 1, 2, true)]);
}

#[tokio::test]
async fn an_append_is_stored_and_returns_though_it_panics() {
    let table = TestTable::create().await;
    let panics = |_: &StoredAppend<'_>| panic!("a fault of the service");
    let store = EventStore::builder(table.store_client(), &table.name).on_append(panics).build();
    let order = stream("order-1");
    assert_eq!(store.append(&order, Any, [event(1)]).await.unwrap().position.version(), 1);
    assert_eq!(store.read(&order).await.unwrap().events.len(), 1);
}
