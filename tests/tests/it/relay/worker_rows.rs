//! The rows of relay workers in the table: what stands there, and what a heartbeat costs.

use streambox::outbox::{HaltedStream, WorkerId, WorkerRow};
use streambox_tests::engine::{TestTable, stream};

fn row(id: &str, beat: u64) -> WorkerRow {
    WorkerRow::new(WorkerId::new(id).expect("a valid id"), beat)
}

#[tokio::test]
async fn rows_are_put_again_and_again_read_together_and_removed() {
    let table = TestTable::create().await;
    let outbox = table.store.outbox();
    assert_eq!(outbox.workers().await.unwrap(), []);
    outbox.put_worker(&row("b", 1)).await.unwrap();
    outbox.put_worker(&row("a", 1)).await.unwrap();
    outbox.put_worker(&row("b", 2)).await.unwrap();
    assert_eq!(outbox.workers().await.unwrap(), [row("a", 1), row("b", 2)]);

    let a = WorkerId::new("a").unwrap();
    outbox.remove_worker(&a).await.unwrap();
    outbox.remove_worker(&a).await.unwrap();
    assert_eq!(outbox.workers().await.unwrap(), [row("b", 2)]);
}

#[tokio::test]
async fn a_heartbeat_is_one_write_unit_or_up_to_four_while_streams_are_halted_and_reading_the_workers_one_read_unit() {
    let table = TestTable::create().await;
    let outbox = table.store.outbox();
    let mut full = row(&"w".repeat(128), 1);
    full.last_error = Some("no answer".repeat(100));
    outbox.put_worker(&full).await.unwrap();
    full.halted = (0..100).map(|id| HaltedStream::new(stream(&format!("order-{id}")), 1, "no queue", 0, 1)).collect();
    outbox.put_worker(&full).await.unwrap();
    outbox.workers().await.unwrap();
    outbox.remove_worker(&full.id).await.unwrap();
    let costs = table.wire.take_costs();
    let expected = [("PutItem", 1.0), ("PutItem", 4.0), ("Query", 1.0), ("DeleteItem", 4.0)];
    assert_eq!(costs, expected.map(|(operation, units)| (operation.to_owned(), units)));
}

#[tokio::test]
async fn a_worker_is_no_stream_and_nothing_pending() {
    let table = TestTable::create().await;
    let outbox = table.store.outbox();
    outbox.put_worker(&row("a", 1)).await.unwrap();
    assert_eq!(outbox.scan(None, 10).await.unwrap().streams, []);
}
