//! Messages that RabbitMQ refuses in ways that hit everything beside them: a closed channel, a closed connection, a queue
//! that never confirms; and links and limits that let little through. One bad stream stops only itself (G7).

use nix::sys::signal::Signal;
use streambox::{ExpectedVersion::NoStream, Metadata, NewEvent, outbox::OutboxEvent};
use streambox_relay::broker::{Message, parse_url};
use streambox_tests::{
    broker::{BoundQueue, Inbox, OwnBroker, shared_broker_url},
    engine::{TestTable, stream},
    programs::{Finished, Process, halted_streams, run},
    slow_link::SlowLink,
    unique,
};

const PASSWORD: &str = "open-sesame";

/// Far above what a confirm takes, far below a test's patience.
const CONFIRM_TIMEOUT: [&str; 2] = ["--confirm-timeout-ms", "2000"];

fn address(url: &str) -> String {
    let uri = parse_url(url).expect("a valid URL");
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

/// Stops the relay: everything has arrived in order, and nothing else than `streams` was halted meanwhile.
async fn ends_well(relay: Process, inbox: &mut Inbox, table: &TestTable, events: u64, streams: &[&str]) -> Finished {
    table.wait_for_nothing_pending().await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let tally = inbox.receive_rest().await.expect("the broker answers");
    assert_eq!((tally.distinct(), tally.order_violations()), (events, [].as_slice()));
    assert!(halted_streams(&finished.stderr).iter().eq(streams), "{}", finished.stderr);
    finished
}

/// An event that another client has written, with metadata that no append takes.
async fn write_with_long_header(table: &TestTable, id: &str, bytes: usize) {
    // Too large for a copy in the entry: the relay reads the event.
    let event = NewEvent::json("Placed", &"x".repeat(2_000)).expect("a valid event");
    table.as_text().append(&stream(id), NoStream, [event]).await.expect("the append succeeds");
    let metadata = format!("{{\"correlation_id\":\"{}\"}}", "c".repeat(bytes));
    table.set(&stream(id), &format!("event#{:020}", 1), "metadata", text(metadata)).await;
}

fn text(text: String) -> aws_sdk_dynamodb::types::AttributeValue {
    aws_sdk_dynamodb::types::AttributeValue::S(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_headers_that_no_frame_can_carry_halt_their_own_stream_and_a_drain_ends() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    write_with_long_header(&table, "order-0", 140_000).await;
    for number in 1..=30 {
        table.fill(&stream(&format!("order-{number}")), 3).await;
    }
    let arguments = ["drain", "--exchange", inbox.exchange(), "--format", "json"];
    let drained = run("streambox-relay", Some(&table), Some(&url), arguments).await;
    assert_eq!(drained.code(), Some(1), "{}", drained.stderr);
    let report: serde_json::Value = serde_json::from_str(&drained.stdout).unwrap();
    let reason = report["halted"]["order-0"].as_str().expect("the stream is named");
    assert!(reason.contains("headers") && reason.contains("131072"), "{reason}");
    assert_eq!(table.pending().await, 1);
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates()), (90, 0), "it was not even sent");

    let replay = ["replay", "--stream", "order-0", "--exchange", inbox.exchange()];
    let replayed = run("streambox-relay", Some(&table), Some(&url), replay).await;
    assert_eq!(replayed.code(), Some(1), "{}", replayed.stderr);
    assert!(replayed.stderr.contains("version 1 of stream order-0"), "{}", replayed.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_fill_a_frame_are_published_and_a_byte_more_is_not() {
    const FRAME_MAX: usize = 32_768;
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let frame = |bytes: usize| {
        let mut event = OutboxEvent::new(1, streambox::Uuid::nil(), "Placed", "{}");
        event.metadata = Metadata::new().with("correlation_id", "c".repeat(bytes));
        Message::new(&stream("order-1"), &event).unwrap().header_frame_bytes()
    };
    let fits = FRAME_MAX - (frame(1_000) - 1_000);
    assert_eq!(frame(fits), FRAME_MAX);
    write_with_long_header(&table, "order-1", fits).await;
    write_with_long_header(&table, "order-2", fits + 1).await;
    let url = format!("{url}?frame_max={FRAME_MAX}");
    let arguments = ["drain", "--exchange", inbox.exchange()];
    let drained = run("streambox-relay", Some(&table), Some(&url), arguments).await;
    assert_eq!(drained.code(), Some(1), "{}", drained.stderr);
    assert!(halted_streams(&drained.stderr).iter().eq(["order-2"]), "{}", drained.stderr);
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates()), (1, 0), "{}", drained.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_topic_permission_that_does_not_cover_a_routing_key_halts_its_streams_alone() {
    const GOOD: u64 = 30;
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    broker.ctl(&["add_user", "relay", PASSWORD]).await;
    broker.ctl(&["set_permissions", "relay", ".*", ".*", ".*"]).await;
    broker.ctl(&["set_topic_permissions", "relay", inbox.exchange(), "^good\\.", ".*"]).await;
    for number in 0..GOOD {
        table.fill(&stream(&format!("good-{number}")), 3).await;
    }
    let bad = ["bad-0", "bad-1", "bad-2"];
    for id in bad {
        table.fill(&stream(id), 2).await;
    }
    let url = format!("amqp://relay:{PASSWORD}@{}/%2f", address(broker.url()));
    let arguments = ["run", "--exchange", inbox.exchange()];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    inbox.receive_distinct(GOOD * 3).await;
    relay.logs("topic permissions").await;
    relay.logs_halts_of(&bad).await;
    broker.ctl(&["set_topic_permissions", "relay", inbox.exchange(), ".*", ".*"]).await;
    inbox.receive_distinct(GOOD * 3 + 6).await;
    let finished = ends_well(relay, &mut inbox, &table, GOOD * 3 + 6, &bad).await;
    assert!(inbox.tally().duplicates() <= 2 * 256, "at most a batch of each publisher");
    assert!(!finished.stderr.contains(PASSWORD), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_messages_above_the_brokers_limit_halt_their_streams_alone() {
    const SMALL: u64 = 60;
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let set_limit = async |bytes: u32| {
        let set = format!(
            "application:set_env(rabbit, max_message_size, {bytes}), persistent_term:put(max_message_size, {bytes})."
        );
        broker.ctl(&["eval", &set]).await;
    };
    set_limit(100_000).await;
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    for number in 0..SMALL {
        table.fill(&stream(&format!("order-{number}")), 2).await;
    }
    let too_large = ["large-0", "large-1", "large-2", "large-3", "large-4"];
    for id in too_large {
        let large = NewEvent::json("Scanned", &"x".repeat(150_000)).unwrap();
        table.as_text().append(&stream(id), NoStream, [large]).await.unwrap();
    }
    let arguments = ["run", "--exchange", inbox.exchange()];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);
    inbox.receive_distinct(SMALL * 2).await;
    relay.logs_halts_of(&too_large).await;
    set_limit(1_000_000).await;
    // Channels remember the limit that they began with; those for single events are new ones.
    inbox.receive_distinct(SMALL * 2 + 5).await;
    ends_well(relay, &mut inbox, &table, SMALL * 2 + 5, &too_large).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_queue_that_never_confirms_halts_the_streams_that_go_there_alone() {
    const ORDERS: u64 = 150;
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut inbox = Inbox::bound(broker.url(), &unique("events"), "order.#").await.unwrap();
    let silent = BoundQueue::declare(broker.url(), inbox.exchange(), "invoice.#").await.unwrap();
    // As a quorum queue does without a majority of its nodes: it is there, and does not answer.
    let of_queue = |act: &str| {
        let name = silent.name();
        format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{name}\">>)), \
             sys:{act}(amqqueue:get_pid(Q))."
        )
    };
    broker.ctl(&["eval", &of_queue("suspend")]).await;
    for number in 0..ORDERS {
        table.fill(&stream(&format!("order-{number}")), 2).await;
    }
    let invoices = ["invoice-0", "invoice-1", "invoice-2", "invoice-3", "invoice-4"];
    for id in invoices {
        table.fill(&stream(id), 2).await;
    }
    let arguments = ["run", "--exchange", inbox.exchange()].into_iter().chain(CONFIRM_TIMEOUT);
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);
    inbox.receive_distinct(ORDERS * 2).await;
    relay.logs_halts_of(&invoices).await;
    broker.ctl(&["eval", &of_queue("resume")]).await;
    ends_well(relay, &mut inbox, &table, ORDERS * 2, &invoices).await;
    let mut silent = silent.consume();
    let tally = silent.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.order_violations()), (10, [].as_slice()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_slow_link_takes_its_time_and_everything_passes_once() {
    const STREAMS: u64 = 100;
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    for number in 0..STREAMS {
        let large = NewEvent::json("Scanned", &"x".repeat(390_000)).unwrap();
        table.as_text().append(&stream(&format!("order-{number}")), NoStream, [large]).await.unwrap();
    }
    // All together are more than a batch may have, and take longer than one message may take.
    let link = SlowLink::start(&address(&url), 2_000_000).await;
    let url = format!("amqp://127.0.0.1:{}/%2f", link.port());
    let arguments = ["run", "--exchange", inbox.exchange(), "--publishers", "1"];
    let relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    inbox.receive_distinct(STREAMS).await;
    let finished = ends_well(relay, &mut inbox, &table, STREAMS, &[]).await;
    assert_eq!(inbox.tally().duplicates(), 0, "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_lets_one_publisher_in_leaves_no_stream_to_the_other() {
    const STREAMS: u64 = 40;
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    // The inbox has one already. The broker counts with a delay: two that come at once might both be let in.
    broker.ctl(&["set_vhost_limits", "-p", "/", "{\"max-connections\": 1}"]).await;
    let arguments = ["run", "--exchange", inbox.exchange(), "--publishers", "2"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);
    relay.logs_times("connection limit", 2).await;
    broker.ctl(&["set_vhost_limits", "-p", "/", "{\"max-connections\": 2}"]).await;
    relay.logs("connected to the broker").await;
    for number in 0..STREAMS {
        table.fill(&stream(&format!("order-{number}")), 3).await;
    }
    inbox.receive_distinct(STREAMS * 3).await;
    ends_well(relay, &mut inbox, &table, STREAMS * 3, &[]).await;
    assert_eq!(inbox.tally().duplicates(), 0);
}
