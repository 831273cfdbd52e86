//! Replay: events of the past come once more, marked, in order, and what is pending stays as it is.

use lapin::types::AMQPValue;
use nix::sys::signal::Signal;
use serde_json::Value;
use streambox::{
    ExpectedVersion::{At, NoStream},
    NewEvent,
};
use streambox_tests::{
    broker::{BoundQueue, Inbox, Message, shared_broker_url},
    engine::{TestTable, event, stream},
    programs::{Finished, Process, run},
    unique,
};

/// As many as one append takes. At 20 a second a replay is still at work when a test has noticed the first of them, however late.
const EVENTS_FOR_SECONDS: u64 = 95;

async fn replay(table: &TestTable, exchange: &str, arguments: &[&str]) -> Finished {
    let all = ["replay", "--exchange", exchange, "--format", "json"];
    run("streambox-relay", Some(table), Some(&shared_broker_url()), all.iter().chain(arguments)).await
}

async fn done(table: &TestTable, exchange: &str, arguments: &[&str]) -> Value {
    let finished = replay(table, exchange, arguments).await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("one JSON object")
}

fn mark(message: &Message) -> Option<String> {
    let headers = message.properties.headers().as_ref()?.inner();
    headers.get("x-streambox-replay").and_then(AMQPValue::as_long_string).map(ToString::to_string)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_stream_comes_as_it_came_first_but_marked_and_nothing_pending_is_touched() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let order = stream("order-1");
    let secret = NewEvent::json("Secret", &1).unwrap().private();
    let first = table.store.append(&order, NoStream, [event(1), secret, event(3)]).await.unwrap();
    table.store.append(&order, At(first.position), [event(4)]).await.unwrap();
    let drained = ["drain", "--exchange", inbox.exchange()];
    assert_eq!(run("streambox-relay", Some(&table), Some(&shared_broker_url()), drained).await.code(), Some(0));
    let originals = [inbox.next().await, inbox.next().await, inbox.next().await];
    table.fill(&stream("order-2"), 2).await;

    let report = done(&table, inbox.exchange(), &["--stream", "order-1", "--id", "again"]).await;

    assert_eq!((&report["replay"], &report["published"], &report["left_out"]), (&"again".into(), &3.into(), &1.into()));
    assert_eq!(report["done"], Value::Bool(true));
    for original in &originals {
        let mut repeat = inbox.next().await;
        assert_eq!(mark(&repeat).as_deref(), Some("again"));
        assert_eq!(mark(original), None);
        assert_eq!(
            (repeat.event.version, &repeat.body, &repeat.routing_key),
            (original.event.version, &original.body, &original.routing_key)
        );
        let headers = repeat.properties.headers().clone().unwrap_or_default();
        let mut inner = headers.inner().clone();
        inner.remove("x-streambox-replay");
        repeat.properties = repeat.properties.with_headers(inner.into());
        assert_eq!(repeat.properties, original.properties);
    }
    assert_eq!(table.pending().await, 2);
    assert_eq!(inbox.receive_rest().await.unwrap().received(), 6, "nothing else came");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_stream_goes_to_one_queue_and_to_no_other() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    let mut everybody = Inbox::open(&url, &unique("events")).await.unwrap();
    let queue = BoundQueue::declare(&url, &unique("other"), "none").await.unwrap();
    table.fill(&stream("order-1"), 5).await;

    let arguments = ["--stream", "order-1", "--from-version", "2", "--to-version", "4", "--queue", queue.name()];
    let report = done(&table, everybody.exchange(), &arguments).await;

    assert_eq!(report["published"], 3);
    let mut rebuilt = queue.consume();
    let versions =
        [rebuilt.next().await.event.version, rebuilt.next().await.event.version, rebuilt.next().await.event.version];
    assert_eq!(versions, [2, 3, 4]);
    assert_eq!(everybody.receive_rest().await.unwrap().received(), 0);

    let missing = replay(&table, everybody.exchange(), &["--stream", "order-1", "--queue", "no-such-queue"]).await;
    assert_eq!(missing.code(), Some(78), "{}", missing.stderr);
    assert!(missing.stderr.contains("no-such-queue"), "{}", missing.stderr);
    assert!(!missing.stderr.contains("for ever"), "it ends: {}", missing.stderr);
    everybody.close().await.unwrap();
    rebuilt.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_or_a_category_or_a_time_are_replayed_in_order() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    let long_ago = || std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let old = streambox::EventStore::builder(table.store_client(), &table.name).clock(long_ago).build();
    old.append(&stream("permit-0"), NoStream, (1..=2).map(event)).await.unwrap();
    for number in 1..=30 {
        table.fill(&stream(&format!("order-{number}")), 4).await;
    }
    table.fill(&stream("permit-1"), 3).await;

    let rate = ["--rate", "5000"];
    let all = done(&table, inbox.exchange(), &[&["--all"], rate.as_slice()].concat()).await;
    assert_eq!(all["published"], 125);
    let tally = inbox.receive_distinct(125).await;
    assert_eq!((tally.duplicates(), tally.order_violations()), (0, [].as_slice()));

    let category = done(&table, inbox.exchange(), &["--category", "permit"]).await;
    assert_eq!(category["published"], 5);
    let newer = ["--category", "permit", "--from-time", "2024-01-01T00:00:00Z"];
    let newer = done(&table, inbox.exchange(), &newer).await;
    assert_eq!((&newer["published"], &newer["left_out"]), (&3.into(), &2.into()));
    let older = done(&table, inbox.exchange(), &["--all", "--to-time", "2024-01-01T00:00:00Z"]).await;
    assert_eq!(older["published"], 2);
    assert_eq!(inbox.receive_rest().await.unwrap().received(), 135);
    assert_eq!(table.pending().await, 124, "the relay has not run at all");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_is_killed_goes_on_where_it_was_and_repeats_one_window_at_the_most() {
    const STREAMS: u64 = 120;
    const EVENTS: u64 = 25;
    let table = TestTable::create().await;
    let url = shared_broker_url();
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    for number in 0..STREAMS {
        let events: Vec<_> = (1..=EVENTS).map(event).collect();
        table.store.append(&stream(&format!("order-{number}")), NoStream, events).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("replay.json");
    let state = state.to_str().unwrap();
    let arguments = |rate| ["--all", "--rate", rate, "--state", state];
    let mut kills = 0;
    for until in [600, 1_200] {
        // Slow enough that seconds of work are left when it is killed, however late this test notices what has come.
        let all = ["replay", "--exchange", inbox.exchange()].into_iter().chain(arguments("600"));
        let running = Process::start("streambox-relay", Some(&table), Some(&url), all);
        inbox.receive_distinct(until).await;
        kills += u64::from(running.kill().await.code().is_none());
    }

    let report = done(&table, inbox.exchange(), &arguments("3000")).await;

    assert_eq!((&report["done"], kills), (&Value::Bool(true), 2));
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.order_violations()), (STREAMS * EVENTS, [].as_slice()));
    let most = kills * streambox_relay::replay::WINDOW_EVENTS as u64;
    assert!(tally.duplicates() <= most, "{} came twice", tally.duplicates());

    let again = done(&table, inbox.exchange(), &arguments("3000")).await;
    assert_eq!((&again["done"], &again["published"]), (&Value::Bool(true), &report["published"]), "it is done");
    let other = replay(&table, inbox.exchange(), &["--category", "order", "--state", state]).await;
    assert_eq!(other.code(), Some(78), "{}", other.stderr);
    assert!(other.stderr.contains("other events") && other.stderr.contains("--state"), "{}", other.stderr);
    inbox.close().await.unwrap();
}

