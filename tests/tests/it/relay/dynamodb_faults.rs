//! Everything that can go wrong between a program and DynamoDB, with the relay as a process, a real broker behind it, and
//! appends that go on meanwhile.
//!
//! Every test ends with everything received, first deliveries in order, and nothing pending.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use streambox::{ExpectedVersion, outbox::PendingKey};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    fault::{self, Exchange},
    programs::{Finished, Process},
    proxy::{Gate, Passage, Proxy, Refusal},
    tally::Tally,
    unique,
};
use tokio::task::JoinHandle;

const STREAMS: u64 = 12;
const EVENTS_PER_STREAM: u64 = 6;

/// What a test has set up: a table with a backlog, a proxy before it, an exchange with an inbox, the relay, and a writer.
struct Stage {
    table: TestTable,
    proxy: Proxy,
    inbox: Inbox,
    relay: Process,
    writer: Writer,
}

impl Stage {
    /// Everything but the relay runs; `prepare` sets the faults.
    async fn set(prepare: impl FnOnce(&Proxy)) -> Self {
        let table = TestTable::create().await;
        for number in 0..STREAMS {
            table.fill(&stream(&format!("order-{number}")), EVENTS_PER_STREAM).await;
        }
        let proxy = Proxy::start(table.url()).await;
        prepare(&proxy);
        let url = shared_broker_url();
        let inbox = Inbox::open(&url, &unique("events")).await.expect("the broker answers");
        let arguments = ["run", "--exchange", inbox.exchange(), "--poll-interval-ms", "50", "--max-streams", "8"];
        let relay = Process::start("streambox-relay", Some(&table.through(proxy.url())), Some(&url), arguments);
        let writer = Writer::start(&table);
        Self { table, proxy, inbox, relay, writer }
    }

    /// Waits until everything has come, and stops the relay.
    async fn end(mut self) -> (Tally, Finished) {
        let all = STREAMS * EVENTS_PER_STREAM + self.writer.stop().await;
        self.inbox.receive_distinct(all).await;
        // What was published may still have to be deleted, against the faults.
        self.table.wait_for_nothing_pending().await;
        self.relay.signal(Signal::SIGTERM);
        let finished = self.relay.finish().await;
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        let tally = self.inbox.receive_rest().await.expect("the broker answers").clone();
        assert_eq!((tally.distinct(), tally.order_violations()), (all, [].as_slice()), "{}", finished.stderr);
        assert_eq!(self.table.pending().await, 0);
        self.inbox.close().await.expect("the broker answers");
        (tally, finished)
    }
}

/// Appends to the same streams and to new ones, one after the other, until it is stopped.
struct Writer {
    is_stopped: Arc<AtomicBool>,
    appended: JoinHandle<u64>,
}

impl Writer {
    fn start(table: &TestTable) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (store, stopped) = (table.another().0, Arc::clone(&is_stopped));
        let appended = tokio::spawn(async move {
            let mut appended = 0;
            while !stopped.load(Ordering::SeqCst) {
                let id = if appended % 3 == 0 {
                    format!("permit-{appended}")
                } else {
                    format!("order-{}", appended % STREAMS)
                };
                store.append(&stream(&id), ExpectedVersion::Any, [event(appended)]).await.expect("the append works");
                appended += 1;
            }
            appended
        });
        Self { is_stopped, appended }
    }

    async fn stop(self) -> u64 {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.appended.await.expect("the writer has not panicked")
    }
}

