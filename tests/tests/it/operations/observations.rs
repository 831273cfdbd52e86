//! What an observer of a service sees of its store: an observation after each operation, with what went over the wire.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use futures_util::TryStreamExt as _;
use streambox::{
    Error, EventStore,
    ExpectedVersion::{Any, At, Exact, NoStream},
    ReadOptions, ScanOptions,
    aggregate::{CacheSettings, CommandContext, Decision, EveryEvents, ExecuteError, Never, Repository},
    observe::{Observation, Operation, Outcome},
    snapshot::NewSnapshot,
};
use streambox_tests::{
    engine::{TestTable, event, stream},
    metering::{Metering, Put as Stored},
    orders::{Order, OrderEvent, Refusal, fill},
};

/// Keeps the observations of a store.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Observation>>>);

impl Seen {
    fn take(&self) -> Vec<Observation> {
        std::mem::take(&mut self.0.lock().expect("no observer panics"))
    }

    /// The one observation since the last call. Its requests and units are those that went over the wire.
    fn one(&self, table: &TestTable) -> Observation {
        let [seen] = <[_; 1]>::try_from(self.take()).expect("one observation");
        let sent = table.wire.take();
        let units: f64 = sent.iter().map(|exchange| exchange.units).sum();
        assert_eq!(seen.requests as usize, sent.len(), "{seen:?}, {sent:?}");
        assert!((seen.read_units + seen.write_units - units).abs() < 1e-9, "{seen:?}, {sent:?}");
        seen
    }
}

/// A store on the table's wire that is observed.
fn observed(table: &TestTable) -> (EventStore, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let observe = move |observation: &Observation| kept.0.lock().expect("no observer panics").push(observation.clone());
    let store = EventStore::builder(table.store_client(), &table.name).observe(observe).build();
    table.wire.take();
    (store, seen)
}

/// Operation, outcome, requests, read units and write units, events read and written.
type Expected = (Operation, Outcome, u32, (f64, f64), (u64, u64));

fn is(seen: &Observation, expected: Expected) {
    let Observation { operation, outcome, requests, read_units, write_units, events_read, events_written, .. } = *seen;
    let found = (operation, outcome, requests, (read_units, write_units), (events_read, events_written));
    assert_eq!(found, expected);
    assert_eq!(seen.category, "order");
}

#[tokio::test]
async fn each_operation_of_the_store_is_observed_once_with_its_requests_units_and_events() {
    let table = TestTable::create().await;
    let (store, seen) = observed(&table);
    let (order, other) = (stream("order-1"), stream("invoice-1"));
    let metering = Metering::of_tests();
    let (read, append) = (metering.read(1.0), metering.append(1));

    let appended = store.append(&order, NoStream, [event(1)]).await.unwrap();
    is(&seen.one(&table), (Operation::Append, Outcome::Ok, 1, (0.0, append), (0, 1)));
    store.append(&order, Any, [event(2)]).await.unwrap();
    is(&seen.one(&table), (Operation::Append, Outcome::Ok, 2, (read, append), (1, 1)));
    let alone = store.transaction().append(&order, Exact(2), [event(3)]);
    alone.commit().await.unwrap();
    is(&seen.one(&table), (Operation::Append, Outcome::Ok, 2, (read, append), (1, 1)));
    let both = store.transaction().append(&order, Exact(3), [event(4)]).append(&other, NoStream, [event(1)]);
    both.commit().await.unwrap();
    let units = metering.transaction(&[Stored::EVENT, Stored::ENTRY, Stored::EVENT, Stored::ENTRY]);
    is(&seen.one(&table), (Operation::Transaction, Outcome::Ok, 2, (read, units), (1, 2)));

    assert_eq!(store.read(&order).await.unwrap().events.len(), 4);
    is(&seen.one(&table), (Operation::Read, Outcome::Ok, 1, (read, 0.0), (4, 0)));
    store.position(&order).await.unwrap();
    is(&seen.one(&table), (Operation::Position, Outcome::Ok, 1, (read, 0.0), (1, 0)));
    assert!(store.exists(&order).await.unwrap());
    is(&seen.one(&table), (Operation::Exists, Outcome::Ok, 1, (read, 0.0), (0, 0)));
    assert!(store.event(&order, 2).await.unwrap().is_some());
    is(&seen.one(&table), (Operation::Event, Outcome::Ok, 1, (1.0, 0.0), (1, 0)));

    let mut reader = store.reader(&order);
    while reader.next_page().await.unwrap().is_some() {}
    is(&seen.one(&table), (Operation::Page, Outcome::Ok, 1, (read, 0.0), (4, 0)));
    let newest: Vec<_> = store.read_stream(&order, ReadOptions::backward().limit(1)).try_collect().await.unwrap();
    assert_eq!(newest[0].version, 4);
    is(&seen.one(&table), (Operation::Page, Outcome::Ok, 1, (read, 0.0), (1, 0)));

    store.write_snapshot(&order, &NewSnapshot::new(1, appended.append_id, 1, "1")).await.unwrap();
    let snapshot = metering.transaction(&[Stored { units: 1.0, is_indexed: false }]);
    is(&seen.one(&table), (Operation::WriteSnapshot, Outcome::Ok, 1, (0.0, snapshot), (0, 0)));
    let mut load = store.load_snapshot(&order, |_| true).await.unwrap();
    while load.next_page().await.unwrap().is_some() {}
    is(&seen.one(&table), (Operation::LoadSnapshot, Outcome::Ok, 1, (read, 0.0), (4, 0)));

    let scan = store.scan_events(&ScanOptions::new().segments(1).category("order")).unwrap();
    assert_eq!(scan.try_collect::<Vec<_>>().await.unwrap().len(), 4);
    let seen = seen.one(&table);
    let found = (seen.operation, seen.outcome, seen.requests, seen.events_read, seen.category.as_str());
    assert_eq!(found, (Operation::Scan, Outcome::Ok, 1, 4, "order"));
}

