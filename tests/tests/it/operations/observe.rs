//! A running relay, looked into: health, metrics, status, and what is never in a log.

use nix::sys::signal::Signal;
use serde_json::Value;
use streambox::{ExpectedVersion, NewEvent};
use streambox_relay::broker::{MIN_CHANNEL_MAX, MIN_FRAME_MAX};
use streambox_tests::{
    PATIENCE,
    broker::{Inbox, OwnBroker, shared_broker_url},
    engine::{TestTable, stream},
    http::{Answer, ask, without_table},
    programs::{Process, run},
    unique,
};
use tokio::time::timeout;

/// Where the page of a relay is, as it logs it.
async fn address(relay: &mut Process) -> String {
    let line = relay.log_line("status page at http://").await;
    let log: Value = serde_json::from_str(&line).expect("a log that is no terminal's is JSON");
    log["address"].as_str().expect("the address").to_owned()
}

/// Asks until the answer is as it should be: a page is at most a moment old, and gives no signal.
async fn until(address: &str, path: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let mut last = None;
    let reached = async {
        loop {
            let mut answer = ask(address, "GET", path).await;
            if path == "/metrics" {
                answer.body = without_table(&answer.body);
            }
            if is_so(&answer) {
                return answer;
            }
            last = Some(answer);
            tokio::task::yield_now().await;
        }
    };
    let reached = timeout(PATIENCE, reached).await;
    reached.unwrap_or_else(|_| panic!("{path} does not come to it; the last answer was {last:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_broker_and_metrics_and_status_say_what_was_done_and_what_is_halted() {
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut inbox = Inbox::bound(broker.url(), &unique("events"), "order.#").await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--poll-interval-ms", "50", "--worker-id", "relay-<1>"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);
    let at = address(&mut relay).await;
    let ready = until(&at, "/readyz", |answer| answer.status == 200).await;
    assert_eq!(ready.body, "ok\n");
    assert_eq!(ask(&at, "GET", "/livez").await.status, 200);

    table.fill(&stream("order-1"), 5).await;
    table.fill(&stream("permit-1"), 2).await;
    inbox.receive_distinct(5).await;
    // An event is in the queue before its confirm has come back.
    let (confirmed, deleted) = ("events_total{result=\"confirmed\"} 5\n", "entries_deleted_total 5\n");
    // One connection is enough to be ready, and to publish everything.
    let (connected, halted) =
        ("streambox_relay_connections{state=\"connected\"} 2\n", "streambox_relay_halted_streams 1\n");
    let shows_all =
        |answer: &Answer| [confirmed, deleted, connected, halted].iter().all(|line| answer.body.contains(line));
    let metrics = until(&at, "/metrics", shows_all).await;
    for line in ["streambox_relay_ready 1\n", "streambox_relay_workers 1\n", "streambox_relay_own_share 1\n"] {
        assert!(metrics.body.contains(line), "{line}:\n{}", metrics.body);
    }
    assert!(!metrics.body.contains("permit") && !metrics.body.contains("order-1"), "a stream id is no label");
    let requests = |name: &str| {
        let line = format!("streambox_relay_requests_total{{request=\"{name}\"}} ");
        let count = metrics.body.split(&line).nth(1).and_then(|rest| rest.lines().next()?.parse::<u64>().ok());
        count.unwrap_or_else(|| panic!("{line}\n{}", metrics.body))
    };
    assert!(requests("scan") > 0 && requests("read") >= 2 && requests("delete") > 0 && requests("heartbeat") > 0);

    let status = until(&at, "/status.json", |answer| answer.body.contains("\"entries\":2,")).await;
    let status: Value = serde_json::from_str(&status.body).expect("JSON");
    assert_eq!((&status["published"], &status["halted"][0]["stream"]), (&5.into(), &"permit-1".into()));
    assert_eq!(status["halted"][0]["version"], 1);
    assert!(status["halted"][0]["reason"].as_str().unwrap().contains("permit.Counted"));
    let page = ask(&at, "GET", "/").await.body;
    assert!(page.contains("1 stream is halted") && page.contains("relay-&lt;1&gt;"), "{page}");

    broker.stop().await;
    let lost = until(&at, "/readyz", |answer| answer.status == 503).await;
    assert!(lost.body.contains("no connection to the broker"), "{}", lost.body);
    assert_eq!(ask(&at, "GET", "/livez").await.status, 200, "no reason to restart it");
    broker.start_again().await;
    until(&at, "/readyz", |answer| answer.status == 200).await;
    // It is ready with the first connection.
    until(&at, "/metrics", |answer| answer.body.contains("streambox_relay_reconnects_total 2\n")).await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_that_only_one_publisher_is_notified_of_makes_the_relay_unready_until_it_is_over() {
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut inbox = Inbox::open(broker.url(), &unique("events")).await.unwrap();
    let first = ["run", "--exchange", inbox.exchange(), "--publishers", "2", "--poll-interval-ms", "50"];
    let arguments = first.into_iter().chain(["--emf-namespace", "Streambox", "--emf-interval-s", "1"]);
    let mut relay = Process::start("streambox-relay", Some(&table), Some(broker.url()), arguments);
    let at = address(&mut relay).await;
    until(&at, "/metrics", |answer| answer.body.contains("streambox_relay_connections{state=\"connected\"} 2\n")).await;

    broker.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    // One stream: one publisher gets a batch, and the other one has nothing to say that RabbitMQ would answer.
    table.fill(&stream("order-1"), 30).await;
    let unready = until(&at, "/readyz", |answer| answer.status == 503).await;
    assert!(unready.body.starts_with("the broker takes no messages: low on memory"), "{}", unready.body);
    let metrics = without_table(&ask(&at, "GET", "/metrics").await.body);
    for line in [
        "streambox_relay_ready 0",
        "streambox_relay_broker_ready 0",
        "streambox_relay_connections{state=\"blocked\"} 1",
        "streambox_relay_connections{state=\"connected\"} 1",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}:\n{metrics}");
    }
    let page = ask(&at, "GET", "/").await.body;
    assert!(page.contains("<h2>The broker takes no messages</h2>") && !page.contains("more relays"), "{page}");
    let health = run("streambox-relay", None, None, ["health", "--ready", "--http", &at]).await;
    assert_eq!(health.code(), Some(1), "{}", health.stdout);
    relay.prints("\"BrokerReady\":0,").await;

    broker.ctl(&["set_vm_memory_high_watermark", "0.9"]).await;
    inbox.receive_distinct(30).await;
    until(&at, "/readyz", |answer| answer.status == 200).await;
    relay.prints("\"BrokerReady\":1,").await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_no_queue_takes_are_counted_where_they_are_accepted_and_a_run_of_them_is_reported() {
    const EVENTS: u64 = streambox_relay::broker::UNROUTABLE_RUN;
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("order-1"), 2).await;
    let first = ["run", "--exchange", inbox.exchange(), "--publishers", "1", "--poll-interval-ms", "50"];
    let arguments = first.into_iter().chain(["--unroutable", "accept"]);
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    let at = address(&mut relay).await;
    inbox.receive_distinct(2).await;
    let none = until(&at, "/metrics", |answer| answer.body.contains("{result=\"confirmed\"} 2\n")).await;
    assert!(none.body.contains("streambox_relay_unroutable_events_total 0\n"), "{}", none.body);
    // As if the exchange had been deleted, and declared anew without its bindings.
    for number in 1..=EVENTS {
        table.fill(&stream(&format!("permit-{number}")), 1).await;
    }
    let counted = format!("streambox_relay_unroutable_events_total {EVENTS}\n");
    until(&at, "/metrics", |answer| answer.body.contains(&counted)).await;
    let confirmed = format!("{{result=\"confirmed\"}} {}\n", EVENTS + 2);
    until(&at, "/metrics", |answer| answer.body.contains(&confirmed)).await;
    for log in ["no queue takes an event", "does the exchange still have its bindings?"] {
        let log = relay.log_line(log).await;
        assert!(log.contains("permit.Counted") && log.contains("--unroutable accept"), "{log}");
    }
    let page = ask(&at, "GET", "/").await.body;
    assert!(page.contains(&format!("The last {EVENTS} events reached no queue")), "{page}");
    table.fill(&stream("order-2"), 1).await;
    inbox.receive_distinct(3).await;
    until(&at, "/", |answer| answer.body.contains("Everything is published")).await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_of_a_running_relay_by_the_table_alone() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("permit-1"), 2).await;
    let arguments = ["run", "--exchange", inbox.exchange(), "--worker-id", "relay-1", "--heartbeat-interval-ms", "100"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    relay.logs("permit.Counted").await;
    let status = async |more: &'static str| {
        run("streambox-relay", Some(&table), None, ["status", "--fail-if-halted", more]).await
    };
    let mut halted = status("--format=json").await;
    // The row follows with the next heartbeat.
    while halted.code() == Some(0) {
        halted = status("--format=json").await;
    }
    let json: Value = serde_json::from_str(&halted.stdout).expect("one JSON object");
    assert_eq!((&json["workers"][0]["id"], &json["workers"][0]["alive"]), (&"relay-1".into(), &true.into()));
    assert_eq!((&json["workers"][0]["share"], &json["backlog"]["entries"]), (&1.0.into(), &2.into()));
    assert_eq!((&json["halted"][0]["stream"], &json["halted"][0]["version"]), (&"permit-1".into(), &1.into()));
    assert!(json["halted"][0]["reason"].as_str().unwrap().contains("no queue takes"), "{json}");
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_in_no_log_however_much_is_logged() {
    const PASSWORD: &str = "s3cr3t-p4ssw0rd";
    let table = TestTable::create().await;
    let refused =
        run("streambox-relay", Some(&table), Some("amqp://h/"), ["run", "--log", "info,lapin::io_loop=trace"]).await;
    assert_eq!(refused.code(), Some(78), "{}", refused.stderr);
    assert!(refused.stderr.contains("would log the broker's password"), "{}", refused.stderr);
    let shared = shared_broker_url();
    let host = shared.rsplit('@').next().expect("a host").to_owned();
    // Nobody has this password, nor this user: the login is refused, and the relay says so.
    for (url, log) in [
        (format!("amqp://nobody:{PASSWORD}@{host}"), "trace"),
        (format!("amqp://nobody:{PASSWORD}@127.0.0.1:1/"), "trace"),
        (format!("amqp://nobody:{PASSWORD}@host:99999/"), "info"),
    ] {
        let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), ["run", "--log", log]);
        if url.contains("127.0.0.1:1/") {
            relay.logs("no connection to the broker").await;
            relay.signal(Signal::SIGTERM);
        }
        let ended = relay.finish().await;
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!all.contains(PASSWORD), "{url}: {}", all.lines().find(|line| line.contains(PASSWORD)).unwrap_or(""));
        // What SASL sends: user and password between zeros, in base 64 or in hexadecimal digits.
        let hex = PASSWORD.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert!(!all.contains(&hex) && !all.contains("czNjcjN0"), "{url}");
        let digits = PASSWORD.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        assert!(!all.contains(&digits), "{url}: as a list of bytes");
    }
}