/// Says true to two of three, `times` times in all.
fn two_of_three(times: u64) -> impl FnMut() -> bool + Send {
    let mut asked = 0;
    move || {
        asked += 1;
        asked <= times * 3 / 2 && asked % 3 != 0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_answers_that_are_lost_are_asked_for_again() {
    let lost = Arc::new(AtomicU64::new(0));
    let stage = Stage::set(|proxy| {
        let (lost, mut is_lost) = (Arc::clone(&lost), two_of_three(30));
        proxy.set_fault(move |exchange| {
            exchange.is_lost = is_lost();
            lost.fetch_add(u64::from(exchange.is_lost), Ordering::SeqCst);
        });
    })
    .await;
    // The relay asks again and again, whether there is something to publish or not.
    while lost.load(Ordering::SeqCst) < 30 {
        tokio::task::yield_now().await;
    }
    let (tally, _) = stage.end().await;
    assert_eq!(lost.load(Ordering::SeqCst), 30);
    assert_eq!(tally.duplicates(), 0, "a lost answer of DynamoDB's makes nobody publish twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_throttling_slows_the_relay_down_and_no_more() {
    for refusal in [Refusal::ThroughputExceeded, Refusal::Throttled] {
        let (tally, _) = refused(refusal, 40).await;
        assert_eq!(tally.duplicates(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_errors_of_the_service_are_waited_out() {
    for refusal in [Refusal::InternalError, Refusal::Unavailable] {
        let (tally, _) = refused(refusal, 40).await;
        assert_eq!(tally.duplicates(), 0);
    }
}

/// Two of three requests are refused, `times` times in all.
async fn refused(refusal: Refusal, times: u64) -> (Tally, Finished) {
    let stage = Stage::set(|proxy| {
        let mut is_refused = two_of_three(times);
        proxy.set_gatekeeper(move |_, _| if is_refused() { Passage::Refuse(refusal) } else { Passage::Forward });
    })
    .await;
    stage.proxy.has_refused(times).await;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_an_outage_of_the_table_is_waited_out_and_logged() {
    let mut stage = Stage::set(|_| {}).await;
    stage.inbox.receive_distinct(5).await;
    stage.proxy.set_gatekeeper(|_, _| Passage::Refuse(Refusal::Unavailable));
    stage.relay.logs("failed; it is made again").await;
    stage.relay.logs("ServiceUnavailable").await;
    stage.proxy.behave();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_deletions_that_are_left_undone_are_asked_for_again() {
    let splits = Arc::new(AtomicU64::new(0));
    let stage = Stage::set(|proxy| {
        let splits = Arc::clone(&splits);
        proxy.set_gatekeeper(move |operation, request| {
            let is_split = operation == "BatchWriteItem" && deletes(request) > 1 && splits.load(Ordering::SeqCst) < 3;
            splits.fetch_add(u64::from(is_split), Ordering::SeqCst);
            if is_split { Passage::Split } else { Passage::Forward }
        });
    })
    .await;
    let (tally, _) = stage.end().await;
    assert!(splits.load(Ordering::SeqCst) > 0, "some deletions were left undone");
    assert_eq!(tally.duplicates(), 0, "what is confirmed is not published again because its deletion was left undone");
}

fn deletes(request: &Value) -> usize {
    let tables = request["RequestItems"].as_object();
    tables.into_iter().flat_map(|tables| tables.values()).filter_map(Value::as_array).map(Vec::len).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_a_page_that_is_slow_keeps_no_other_stream_waiting() {
    let gate = Gate::default();
    let mut stage = Stage::set(|proxy| {
        let gate = gate.clone();
        proxy.set_gatekeeper(move |operation, request| {
            let is_held = operation == "Query" && request.to_string().contains("\"order-0\"");
            if is_held { Passage::Hold(gate.clone()) } else { Passage::Forward }
        });
    })
    .await;
    gate.is_reached().await;
    // Everything of the backlog but the one stream's comes while its page is on the way.
    while (1..STREAMS).any(|number| stage.inbox.tally().last(&format!("order-{number}")) < EVENTS_PER_STREAM) {
        stage.inbox.next().await;
    }
    assert_eq!(stage.inbox.tally().last("order-0"), 0);
    gate.open();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g6_an_index_that_hides_rows_shuffles_them_and_shows_what_is_gone_is_only_a_hint() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let stage = Stage::set(|proxy| proxy.set_fault(fault::lagging_index(40, seed))).await;
    let (tally, _) = stage.end().await;
    assert_eq!(tally.duplicates(), 0, "a row of an entry that is gone publishes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_an_append_that_is_visible_before_the_one_before_it_waits_for_it() {
    let proofs = Arc::new(AtomicU64::new(0));
    let stage = Stage::set(|proxy| {
        let (proofs, mut hide) = (Arc::clone(&proofs), fault::hide_the_earlier(2));
        proxy.set_fault(move |exchange: &mut Exchange| {
            proofs.fetch_add(u64::from(exchange.operation == "TransactGetItems"), Ordering::SeqCst);
            hide(exchange);
        });
    })
    .await;
    let (tally, _) = stage.end().await;
    assert!(proofs.load(Ordering::SeqCst) >= STREAMS, "the relay has made sure of the appends that it did not see");
    assert_eq!(tally.duplicates(), 0);
}

/// A stream whose first append has been published by another relay, so that this one has to prove it before the second.
async fn proved() -> (TestTable, Proxy, Inbox, Process) {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let url = shared_broker_url();
    let inbox = Inbox::open(&url, &unique("events")).await.expect("the broker answers");
    table.fill(&order, 2).await;
    table.store.outbox().delete(&[PendingKey { stream_id: order, last: 1 }]).await.expect("the engine answers");
    let proxy = Proxy::start(table.url()).await;
    let arguments = ["run", "--exchange", inbox.exchange(), "--retry-delay-ms", "10", "--max-retry-delay-ms", "10"];
    proxy.set_gatekeeper(|_, _| Passage::Refuse(Refusal::Unavailable));
    let relay = Process::start("streambox-relay", Some(&table.through(proxy.url())), Some(&url), arguments);
    (table, proxy, inbox, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_proof_that_is_throttled_is_read_again_and_halts_nothing() {
    for code in ["ThrottlingError", "ProvisionedThroughputExceeded"] {
        let (table, proxy, mut inbox, mut relay) = proved().await;
        let mut left = 30;
        proxy.set_gatekeeper(move |operation, _| {
            let is_refused = operation == "TransactGetItems" && left > 0;
            left -= i32::from(is_refused);
            if is_refused { Passage::Refuse(Refusal::Cancelled(code)) } else { Passage::Forward }
        });
        relay.logs(code).await;
        let next = inbox.next().await;
        assert_eq!((next.event.stream_id.as_str(), next.event.version), ("order-1", 2));
        table.wait_for_nothing_pending().await;
        relay.signal(Signal::SIGTERM);
        let finished = relay.finish().await;
        assert_eq!(finished.code(), Some(0));
        assert!(!finished.stderr.contains("halted"), "{code}: {}", finished.stderr);
        inbox.close().await.expect("the broker answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_proof_that_another_transaction_is_always_in_the_way_of_halts_its_stream_until_it_is_made() {
    let (_table, proxy, mut inbox, mut relay) = proved().await;
    proxy.set_gatekeeper(|operation, _| match operation {
        "TransactGetItems" => Passage::Refuse(Refusal::Cancelled("TransactionConflict")),
        _ => Passage::Forward,
    });
    relay.logs("no Query shows its pending entry").await;
    proxy.behave();
    let next = inbox.next().await;
    assert_eq!((next.event.stream_id.as_str(), next.event.version), ("order-1", 2));
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.expect("the broker answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_an_import_whose_answers_are_lost_stores_every_event_once() {
    let table = TestTable::create().await;
    let proxy = Proxy::start(table.url()).await;
    let mut is_lost = two_of_three(20);
    proxy.set_fault(move |exchange| exchange.is_lost = exchange.operation == "TransactWriteItems" && is_lost());
    let line = |number| {
        let stream = format!("order-{}", number % 5);
        serde_json::json!({ "stream": stream, "type": "Counted", "data": { "number": number } }).to_string() + "\n"
    };
    let lines: String = (0..60).map(line).collect();
    let arguments = ["import", "-", "--events-per-append", "1"];
    let mut import = Process::start("streambox", Some(&table.through(proxy.url())), None, arguments);
    import.input(&lines).await;
    let finished = import.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(table.items().await, 2 * 60, "each event and each pending entry once");
    let lost = proxy.take().iter().filter(|exchange| exchange.is_lost).count();
    assert_eq!(lost, 20);
}
