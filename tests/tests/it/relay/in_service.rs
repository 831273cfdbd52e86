//! A relay inside of a service: woken by the service's appends, and a member of the group as any other.

use std::time::Duration;

use nix::sys::signal::Signal;
use streambox::{EventStore, ExpectedVersion::Any, outbox::WorkerId};
use streambox_relay::{Relay, RelayBuilder, RelayError, RelayStatus};
use streambox_tests::{
    PATIENCE,
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    programs::{Process, run},
    unique,
    wire::Wire,
};
use tokio::time::timeout;

/// Longer than any test: after its first look the relay knows only what it is woken for.
const NEVER: Duration = Duration::from_mins(1);

const STREAMS: u64 = 16;

/// A relay with a wire of its own, which looks at the index once.
fn relay(table: &TestTable, inbox: &Inbox) -> (RelayBuilder, Wire) {
    let (store, wire) = table.another();
    let builder = Relay::builder(store, shared_broker_url()).exchange(inbox.exchange()).poll_interval(NEVER);
    (builder.busy_poll_interval(NEVER).heartbeat_interval(Duration::from_millis(200)), wire)
}

/// The store of a service whose appends wake the relay.
fn waking(table: &TestTable, relay: &Relay) -> EventStore {
    EventStore::builder(table.client(), &table.name).on_append(relay.waker()).build()
}

/// Waits until the relay says so of itself. It gives no signal, so this asks again and again.
async fn until(relay: &Relay, says: impl Fn(&RelayStatus) -> bool) {
    let reached = async {
        while !says(&relay.status()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{:?}", relay.status()));
}

async fn workers(table: &TestTable) -> Vec<String> {
    let rows = table.store.outbox().workers().await.expect("the engine answers");
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

fn looks(wire: &Wire) -> usize {
    wire.take().iter().filter(|exchange| exchange.operation == "Scan").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_an_append_wakes_the_relay_which_publishes_in_order_without_a_look_at_the_index() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let (builder, wire) = relay(&table, &inbox);
    let relay = builder.worker_id("in-service").spawn().unwrap();
    until(&relay, |status| status.is_ready() && status.workers == ["in-service"]).await;
    assert!(looks(&wire) > 0);

    let store = waking(&table, &relay);
    for number in 1..=20 {
        store.append(&stream("order-1"), Any, [event(number)]).await.unwrap();
    }
    store.append(&stream("order-2"), Any, [event(1), event(2)]).await.unwrap();
    inbox.receive_distinct(22).await;
    assert_eq!(inbox.tally().order_violations(), []);
    table.wait_for_nothing_pending().await;
    assert_eq!(looks(&wire), 0);

    let summary = relay.stop().await.unwrap();
    assert_eq!((summary.published, summary.entries_deleted), (22, 21));
    assert_eq!(workers(&table).await, [""; 0], "it has left the group");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_relay_in_a_service_shares_the_streams_with_a_program_which_has_them_all_when_it_has_stopped() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--worker-id", "program", "--heartbeat-interval", "200ms"];
    let mut program = Process::start("streambox-relay", Some(&table), Some(&shared_broker_url()), arguments);
    let relay = relay(&table, &inbox).0.worker_id("in-service").spawn().unwrap();
    until(&relay, |status| status.workers == ["in-service", "program"]).await;
    program.logs(&format!("{:?}", ["in-service", "program"].map(|id| WorkerId::new(id).unwrap()))).await;

    let store = waking(&table, &relay);
    let append = async |number: u64| {
        for order in 0..STREAMS {
            store.append(&stream(&format!("order-{order}")), Any, [event(number)]).await.unwrap();
        }
    };
    append(1).await;
    append(2).await;
    inbox.receive_distinct(2 * STREAMS).await;
    table.wait_for_nothing_pending().await;
    let published = relay.stop().await.unwrap().published;
    assert!(published > 0 && published < 2 * STREAMS, "each has its share: {published} of {}", 2 * STREAMS);
    assert_eq!(workers(&table).await, ["program"]);
    // Its appends still wake a relay that is not there any more.
    append(3).await;
    inbox.receive_distinct(3 * STREAMS).await;
    program.signal(Signal::SIGTERM);
    assert!(program.finish().await.status.success());
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates(), tally.order_violations()), (3 * STREAMS, 0, [].as_slice()));
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_handle_is_dropped_leaves_its_group() {
    let table = TestTable::create().await;
    let inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let relay = relay(&table, &inbox).0.worker_id("in-service").spawn().unwrap();
    until(&relay, |status| status.workers == ["in-service"]).await;
    drop(relay);
    let left = async {
        while !workers(&table).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, left).await.expect("it leaves");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_table_ends_and_says_so() {
    let table = TestTable::create().await;
    let inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let store = EventStore::new(table.client(), "no-such-table");
    let mut relay = Relay::builder(store, shared_broker_url()).exchange(inbox.exchange()).spawn().unwrap();
    assert!(matches!(relay.ended().await, RelayError::Store(_)));
    assert_eq!(relay.status().not_ready[0], "the relay has ended");
    assert!(relay.stop().await.is_err());
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_a_service_with_its_relay_publishes_what_it_appends() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    // The exchange's default name: its own table is what keeps it apart from others.
    let finished = run("examples/service_with_relay", Some(&table), Some(&url), ["order-1", "order-2"]).await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stdout.starts_with("placed order-1\nplaced order-2\npublished "), "{}", finished.stdout);
    assert_eq!(workers(&table).await, [""; 0]);
}
