//! What a relay reports to observers, and what its row shows of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use streambox::outbox::WorkerId;
use streambox_relay::{
    RelaySettings, Telemetry, Until,
    broker::BrokerSettings,
    core::{Bounds, GroupSettings},
    model::{HaltedStream, Request},
    run_observed,
    telemetry::{Observer, PublishedBatch},
};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, stream},
    unique,
};
use tokio::sync::oneshot;

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn add(&self, what: String) {
        self.0.lock().expect("no observer has panicked").push(what);
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().expect("no observer has panicked").iter().filter(|seen| seen.starts_with(what)).count()
    }
}

impl Observer for Seen {
    fn batch_published(&self, batch: &PublishedBatch) {
        self.add(format!("{} confirmed, {} refused", batch.confirmed, batch.refused));
    }

    fn stream_halted(&self, halt: &HaltedStream) {
        self.add(format!("{} halted at {}", halt.stream, halt.version));
    }

    fn stream_resumed(&self, stream: &streambox::StreamId) {
        self.add(format!("{stream} resumed"));
    }

    fn request_failed(&self, request: Request) {
        self.add(format!("{} failed", request.name()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_halted_stream_is_told_in_the_snapshot_to_the_observer_and_in_the_workers_row_and_so_is_its_end() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("permit-1"), 2).await;
    table.fill(&stream("order-1"), 3).await;
    // A request fails, too: as often as the SDK tries it.
    table.wire.lose_answers("BatchWriteItem", 3);

    let mut group = GroupSettings::new(WorkerId::new("relay-1").unwrap());
    group.heartbeat_interval = Duration::from_millis(100);
    let broker = BrokerSettings::new(url.parse().unwrap(), inbox.exchange().into());
    let settings = RelaySettings {
        broker,
        publishers: 1,
        poll_interval: Duration::from_millis(20),
        busy_poll_interval: Duration::from_millis(20),
        drain_timeout: Duration::from_secs(10),
        bounds: Bounds { first_delay: Duration::from_millis(50), ..Bounds::default() },
        group: Some(group),
    };
    let seen = Arc::new(Seen::default());
    let telemetry = Telemetry::new(vec![Arc::clone(&seen) as _]);
    let (stop, stopped) = oneshot::channel::<()>();
    let (store, told) = (table.store.clone(), telemetry.clone());
    let running = tokio::spawn(async move {
        run_observed(&store, settings, &told, Until::Stopped, async { _ = stopped.await }).await
    });

    let mut watch = telemetry.watch();
    let halted = watch.wait_for(|snapshot| snapshot.halted.first().is_some_and(|halt| halt.attempts > 1));
    let snapshot = halted.await.expect("the relay runs").clone();
    let halt = &snapshot.halted[0];
    assert_eq!((halt.stream.as_str(), halt.version, snapshot.halted_streams), ("permit-1", 1, 1));
    assert!(halt.reason.contains("permit.Counted") && Some(halt.since_ms) < halt.retry_at_ms, "{halt:?}");
    assert_eq!(snapshot.workers, ["relay-1"]);

    // The row shows the same with one of the next heartbeats.
    let row = loop {
        let rows = table.client();
        let rows = streambox::EventStore::new(rows, &table.name).outbox().workers().await.unwrap();
        match rows.into_iter().next() {
            Some(row) if row.halted_streams == 1 => break row,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!((row.id.as_str(), row.live_workers, row.beat_interval_ms), ("relay-1", 1, 100));
    assert_eq!((row.halted[0].stream_id.as_str(), row.halted[0].version), ("permit-1", 1));
    assert!(row.process_id > 0 && !row.host.is_empty() && row.started_at_ms <= row.halted[0].since_ms, "{row:?}");

    let mut permits = Inbox::bound(&url, inbox.exchange(), "permit.#").await.unwrap();
    permits.receive_distinct(2).await;
    let idle = watch.wait_for(|snapshot| {
        let is_empty = snapshot.backlog.is_some_and(|backlog| !backlog.at_least && backlog.entries == 0);
        // A look that began before the last deletion may still have a stream open.
        let is_idle = snapshot.open_streams == 0 && snapshot.deletes_waiting == 0;
        snapshot.halted.is_empty() && is_empty && is_idle && snapshot.totals.deleted == 5
    });
    let snapshot = idle.await.expect("the relay runs").clone();
    assert_eq!(snapshot.totals.published, 5);
    assert_eq!(snapshot.last_error.as_ref().map(|error| error.request), Some(Request::Delete));
    assert!(seen.count("permit-1 halted at 1") > 1);
    assert_eq!((seen.count("permit-1 resumed"), seen.count("delete failed")), (1, 1));
    assert!(seen.count("1 confirmed, 0 refused") > 0 && seen.count("0 confirmed, 1 refused") > 0);

    stop.send(()).expect("the relay runs");
    running.await.unwrap().unwrap();
    assert_eq!(inbox.receive_rest().await.unwrap().distinct(), 3);
    permits.close().await.unwrap();
}