#[tokio::test]
async fn what_comes_behind_a_snapshot_is_pages_of_their_own() {
    let table = TestTable::create().await;
    let (store, seen) = observed(&table);
    let order = stream("order-1");
    table.fill(&order, 40).await;
    table.wire.take();
    let mut load = store.load_snapshot(&order, |_| true).await.unwrap();
    let top = seen.one(&table);
    assert_eq!((top.operation, top.requests), (Operation::LoadSnapshot, 1));
    while load.next_page().await.unwrap().is_some() {}
    let below = seen.one(&table);
    assert_eq!((below.operation, below.requests), (Operation::Page, 1));
}

#[tokio::test]
async fn a_repositorys_loads_are_observed_however_they_begin() {
    let table = TestTable::create().await;
    fill(&Repository::new(table.another().0), "1", [1; 3]).await;
    let (store, seen) = observed(&table);
    let orders = Repository::<Order>::builder(store.clone()).build();
    let read = Metering::of_tests().read(1.0);

    orders.load("1").await.unwrap();
    is(&seen.one(&table), (Operation::Load, Outcome::Ok, 1, (read, 0.0), (3, 0)));
    orders.load("1").await.unwrap();
    is(&seen.one(&table), (Operation::Load, Outcome::Ok, 1, (read, 0.0), (1, 0)));

    orders.snapshot("1").await.unwrap();
    let snapshot = Metering::of_tests().transaction(&[Stored { units: 1.0, is_indexed: false }]);
    is(&seen.one(&table), (Operation::Snapshot, Outcome::Ok, 2, (read, snapshot), (1, 0)));
    let stale = CacheSettings::new().staleness(Duration::from_hours(1));
    let stale = Repository::<Order>::builder(store).cache(stale).build();
    stale.load("1").await.unwrap();
    is(&seen.one(&table), (Operation::Load, Outcome::Ok, 1, (read, 0.0), (3, 0)));
    stale.load("1").await.unwrap();
    is(&seen.one(&table), (Operation::Load, Outcome::Ok, 0, (0.0, 0.0), (0, 0)));
}

#[tokio::test]
async fn a_command_is_one_observation_with_all_that_it_does_inside() {
    let table = TestTable::create().await;
    let (store, seen) = observed(&table);
    let orders = Repository::<Order>::builder(store).snapshots(EveryEvents(4)).build();
    let metering = Metering::of_tests();
    let (read, append) = (metering.read(1.0), metering.append(1));

    let empty = metering.empty_read(1.0);
    orders.execute("1", |order| order.add(1)).await.unwrap();
    is(&seen.one(&table), (Operation::Execute, Outcome::Ok, 2, (empty, append), (0, 1)));
    orders.execute("1", |order| order.add(1)).await.unwrap();
    let second = seen.one(&table);
    is(&second, (Operation::Execute, Outcome::Ok, 2, (read, append), (1, 1)));
    assert_eq!((second.attempts, second.conflicts), (1, 0));

    let loaded = orders.load("1").await.unwrap();
    is(&seen.one(&table), (Operation::Load, Outcome::Ok, 1, (read, 0.0), (1, 0)));
    orders.save(&loaded, [OrderEvent::ItemsAdded { items: 1 }]).await.unwrap();
    is(&seen.one(&table), (Operation::Save, Outcome::Ok, 1, (0.0, append), (0, 1)));

    let refused = orders.execute("1", |_| Err::<Vec<OrderEvent>, _>(Refusal::Empty)).await;
    assert!(matches!(refused, Err(ExecuteError::Rejected(Refusal::Empty))));
    is(&seen.one(&table), (Operation::Execute, Outcome::Rejected, 1, (read, 0.0), (1, 0)));
    let other = stream("invoice-1");
    let decide = |_: &_| {
        let shipped = Decision::new([OrderEvent::Shipped]).append(&other, NoStream, [event(1)]);
        Ok::<_, Refusal>(shipped)
    };
    orders.execute("1", decide).await.unwrap();
    orders.snapshots_settled().await;
    // The snapshot that is due is written in the background: an operation of its own.
    let all = seen.take();
    let operations: Vec<_> = all.iter().map(|seen| (seen.operation, seen.requests)).collect();
    assert_eq!(operations, [(Operation::Execute, 2), (Operation::WriteSnapshot, 1)]);
    assert_eq!(table.wire.take().len(), 3);

    let loaded = orders.load("1").await.unwrap();
    seen.one(&table);
    let command = CommandContext::new();
    let transaction = orders.transaction(&loaded, &command, [OrderEvent::Weighed(1.0)]).unwrap();
    transaction.commit().await.unwrap();
    is(&seen.one(&table), (Operation::Transaction, Outcome::Ok, 1, (0.0, append), (0, 1)));
}