#[tokio::test]
async fn a_url_that_can_not_be_read_is_shown_nowhere_and_a_parameter_that_can_not_work_is_refused() {
    const PASSWORD: &str = "hunter2";
    for (url, words) in [
        ("amqp://relay:hunter2", "allowed is amqp://"),
        ("amqp://relay:hunter2%40host:5672/", "allowed is amqp://"),
        ("amqp:relay:hunter2", "allowed is amqp://"),
        ("amqp://relay@host/?password=hunter2", "password has no effect"),
        ("amqp://relay:hunter2@host/?channel_max=1", "channel_max is 1"),
        ("amqp://relay:hunter2@host/?connection_timeout=0", "connection_timeout is 0"),
        ("amqp://relay:hunter2@host/?frame_max=4096", "frame_max is 4096"),
    ] {
        let refused = run("streambox-relay", None, Some(url), ["run", "--log", "trace"]).await;
        assert_eq!(refused.code(), Some(78), "{url}: {}", refused.stderr);
        assert!(refused.stderr.contains("--amqp-url (STREAMBOX_AMQP_URL)") && refused.stderr.contains(words), "{url}");
        assert!(!refused.stderr.contains(PASSWORD), "{}", refused.stderr);
        let help = run("streambox-relay", None, Some(url), ["run", "--help"]).await;
        assert!(help.code() == Some(0) && !help.stdout.contains(PASSWORD), "{}", help.stdout);
        let misplaced = run("streambox-relay", None, None, ["run", url]).await;
        assert_eq!(misplaced.code(), Some(2), "{}", misplaced.stderr);
        assert!(
            !misplaced.stderr.contains(PASSWORD) && misplaced.stderr.contains("--amqp-url"),
            "{}",
            misplaced.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_frames_and_the_fewest_channels_that_are_allowed_are_enough() {
    let (table, shared) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&shared, &unique("events")).await.unwrap();
    let large = NewEvent::json("Large", &"x".repeat(200_000)).expect("a valid event");
    table.store.append(&stream("order-1"), ExpectedVersion::NoStream, [large]).await.unwrap();
    table.fill(&stream("order-2"), 5).await;
    let url = format!("{shared}?frame_max={MIN_FRAME_MAX}&channel_max={MIN_CHANNEL_MAX}&auth_mechanism=plain");
    let drained = run("streambox-relay", Some(&table), Some(&url), ["drain", "--exchange", inbox.exchange()]).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    assert_eq!(inbox.receive_rest().await.unwrap().distinct(), 6);
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_and_off_listens_nowhere() {
    let table = TestTable::create().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).unwrap();
    let refused = run("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1/"), ["run", "--http", &taken.0]).await;
    assert_eq!(refused.code(), Some(78), "{}", refused.stderr);
    assert!(refused.stderr.contains("--http") && refused.stderr.contains(&taken.0), "{}", refused.stderr);

    let mut off =
        Process::start("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1/"), ["run", "--http", "off"]);
    off.logs("no connection to the broker").await;
    off.signal(Signal::SIGTERM);
    let ended = off.finish().await;
    assert!(ended.code() == Some(0) && !ended.stderr.contains("status page"), "{}", ended.stderr);
}
