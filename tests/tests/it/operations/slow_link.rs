//! Slow links and dead connections between a program and DynamoDB: the one is given its time, the other is given up.

use std::time::Duration;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use serde_json::Value;
use streambox::{Client, Compression, Error, EventStore, ExpectedVersion::NoStream, NewEvent, RequestLimits};
use streambox_tests::{
    PATIENCE,
    engine::{REGION, TestTable, stream},
    programs::run,
    proxy::{Passage, Proxy, Refusal},
    slow_link::SlowLink,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    time::timeout,
};

const DONE: Option<i32> = Some(0);

/// Events of 300 KB that compression makes no smaller.
fn large(count: usize) -> Vec<NewEvent> {
    (0..count).map(|_| NewEvent::json("Scanned", &"x".repeat(300_000)).expect("JSON")).collect()
}

fn client(url: &str, limits: RequestLimits) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .endpoint_url(url);
    Client::from_conf(limits.apply(config).build())
}

/// The table behind a link of this many bytes a second in each direction.
async fn behind(table: &TestTable, bytes_per_second: u32) -> (TestTable, SlowLink) {
    let link = SlowLink::start_both_ways(table.url().trim_start_matches("http://"), bytes_per_second).await;
    let url = format!("http://127.0.0.1:{}", link.port());
    (table.through(&url), link)
}

/// A page of 1 MB takes longer than a connection may be silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_what_is_large_is_read_over_a_slow_link_by_services_and_programs() {
    let engine = TestTable::create().await;
    engine.as_text().append(&stream("order-1"), NoStream, large(5)).await.expect("it is stored");
    let (table, _link) = behind(&engine, 400_000).await;
    let (order, program) =
        (stream("order-1"), |arguments: &'static [&'static str]| run("streambox", Some(&table), None, arguments));
    let (read, export, verify, lines) = tokio::join!(
        table.store.read(&order),
        program(&["export"]),
        program(&["verify"]),
        program(&["read", "order-1", "--format", "json"]),
    );
    assert_eq!(read.expect("it is read").events.len(), 5);
    for finished in [&export, &verify, &lines] {
        assert_eq!(finished.code(), DONE, "{}", finished.stderr);
    }
    assert_eq!([export.stdout.lines().count(), lines.stdout.lines().count()], [5, 5]);
}

/// A transaction of 3.6 MB takes 4 seconds to be sent: twice as long as a connection may be silent. The service has set limits of its
/// own, as one on a slow link does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_what_is_large_is_written_over_a_slow_link_by_services_and_programs() {
    let engine = TestTable::create().await;
    let (table, _link) = behind(&engine, 900_000).await;
    let line = |number: usize| {
        format!("{{\"stream\":\"order-{number}\",\"type\":\"Scanned\",\"data\":\"{}\"}}\n", "y".repeat(300_000))
    };
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), line(2).repeat(12)).expect("room on the disk");
    let limits = RequestLimits::patient().request(Duration::from_mins(1));
    let store = EventStore::builder(client(table.url(), limits), &table.name).compression(Compression::Off);
    let (store, order) = (store.operation_timeout(Duration::from_mins(1)).build(), stream("order-1"));
    let path = file.path().to_string_lossy().into_owned();
    let (appended, import) = tokio::join!(
        store.append(&order, NoStream, large(12)),
        run("streambox", Some(&table), None, ["import", &path, "--format", "json"]),
    );
    assert_eq!(appended.expect("it is stored").position.version(), 12);
    let report: Value = serde_json::from_str(&import.stdout).expect("a report");
    assert_eq!((import.code(), &report["appended"]), (DONE, &12.into()), "{}", import.stderr);
}

/// A server that answers each request with this, which may be nothing, and is silent then. Also how many connections it had.
async fn silent_after(answer: &'static [u8]) -> (String, watch::Receiver<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let (count, connections) = watch::channel(0);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4_096]).await;
            let _ = socket.write_all(answer).await;
            count.send_modify(|count| *count += 1);
            held.push(socket);
        }
    });
    (url, connections)
}

#[tokio::test]
async fn g10_a_connection_that_falls_silent_before_or_in_an_answer_is_given_up() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{\"Items\":["] {
        let (url, mut connections) = silent_after(answer).await;
        // Nothing but the silence ends it.
        let limits = RequestLimits::default().silence(Duration::from_millis(100)).request(Duration::from_hours(1));
        let store = EventStore::new(client(&url, limits), "orders");
        let error = store.read(&stream("order-1")).await.expect_err("nobody answers");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        // The server may be later than the client that has given up.
        let three = connections.wait_for(|connections| *connections >= 3);
        let three = *timeout(PATIENCE, three).await.expect("three attempts").expect("the server runs");
        assert_eq!(three, 3, "each attempt is on a connection of its own");
    }
}

/// The number of items that a request asks for at most.
fn limit(request: &Value) -> u64 {
    request["Limit"].as_u64().unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_pages_that_do_not_get_through_are_asked_for_in_smaller_parts() {
    let engine = TestTable::create().await;
    engine.fill(&stream("order-1"), 30).await;
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    proxy.set_gatekeeper(|operation, request| {
        let is_too_large = operation == "Scan" && limit(request) > 8;
        if is_too_large { Passage::Refuse(Refusal::Throttled) } else { Passage::Forward }
    });
    let export = run("streambox", Some(&table), None, ["export", "--segments", "1"]).await;
    assert_eq!(export.code(), DONE, "{}", export.stderr);
    assert_eq!(export.stdout.lines().count(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_batches_that_do_not_get_through_are_appended_in_smaller_parts() {
    let engine = TestTable::create().await;
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    proxy.set_gatekeeper(|operation, request| {
        let items = request["TransactItems"].as_array().map_or(0, Vec::len);
        let is_too_large = operation == "TransactWriteItems" && items > 4;
        if is_too_large { Passage::Refuse(Refusal::InternalError) } else { Passage::Forward }
    });
    let lines = (1..=8).map(|number| format!("{{\"stream\":\"order-1\",\"type\":\"Counted\",\"data\":{number}}}\n"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), lines.collect::<String>()).expect("room on the disk");
    let path = file.path().to_string_lossy().into_owned();
    let import = run("streambox", Some(&table), None, ["import", &path, "--request-timeout-s", "1"]).await;
    assert_eq!(import.code(), DONE, "{}", import.stderr);
    let payloads: Vec<_> =
        engine.store.read(&stream("order-1")).await.unwrap().events.into_iter().map(|event| event.payload).collect();
    assert_eq!(payloads, (1..=8).map(|number| number.to_string()).collect::<Vec<_>>());
}