/// A replay that is stopped when `until` events have come; its report, and what its log says.
async fn stopped(table: &TestTable, inbox: &mut Inbox, until: u64, arguments: &[&str]) -> (Value, String) {
    let all = ["replay", "--exchange", inbox.exchange(), "--format", "json"];
    let replay = all.iter().chain(arguments);
    let running = Process::start("streambox-relay", Some(table), Some(&shared_broker_url()), replay);
    inbox.receive_distinct(until).await;
    running.signal(Signal::SIGTERM);
    let finished = running.finish().await;
    assert_eq!(finished.code(), Some(1), "it has not come to its end: {}", finished.stderr);
    (serde_json::from_str(&finished.stdout).expect("one JSON object"), finished.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_is_told_to_stop_says_how_much_it_has_published_and_resumes_behind_it() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    table.store.append(&stream("order-1"), NoStream, (1..=EVENTS_FOR_SECONDS).map(event)).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("replay.json");
    let arguments = |rate| ["--stream", "order-1", "--rate", rate, "--state", state.to_str().unwrap()];

    let (report, log) = stopped(&table, &mut inbox, 20, &arguments("20")).await;

    let came = inbox.receive_rest().await.unwrap().received();
    assert!((20..EVENTS_FOR_SECONDS).contains(&came), "{came} came");
    assert_eq!(
        (&report["published"], &report["repeats"], &report["done"]),
        (&came.into(), &0.into(), &false.into()),
        "{log}"
    );
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&state).unwrap()).unwrap();
    assert_eq!((&kept["published"], &kept["done"]), (&came.into(), &false.into()));

    let report = done(&table, inbox.exchange(), &arguments("5000")).await;
    assert_eq!(report["published"], EVENTS_FOR_SECONDS);
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.received(), tally.order_violations()), (EVENTS_FOR_SECONDS, [].as_slice()), "nothing came twice");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_streams_side_by_side_that_is_told_to_stop_says_how_much_comes_twice() {
    const STREAMS: u64 = 10;
    const EVENTS: u64 = 30;
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    for number in 0..STREAMS {
        table.store.append(&stream(&format!("order-{number}")), NoStream, (1..=EVENTS).map(event)).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("replay.json");
    let arguments = |rate| ["--all", "--rate", rate, "--state", state.to_str().unwrap()];

    let (report, log) = stopped(&table, &mut inbox, 30, &arguments("40")).await;

    let came = inbox.receive_rest().await.unwrap().received();
    assert_eq!(report["published"], came, "{log}");
    let repeats = report["repeats"].as_u64().unwrap();
    assert!((1..=came).contains(&repeats), "the streams behind the first are ahead: {repeats} of {came}");

    let report = done(&table, inbox.exchange(), &arguments("5000")).await;
    assert_eq!((&report["published"], &report["repeats"]), (&(STREAMS * EVENTS).into(), &0.into()));
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates()), (STREAMS * EVENTS, repeats));
    assert_eq!(tally.order_violations(), []);
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_a_queue_ends_with_a_message_that_says_so_and_one_to_the_exchange_does_not() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut everybody = Inbox::open(&url, &unique("events")).await.unwrap();
    let queue = BoundQueue::declare(&url, &unique("other"), "none").await.unwrap();
    let secret = NewEvent::json("Secret", &1).unwrap().private();
    table.store.append(&stream("order-1"), NoStream, [event(1), secret, event(3)]).await.unwrap();

    done(&table, everybody.exchange(), &["--all"]).await;
    let report = done(&table, everybody.exchange(), &["--all", "--queue", queue.name(), "--id", "again"]).await;

    assert_eq!(everybody.receive_rest().await.unwrap().received(), 2);
    let mut rebuilt = queue.consume();
    assert_eq!([rebuilt.next().await.event.version, rebuilt.next().await.event.version], [1, 3]);
    let ended = rebuilt.next().await;
    assert_eq!((mark(&ended).as_deref(), ended.event.version), (Some("again"), 0));
    let headers = ended.properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers.get("x-streambox-replay-ended"), Some(&AMQPValue::Boolean(true)));
    assert_eq!(ended.properties.kind().as_ref().unwrap().as_str(), "streambox.ReplayEnded");
    let body: Value = serde_json::from_slice(&ended.body).unwrap();
    assert_eq!((&body["replay"], &body["published"]), (&"again".into(), &report["published"]));
    assert_eq!(rebuilt.receive_rest().await.unwrap().received(), 3, "nothing comes behind it");
    everybody.close().await.unwrap();
    rebuilt.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_ends_its_replay_with_the_event_that_it_would_have_got_next() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let queue = BoundQueue::declare(&url, &unique("other"), "none").await.unwrap();
    table.store.append(&stream("order-1"), NoStream, (1..=EVENTS_FOR_SECONDS).map(event)).await.unwrap();
    let arguments = ["replay", "--all", "--rate", "20", "--queue", queue.name()];
    let replay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    let name = queue.name().to_owned();
    let mut rebuilt = queue.consume();
    rebuilt.receive_distinct(5).await;

    rebuilt.close().await.unwrap();

    let ended = replay.finish().await;
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    for part in
        ["of stream order-1 can't be published", &format!("there is no queue {name:?}"), "events were published"]
    {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("; 0 events"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_no_queue_takes_ends_the_replay_before_anything_behind_it() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::bound(&shared_broker_url(), &unique("events"), "permit.Counted").await.unwrap();
    let permit = stream("permit-1");
    let first = table.store.append(&permit, NoStream, [event(1)]).await.unwrap();
    let odd = NewEvent::json("Odd", &1).unwrap();
    table.store.append(&permit, At(first.position), [odd, event(3)]).await.unwrap();

    let refused = replay(&table, inbox.exchange(), &["--stream", "permit-1"]).await;

    assert_eq!(refused.code(), Some(1));
    for part in ["version 2 of stream permit-1 can't be published", "permit.Odd", "--state"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.received(), tally.last("permit-1")), (1, 1));
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn what_is_to_be_replayed_is_checked_before_anything_is_sent() {
    let table = TestTable::create().await;
    for (arguments, code, parts) in [
        (&[][..], 2, ["--stream", "--all"]),
        (&["--all", "--stream", "order-1"], 2, ["--all", "--stream"]),
        (&["--all", "--from-version", "2"], 2, ["--from-version", "--all"]),
        (&["--all", "--rate", "0"], 2, ["--rate", "1..=100000"]),
        (&["--all", "--from-time", "yesterday"], 78, ["--from-time", "RFC 3339"]),
        (&["--category", "order-1"], 78, ["--category", "first `-`"]),
        (
            &["--stream", "order-1", "--from-version", "5", "--to-version", "4"],
            78,
            ["--to-version", "first version, 5"],
        ),
        (&["--all", "--state", "/no/such/directory/file"], 78, ["--state", "can't be written"]),
    ] {
        let refused = replay(&table, "events", arguments).await;
        assert_eq!(refused.code(), Some(code), "{arguments:?}: {}", refused.stderr);
        for part in parts {
            assert!(refused.stderr.contains(part), "{arguments:?}, {part}: {}", refused.stderr);
        }
    }
}