#[tokio::test]
async fn conflicts_are_counted() {
    let table = TestTable::create().await;
    let (store, seen) = observed(&table);
    let order = stream("order-1");
    table.fill(&order, 2).await;
    table.wire.take();
    for expected in [NoStream, Exact(1)] {
        store.append(&order, expected, [event(1)]).await.unwrap_err();
        let seen = seen.take().remove(0);
        assert_eq!((seen.outcome, seen.requests, seen.conflicts), (Outcome::Conflict, 2, 1));
    }

    // This repository does not look for what is new before it decides.
    let id = "2";
    let stale = CacheSettings::new().staleness(Duration::from_hours(1));
    let stale = |attempts| {
        let orders = Repository::<Order>::builder(store.clone()).snapshots(Never).cache(stale);
        orders.execute_attempts(attempts).build()
    };
    let another = Repository::new(table.another().0);
    for (orders, outcome) in [(stale(2), Outcome::Ok), (stale(1), Outcome::Contended)] {
        orders.load(id).await.unwrap();
        fill(&another, id, [1]).await;
        seen.take();
        let _ = orders.execute(id, |order| order.add(1)).await;
        let seen = seen.take().remove(0);
        assert_eq!((seen.operation, seen.outcome, seen.conflicts), (Operation::Execute, outcome, 1));
        assert_eq!(seen.attempts, if outcome == Outcome::Ok { 2 } else { 1 });
    }
    let expecting = CommandContext::new().expecting(1);
    let result = stale(2).execute_with(id, &expecting, |order| order.add(1)).await;
    assert!(matches!(result, Err(ExecuteError::Conflict(_))));
    let seen = seen.take().remove(0);
    assert_eq!((seen.outcome, seen.attempts, seen.conflicts), (Outcome::Conflict, 0, 1));
}

#[tokio::test]
async fn an_operation_that_fails_is_observed_with_its_kind() {
    let table = TestTable::create().await;
    let (store, seen) = observed(&table);
    let order = stream("order-1");
    let outcome = || {
        let seen = seen.take();
        assert_eq!(seen.len(), 1);
        (seen[0].outcome, seen[0].requests)
    };
    store.append(&order, NoStream, []).await.unwrap_err();
    assert_eq!(outcome(), (Outcome::Invalid, 0));

    let put = Put::builder().table_name("missing").item("id", AttributeValue::S("1".to_owned())).build().unwrap();
    let item = TransactWriteItem::builder().put(put).build();
    store.transaction().append(&order, NoStream, [event(1)]).item(item).commit().await.unwrap_err();
    // The second asks whether the store's own table is there.
    assert_eq!(outcome(), (Outcome::Configuration, 2));

    table.fill(&order, 2).await;
    table.delete(&order, "event#00000000000000000001").await;
    store.read(&order).await.unwrap_err();
    assert_eq!(outcome().0, Outcome::Corrupt);

    table.wire.take();
    table.wire.lose_answers("Query", u32::MAX);
    store.position(&order).await.unwrap_err();
    assert_eq!(outcome(), (Outcome::Unavailable, 1));
    assert_eq!(table.wire.take().len(), 3, "the SDK has repeated the request");
}

#[tokio::test]
async fn an_operation_whose_future_is_dropped_is_observed_with_what_it_has_sent() {
    let table = TestTable::create().await;
    let (store, seen) = observed(&table);
    let order = stream("order-1");
    {
        let mut read = pin!(store.read(&order));
        let Poll::Pending = read.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("no answer yet")
        };
        assert_eq!(seen.take(), []);
    }
    is(&seen.take()[0], (Operation::Read, Outcome::Dropped, 1, (0.0, 0.0), (0, 0)));
}

#[tokio::test]
async fn an_observer_that_panics_is_in_nobodys_way() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let panics = EventStore::builder(table.store_client(), &table.name).observe(|_| panic!("on purpose")).build();
    let appended = panics.append(&order, NoStream, [event(1)]).await.unwrap();
    panics.append(&order, At(appended.position), [event(2)]).await.unwrap();
    let Err(Error::Conflict(_)) = panics.append(&order, NoStream, [event(1)]).await else { panic!("a conflict") };
    assert_eq!(table.store.read(&order).await.unwrap().position.version(), 2);
}
