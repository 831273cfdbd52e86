//! Items of format 1, frozen as files: whatever becomes of the library and of the relay, they read them as they were meant.

use futures_util::TryStreamExt as _;
use streambox::{
    ExpectedVersion::{At, Exact},
    ReadOptions, ScanOptions, Uuid,
};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{event, stream},
    programs::run,
    unique,
};

use super::{assert_receives, drain, expected, golden_table, streams, unpublished};

#[tokio::test]
async fn u1_every_event_is_read_as_it_was_appended_in_either_direction_and_by_a_scan() {
    let (table, expected) = (golden_table().await, expected());
    for id in streams() {
        let order = stream(&id);
        let of_stream: Vec<_> = expected.iter().filter(|event| event.stream() == id).collect();
        let history = table.store.read(&order).await.unwrap();
        assert_eq!(history.events.len(), of_stream.len());
        history.events.iter().zip(&of_stream).for_each(|(event, expected)| expected.assert_is(event));
        let backward: Vec<_> = table.store.read_stream(&order, ReadOptions::backward()).try_collect().await.unwrap();
        backward.iter().rev().zip(&of_stream).for_each(|(event, expected)| expected.assert_is(event));
        assert_eq!(backward.len(), of_stream.len());
    }
    let mut scanned: Vec<_> = table.store.scan_events(&ScanOptions::new()).unwrap().try_collect().await.unwrap();
    scanned.sort_by(|a, b| (a.stream_id.as_str(), a.version).cmp(&(b.stream_id.as_str(), b.version)));
    assert_eq!(scanned.len(), expected.len());
    scanned.iter().zip(&expected).for_each(|(event, expected)| expected.assert_is(event));
}

#[tokio::test]
async fn u1_u6_workers_skips_and_a_snapshot_are_read_and_verify_finds_nothing() {
    let table = golden_table().await;
    let mut load = table.store.load_snapshot(&stream("order-4714"), |_| true).await.unwrap();
    let snapshot = load.snapshot().expect("it is whole, and of this history");
    assert_eq!((snapshot.version, snapshot.body.as_str()), (1, r#"{"total_cents":7}"#));
    assert_eq!(load.next_page().await.unwrap().map(|events| events[0].version), Some(2));
    let workers = table.store.outbox().workers().await.unwrap();
    assert_eq!((workers[0].id.as_str(), workers[0].beat, workers[0].live_workers), ("relay-1", 42, 3));
    assert_eq!((workers[0].halted[0].stream_id.as_str(), workers[0].halted[0].attempts), ("permit-1", 4));
    let skips = table.store.outbox().skips(10).await.unwrap();
    assert_eq!((skips[0].stream_id.as_str(), skips[0].first, skips[0].last), ("order-9", Some(3), 5));
    let verified = run("streambox", Some(&table), None, ["verify"]).await;
    assert_eq!(verified.code(), Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn g3_u1_an_append_goes_on_behind_old_events_and_a_repeat_of_an_old_one_is_known() {
    let table = golden_table().await;
    for (id, previous) in [("order-4711", "4"), ("order-4712", "4"), ("order-4713", "1")] {
        let order = stream(id);
        let end = table.store.position(&order).await.unwrap();
        table.wire.take();
        table.store.append(&order, At(end), [event(1)]).await.unwrap();
        let sent = table.wire.take();
        let puts = sent[0].request["TransactItems"].as_array().expect("a transaction");
        let entry = &puts.last().expect("a pending entry")["Put"]["Item"];
        assert_eq!(entry["previous_version"]["N"], previous, "the last public version before");
    }
    let old = Uuid::parse_str("0197a3c2-5b1e-7d44-9f0a-000000000002").unwrap();
    let lines = (1..=2).map(event);
    let repeated = table.store.append_with_id(old, &stream("order-4711"), Exact(1), lines).await.unwrap();
    assert!(repeated.already_stored && repeated.first_version == 2 && repeated.position.version() == 3, "{repeated:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_u1_a_relay_publishes_old_entries_byte_for_byte_in_order_and_deletes_them() {
    let (table, url) = (golden_table().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let drained = drain(&table, &url, &inbox).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    assert_receives(&mut inbox, unpublished()).await;
    assert_eq!(inbox.receive_rest().await.unwrap().duplicates(), 0);
    assert_eq!(table.pending().await, 0);
    inbox.close().await.unwrap();
}
