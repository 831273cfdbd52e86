//! Streams that can't be published, and entries that are not to be published yet.

use nix::sys::signal::Signal;
use streambox::{ExpectedVersion::NoStream, NewEvent, StreamId};
use streambox_tests::{
    broker::{BoundQueue, Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    programs::{Process, run},
    unique,
};

async fn drain(table: &TestTable, inbox: &Inbox, more: &[&str]) -> (i32, serde_json::Value, String) {
    let arguments = ["drain", "--exchange", inbox.exchange(), "--format", "json"];
    let drained = run("streambox-relay", Some(table), Some(&shared_broker_url()), arguments.iter().chain(more)).await;
    let report = serde_json::from_str(&drained.stdout).expect("one JSON object");
    (drained.code().expect("no signal"), report, drained.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_message_that_no_queue_takes_halts_its_stream_and_no_other() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    // Only orders are listened to.
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("permit-1"), 3).await;
    table.fill(&stream("order-1"), 30).await;

    let (code, report, log) = drain(&table, &inbox, &[]).await;

    assert_eq!(code, 1, "{log}");
    assert_eq!((&report["published"], &report["drained"]), (&30.into(), &false.into()));
    let reason = report["halted"]["permit-1"].as_str().expect("the stream is named");
    for part in ["version 1", "permit.Counted", inbox.exchange(), "--unroutable accept"] {
        assert!(reason.contains(part) && log.contains(part), "{part}: {reason}\n{log}");
    }
    assert_eq!(table.pending().await, 3, "nothing of the halted stream is lost or passed over");
    assert_eq!(inbox.receive_rest().await.unwrap().distinct(), 30);

    // Somebody listens: the stream resumes by itself, from where it was.
    let mut permits = Inbox::bound(&url, inbox.exchange(), "permit.#").await.unwrap();
    let (code, report, log) = drain(&table, &inbox, &[]).await;
    assert_eq!((code, &report["published"]), (0, &3.into()), "{log}");
    let tally = permits.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates(), tally.order_violations().len()), (3, 0, 0));
    permits.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_running_relay_goes_on_with_a_halted_stream_when_somebody_listens() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("permit-1"), 2).await;
    let arguments = ["run", "--exchange", inbox.exchange()];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    relay.logs("permit.Counted").await;
    table.fill(&stream("order-1"), 1).await;
    inbox.receive_distinct(1).await;

    let mut permits = Inbox::bound(&url, inbox.exchange(), "permit.#").await.unwrap();
    permits.receive_distinct(2).await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    assert_eq!(permits.receive_rest().await.unwrap().order_violations(), []);
    permits.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_no_queue_takes_is_accepted_where_that_is_asked_for() {
    let table = TestTable::create().await;
    let inbox = Inbox::bound(&shared_broker_url(), &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("permit-1"), 3).await;
    let (code, report, log) = drain(&table, &inbox, &["--unroutable", "accept"]).await;
    assert_eq!((code, &report["published"], &report["drained"]), (0, &3.into(), &true.into()), "{log}");
    assert_eq!(table.pending().await, 0);
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_an_entry_whose_events_are_missing_halts_its_stream_and_no_other() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    // Too large for a copy in the entry: the relay has to read the event, which somebody has deleted.
    let large = NewEvent::json("Grown", &"x".repeat(2_000)).unwrap();
    let damaged = stream("order-1");
    table.as_text().append(&damaged, NoStream, [large]).await.unwrap();
    delete_event(&table, &damaged, 1).await;
    table.fill(&stream("order-2"), 5).await;

    let (code, report, log) = drain(&table, &inbox, &[]).await;

    assert_eq!(code, 1, "{log}");
    let reason = report["halted"]["order-1"].as_str().expect("the stream is named");
    assert!(reason.contains("version 1") && reason.contains("missing"), "{reason}");
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.last("order-2")), (5, 5));
    assert_eq!(table.pending().await, 1);
    inbox.close().await.unwrap();
}

async fn delete_event(table: &TestTable, stream: &StreamId, version: u64) {
    use aws_sdk_dynamodb::types::AttributeValue;
    let deleted = table
        .client()
        .delete_item()
        .table_name(&table.name)
        .key("stream_id", AttributeValue::S(stream.to_string()))
        .key("entity", AttributeValue::S(format!("event#{version:020}")))
        .send()
        .await;
    deleted.expect("the engine deletes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g6_an_entry_that_becomes_visible_late_is_published_before_the_one_behind_it() {
    let table = TestTable::create().await;
    let (order, url) = (stream("order-1"), shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    table.store.append(&order, NoStream, [event(1)]).await.unwrap();
    table.store.append(&order, streambox::ExpectedVersion::Exact(1), [event(2)]).await.unwrap();
    table.wire.take();
    // The consistent Query shows the second append's entry alone, several times over.
    table.wire.hide("pending#00000000000000000001", 3);

    let settings = streambox_relay::RelaySettings {
        broker: streambox_relay::broker::BrokerSettings::new(
            url.parse().expect("a valid URL"),
            inbox.exchange().into(),
        ),
        publishers: 1,
        poll_interval: std::time::Duration::from_millis(10),
        busy_poll_interval: std::time::Duration::from_millis(10),
        drain_timeout: std::time::Duration::from_secs(10),
        bounds: streambox_relay::core::Bounds::default(),
        group: None,
    };
    let until = streambox_relay::Until::Drained;
    let report = streambox_relay::run(&table.store, settings, until, std::future::pending()).await.unwrap();

    assert!(report.drained && report.published == 2, "{report:?}");
    let proofs = table.wire.take().into_iter().filter(|exchange| exchange.operation == "TransactGetItems").count();
    assert_eq!(proofs, 3, "each time the entry was missing the relay has made sure");
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates(), tally.order_violations().len()), (2, 0, 0));
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn g5_g6_what_the_broker_refuses_stays_pending_and_comes_in_order_when_there_is_room() {
    let table = TestTable::create().await;
    for number in 0..5 {
        table.fill(&stream(&format!("order-{number}")), 4).await;
    }
    let url = shared_broker_url();
    let queue = BoundQueue::declare_bounded(&url, &unique("events"), "#", 3).await.unwrap();
    let arguments = ["run", "--exchange", queue.exchange()];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    relay.logs("(nack)").await;
    assert!(table.pending().await > 0, "what was refused is still pending");

    let mut inbox = queue.consume();
    let tally = inbox.receive_distinct(20).await;
    assert_eq!(tally.order_violations(), []);
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    assert_eq!(table.pending().await, 0);
    inbox.close().await.unwrap();
}
