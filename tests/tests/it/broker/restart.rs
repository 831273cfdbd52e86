//! RabbitMQ goes away and comes back while the relay publishes.

use std::cell::Cell;

use nix::sys::signal::Signal;
use streambox::ExpectedVersion::Any;
use streambox_tests::{
    broker::{Inbox, OwnBroker},
    engine::{TestTable, event, stream},
    programs::Process,
    unique,
};

const STREAMS: u64 = 30;
const EVENTS_PER_STREAM: u64 = 40;

/// Appends until something has happened, so that the relay is at work all the while. Returns how many events.
async fn appending_until(table: &TestTable, happens: impl Future<Output = ()>) -> u64 {
    let has_happened = Cell::new(false);
    let append = async {
        let mut events = 0;
        while !has_happened.get() {
            let order = stream(&format!("order-{}", events % STREAMS));
            table.store.append(&order, Any, [event(events)]).await.expect("the append works");
            events += 1;
        }
        events
    };
    let happens = async {
        happens.await;
        has_happened.set(true);
    };
    tokio::join!(append, happens).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_broker_that_is_stopped_killed_and_started_again_gets_every_event_in_order() {
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    for number in 0..STREAMS {
        table.fill(&stream(&format!("order-{number}")), EVENTS_PER_STREAM).await;
    }
    let mut all = STREAMS * EVENTS_PER_STREAM;
    let arguments = ["run", "--exchange", inbox.exchange(), "--batch-events", "4", "--max-streams", "8"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);

    inbox.receive_distinct(all / 10).await;
    all += appending_until(&table, broker.stop()).await;
    relay.logs("no connection to the broker").await;
    assert!(table.pending().await > 0, "the broker was stopped in the middle");
    broker.start_again().await;

    let so_far = inbox.tally().distinct();
    inbox.receive_distinct(so_far + all / 10).await;
    all += appending_until(&table, broker.kill()).await;
    assert!(table.pending().await > 0, "the broker was killed in the middle");
    broker.start_again().await;

    inbox.receive_distinct(all).await;
    relay.signal(Signal::SIGTERM);
    let stopped = relay.finish().await;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.order_violations()), (all, [].as_slice()));
    assert_eq!(table.pending().await, 0);
}
