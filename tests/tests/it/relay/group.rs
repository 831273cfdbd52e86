//! Several relays on one table: they share the streams, and whatever happens to one of them, nothing is lost and the order
//! of first deliveries holds.

use std::{future::pending, time::Duration};

use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use streambox::{
    EventStore,
    ExpectedVersion::Any,
    StreamId,
    outbox::{WorkerId, WorkerRow},
};
use streambox_relay::{
    RelaySettings, Telemetry, Until,
    broker::BrokerSettings,
    core::{Bounds, GroupSettings},
    run_observed,
};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    metering::Metering,
    programs::{Finished, Process, run},
    unique,
    wire::Wire,
};
use tokio::{sync::oneshot, task::JoinHandle};

const STREAMS: u64 = 16;

/// After this time without a heartbeat a relay is taken for dead.
const SOON: &str = "1000";
/// In a test in which nobody is taken for dead.
const NEVER: &str = "600000";

/// A relay that beats five times a second.
fn relay(table: &TestTable, inbox: &Inbox, id: &str, timeout_ms: &str) -> Process {
    let arguments = ["run", "--exchange", inbox.exchange(), "--worker-id", id, "--heartbeat-interval-ms", "200"];
    // Small batches and few streams at a time make a backlog last for a while.
    let slowly = ["--worker-timeout-ms", timeout_ms, "--batch-events", "4", "--max-streams", "8"];
    let arguments = arguments.iter().chain(&slowly);
    Process::start("streambox-relay", Some(table), Some(&shared_broker_url()), arguments)
}

/// What a relay logs when it sees these members, and no others.
fn sees(ids: &[&str]) -> String {
    format!("{:?}", ids.iter().map(|id| WorkerId::new(id).expect("a valid id")).collect::<Vec<_>>())
}

async fn start(table: &TestTable, inbox: &Inbox, ids: &[&str]) -> Vec<Process> {
    let mut relays: Vec<_> = ids.iter().map(|id| relay(table, inbox, id, SOON)).collect();
    for relay in &mut relays {
        relay.logs(&sees(ids)).await;
    }
    relays
}

fn streams() -> Vec<StreamId> {
    (0..STREAMS).map(|number| stream(&format!("order-{number}"))).collect()
}

/// Appends to every stream, one event at a time.
async fn append(store: &EventStore, events: u64) {
    for number in 0..events {
        let appends =
            streams().into_iter().map(|stream| async move { store.append(&stream, Any, [event(number)]).await });
        try_join_all(appends).await.expect("the appends work");
    }
}

async fn stop(relays: Vec<Process>) {
    for relay in &relays {
        relay.signal(Signal::SIGTERM);
    }
    for relay in relays {
        let Finished { status, stderr, .. } = relay.finish().await;
        assert!(status.success(), "{stderr}");
    }
}

/// Everything has come, in order, and nothing is pending.
async fn check(table: &TestTable, mut inbox: Inbox, events_per_stream: u64) -> u64 {
    inbox.receive_distinct(STREAMS * events_per_stream).await;
    let tally = inbox.receive_rest().await.expect("the broker is there");
    assert_eq!((tally.distinct(), tally.order_violations()), (STREAMS * events_per_stream, [].as_slice()));
    assert_eq!(table.pending().await, 0);
    let duplicates = tally.duplicates();
    inbox.close().await.expect("the broker is there");
    duplicates
}

