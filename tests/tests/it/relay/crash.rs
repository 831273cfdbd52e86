//! A relay that is killed, again and again, in the middle of its work.

use nix::sys::signal::Signal;
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, stream},
    programs::{Process, run},
    unique,
};

const EVENTS_PER_STREAM: u64 = 40;
const KILLS: u64 = 10;

/// A relay finds at least this much, far more than it publishes before it is killed, however late the test notices what has come.
const BACKLOG: u64 = 800;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_relay_that_is_killed_ten_times_loses_nothing_and_keeps_the_order() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    // Each relay lives until a random number of further messages have come: wherever it is then, it dies there. Small
    // batches and few streams at a time make the backlog last for all of them.
    let mut streams = 0;
    for _ in 0..KILLS {
        while table.pending().await < BACKLOG {
            table.fill(&stream(&format!("order-{streams}")), EVENTS_PER_STREAM).await;
            streams += 1;
        }
        let relay = relay(&table, &url, &inbox);
        let lives_for = random.u64(0..BACKLOG / KILLS);
        for _ in 0..lives_for {
            inbox.next().await;
        }
        let killed = relay.kill().await;
        assert_eq!(killed.code(), None, "it was still at work:\n{}", killed.stderr);
    }
    let all = streams * EVENTS_PER_STREAM;
    assert!(table.pending().await > 0, "the last one was killed before it was done");

    let arguments = ["drain", "--exchange", inbox.exchange(), "--format", "json"];
    let drained = run("streambox-relay", Some(&table), Some(&url), arguments).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    let tally = inbox.receive_rest().await.unwrap();
    println!("{} distinct, {} duplicates", tally.distinct(), tally.duplicates());
    assert_eq!(tally.distinct(), all, "every event arrives");
    assert_eq!(tally.order_violations(), [], "first deliveries are in order");
    assert_eq!(table.pending().await, 0);
    inbox.close().await.unwrap();
}

fn relay(table: &TestTable, url: &str, inbox: &Inbox) -> Process {
    // Under one name: the next one takes over what the last one left, instead of waiting until it is taken for dead.
    let arguments = ["run", "--exchange", inbox.exchange(), "--batch-events", "8", "--max-streams", "16"];
    let arguments = arguments.into_iter().chain(["--worker-id", "relay-1"]);
    Process::start("streambox-relay", Some(table), Some(url), arguments)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_relay_that_is_told_to_stop_finishes_what_is_in_flight() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let table = TestTable::create().await;
        let url = shared_broker_url();
        let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
        for number in 0..10 {
            table.fill(&stream(&format!("order-{number}")), 20).await;
        }
        let relay = relay(&table, &url, &inbox);
        inbox.next().await;
        relay.signal(signal);
        let stopped = relay.finish().await;
        assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);

        // What was confirmed was deleted too: nothing is published twice by the next relay.
        let arguments = ["drain", "--exchange", inbox.exchange()];
        let drained = run("streambox-relay", Some(&table), Some(&url), arguments).await;
        assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
        let tally = inbox.receive_rest().await.unwrap();
        assert_eq!((tally.distinct(), tally.duplicates(), tally.order_violations().len()), (200, 0, 0));
        inbox.close().await.unwrap();
    }
}
