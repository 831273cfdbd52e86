//! Many writers, one stream.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use streambox::{Error, EventStore, ExpectedVersion};
use streambox_tests::{
    PATIENCE,
    engine::{TestTable, event, stream},
};
use tokio::task::JoinSet;

const WRITERS: u64 = 8;
const APPENDS: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g2_writers_that_race_on_one_stream_write_one_history() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let left = Arc::new(AtomicU64::new(APPENDS));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let ((store, _), order, left) = (table.another(), order.clone(), Arc::clone(&left));
        writers.spawn(async move {
            let mut conflicts = 0_u64;
            let mut appended = Vec::new();
            let mut position = store.read(&order).await.unwrap().position;
            while left.load(Ordering::SeqCst) > 0 {
                // An append of one to three events, at the place that this writer knows.
                let events: Vec<_> = (0..=appended.len() as u64 % 3).map(|_| event(writer)).collect();
                match store.append(&order, ExpectedVersion::At(position.clone()), events).await {
                    Ok(stored) => {
                        let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                        appended.push((stored.append_id, stored.first_version, stored.position.version()));
                        position = stored.position;
                    }
                    Err(Error::Conflict(conflict)) => {
                        assert!(conflict.current.version() > position.version(), "a conflict is with something newer");
                        conflicts += 1;
                        position = conflict.current.clone();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (appended, conflicts)
        });
    }
    let results = writers.join_all().await;

    let conflicts: u64 = results.iter().map(|(_, conflicts)| conflicts).sum();
    assert!(conflicts > 0, "the writers met");
    let mut appends: Vec<_> = results.into_iter().flat_map(|(appended, _)| appended).collect();
    appends.sort_by_key(|&(_, first, _)| first);
    assert!(appends.len() as u64 >= APPENDS);

    let history = table.store.read(&order).await.unwrap();
    let versions: Vec<_> = history.events.iter().map(|event| event.version).collect();
    assert_eq!(versions, (1..=history.events.len() as u64).collect::<Vec<_>>());
    let mut stored: Vec<_> =
        history.events.iter().map(|event| (event.append.id, event.append.first, event.append.last)).collect();
    stored.dedup();
    assert_eq!(stored, appends, "what the writers were told is what is there, and nothing else");
    assert_eq!(table.pending().await, appends.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g2_appends_at_any_version_all_find_a_place() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        // However long it takes: a slow engine is no reason to give up here.
        let store = EventStore::builder(table.client(), &table.name).operation_timeout(PATIENCE).build();
        let order = order.clone();
        writers.spawn(async move {
            for _ in 0..5 {
                store.append(&order, ExpectedVersion::Any, [event(writer)]).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let history = table.store.read(&order).await.unwrap();
    let versions: Vec<_> = history.events.iter().map(|event| event.version).collect();
    assert_eq!(versions, (1..=WRITERS * 5).collect::<Vec<_>>());
}