async fn rows(table: &TestTable) -> Vec<String> {
    let rows = table.store.outbox().workers().await.expect("the engine answers");
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_one_of_three_relays_is_killed_and_a_fourth_one_joins() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let mut relays = start(&table, &inbox, &["a", "b", "c"]).await;
    append(&table.store, 10).await;
    inbox.next().await;
    let killed = relays.remove(1).kill().await;
    assert_eq!(killed.code(), None);
    append(&table.store, 10).await;
    for relay in &mut relays {
        relay.logs(&sees(&["a", "c"])).await;
    }
    relays.push(relay(&table, &inbox, "d", SOON));
    append(&table.store, 10).await;
    for relay in &mut relays {
        relay.logs(&sees(&["a", "c", "d"])).await;
    }
    inbox.receive_distinct(STREAMS * 30).await;
    stop(relays).await;
    check(&table, inbox, 30).await;
    assert_eq!(
        rows(&table).await,
        [""; 0],
        "a worker that stops removes its row; others remove the row of a killed one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_the_dead_are_removed_so_that_a_worker_that_starts_anew_shares_with_the_living_alone() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    for dead in ["b", "c", "d"] {
        table.store.outbox().put_worker(&WorkerRow::new(WorkerId::new(dead).unwrap(), 7)).await.unwrap();
    }
    let mut lives = relay(&table, &inbox, "a", SOON);
    lives.logs(&sees(&["a", "b", "c", "d"])).await;
    lives.logs(&sees(&["a"])).await;
    lives.logs_times("its row is removed", 3).await;
    // They are removed one after the other; each heartbeat asks again for what is still there.
    while rows(&table).await != ["a"] {
        tokio::task::yield_now().await;
    }
    lives.kill().await;
    // By its own clock nobody would be dead before the end of the test.
    let again = relay(&table, &inbox, "a", NEVER);
    append(&table.store, 2).await;
    inbox.receive_distinct(STREAMS * 2).await;
    again.signal(Signal::SIGTERM);
    let finished = again.finish().await;
    assert!(finished.status.success() && !finished.stderr.contains("the group has changed"), "{}", finished.stderr);
    check(&table, inbox, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_relay_that_stands_still_until_it_is_taken_for_dead_and_goes_on_changes_no_order() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let mut relays = start(&table, &inbox, &["a", "b"]).await;
    append(&table.store, 20).await;
    inbox.receive_distinct(STREAMS).await;
    relays[0].signal(Signal::SIGSTOP);
    append(&table.store, 10).await;
    relays[1].logs("[WorkerId(b)]").await;
    // The other one publishes its streams, too, far beyond what the one that stands still holds.
    inbox.receive_distinct(STREAMS * 30).await;
    append(&table.store, 10).await;
    relays[0].signal(Signal::SIGCONT);
    append(&table.store, 10).await;
    inbox.receive_distinct(STREAMS * 50).await;
    // It is alive again to the other one.
    relays[1].logs_times(&sees(&["a", "b"]), 2).await;
    stop(relays).await;
    check(&table, inbox, 50).await;
    assert_eq!(rows(&table).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_two_relays_under_one_name_and_a_drain_beside_them_cost_duplicates_and_never_the_order() {
    let table = TestTable::create().await;
    let inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    append(&table.store, 10).await;
    let mut relays = vec![relay(&table, &inbox, "a", SOON), relay(&table, &inbox, "a", SOON)];
    let arguments = ["drain", "--exchange", inbox.exchange(), "--batch-events", "4"];
    let drain = Process::start("streambox-relay", Some(&table), Some(&shared_broker_url()), arguments);
    append(&table.store, 10).await;
    assert_eq!(drain.finish().await.code(), Some(0));
    // Each finds the beat of the other one in its row, sooner or later.
    for relay in &mut relays {
        relay.logs("another worker runs under this id").await;
    }
    stop(relays).await;
    // What the two had not published when they were stopped.
    let url = shared_broker_url();
    let drained = run("streambox-relay", Some(&table), Some(&url), ["drain", "--exchange", inbox.exchange()]).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    check(&table, inbox, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_told_to_stop_leaves_its_streams_to_the_others_at_once() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let leaves = relay(&table, &inbox, "a", NEVER);
    let mut stays = relay(&table, &inbox, "b", NEVER);
    stays.logs(&sees(&["a", "b"])).await;
    stop(vec![leaves]).await;
    assert_eq!(rows(&table).await, ["b"]);
    append(&table.store, 1).await;
    inbox.receive_distinct(STREAMS).await;
    stop(vec![stays]).await;
    check(&table, inbox, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_killed_and_comes_back_under_its_name_has_its_streams_at_once() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let (mut stays, killed) = (relay(&table, &inbox, "a", NEVER), relay(&table, &inbox, "b", NEVER));
    stays.logs(&sees(&["a", "b"])).await;
    killed.kill().await;
    let back = relay(&table, &inbox, "b", NEVER);
    append(&table.store, 3).await;
    inbox.receive_distinct(STREAMS * 3).await;
    stop(vec![stays, back]).await;
    check(&table, inbox, 3).await;
}

/// A relay in this process, with a wire of its own to the table.
struct Worker {
    wire: Wire,
    telemetry: Telemetry,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<streambox_relay::RunSummary, streambox_relay::RelayError>>,
}

fn settings(inbox: &Inbox, group: Option<GroupSettings>) -> RelaySettings {
    RelaySettings {
        broker: BrokerSettings::new(shared_broker_url().parse().expect("a valid URL"), inbox.exchange().into()),
        publishers: 1,
        poll_interval: Duration::from_millis(20),
        busy_poll_interval: Duration::from_millis(20),
        drain_timeout: Duration::from_secs(10),
        bounds: Bounds::default(),
        group,
    }
}

impl Worker {
    fn start(table: &TestTable, inbox: &Inbox, id: &str) -> Self {
        let (store, wire) = table.another();
        let mut group = GroupSettings::new(WorkerId::new(id).expect("a valid id"));
        group.heartbeat_interval = Duration::from_millis(100);
        let settings = settings(inbox, Some(group));
        let (telemetry, (stop, stopped)) = (Telemetry::default(), oneshot::channel());
        let told = telemetry.clone();
        let running = tokio::spawn(async move {
            let stopped = async { _ = stopped.await };
            run_observed(&store, settings, &told, Until::Stopped, stopped).await
        });
        Self { wire, telemetry, stop, running }
    }

    /// Waits until it sees this many members.
    async fn sees(&self, members: usize) {
        let mut watch = self.telemetry.watch();
        let sees = watch.wait_for(|snapshot| snapshot.workers.len() == members);
        sees.await.expect("the relay runs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_group_shares_the_work_publishes_nothing_twice_and_makes_no_write_that_is_refused() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let workers: Vec<_> = ["a", "b", "c"].map(|id| Worker::start(&table, &inbox, id)).into();
    for worker in &workers {
        worker.sees(3).await;
    }
    append(&table.store, 5).await;
    inbox.receive_distinct(STREAMS * 5).await;
    let mut published = Vec::new();
    for Worker { wire, stop, running, .. } in workers {
        stop.send(()).expect("the relay runs");
        published.push(running.await.expect("the relay ends").expect("the table is there").published);
        for exchange in wire.take() {
            assert!(exchange.answer["__type"].is_null(), "refused: {exchange:?}");
            let condition = &exchange.request["ConditionExpression"];
            assert!(condition.is_null(), "a condition may fail: {exchange:?}");
            let is_of_workers = exchange.request["KeyConditionExpression"].to_string().contains(":worker");
            let expected = match exchange.operation.as_str() {
                // The first look at the group, before anybody has written a row.
                "Query" if is_of_workers && exchange.answer["Count"] == 0 => Metering::of_tests().empty_read(1.0),
                "Query" if is_of_workers => 1.0,
                "PutItem" => 1.0,
                _ => continue,
            };
            assert!((exchange.units - expected).abs() < 1e-9, "a heartbeat is one write and one read: {exchange:?}");
        }
    }
    assert!(published.iter().all(|events| *events > 0), "each has its share: {published:?}");
    assert_eq!(published.iter().sum::<u64>(), STREAMS * 5);
    assert_eq!(check(&table, inbox, 5).await, 0, "duplicates");
    assert_eq!(rows(&table).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_a_writer_whose_clock_was_set_back_20_minutes_does_not_spare_the_proof_of_its_append() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let order = stream("order-0");
    let set_back = EventStore::builder(table.client(), &table.name)
        .clock(|| std::time::SystemTime::now() - Duration::from_mins(20))
        .build();
    let mut next = 0;
    for store in [&table.store, &set_back, &table.store] {
        next += 1;
        store.append(&order, Any, [event(next)]).await.unwrap();
    }
    table.wire.take();
    // The append with the early time is half visible: the Query shows what comes behind it.
    table.wire.hide("pending#00000000000000000002", 3);
    let report = streambox_relay::run(&table.store, settings(&inbox, None), Until::Drained, pending()).await.unwrap();
    assert!(report.drained && report.published == 3, "{report:?}");
    let proofs = table.wire.take().into_iter().filter(|exchange| exchange.operation == "TransactGetItems").count();
    assert_eq!(proofs, 3, "the 20 minutes between the two times are believed by nobody");
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.order_violations().len()), (3, 0));
    inbox.close().await.unwrap();
}
