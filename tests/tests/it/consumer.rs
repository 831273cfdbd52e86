//! The example of a consumer: whatever comes twice is handled once, across its own restarts.

use nix::sys::signal::Signal;
use streambox_tests::{
    broker::shared_broker_url,
    engine::{TestTable, stream},
    programs::{Process, run},
    unique,
};

const CONSUMER: &str = "examples/consumer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_consumer_handles_each_event_once_and_in_order_though_it_comes_twice() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("orders.ndjson");
    let (exchange, queue) = (unique("events"), unique("orders"));
    let arguments = [url.as_str(), &exchange, &queue, "order.#", journal.to_str().unwrap()];
    let relay = async |arguments: &[&str]| {
        let all = arguments.iter().copied().chain(["--exchange", &exchange, "--unroutable", "accept"]);
        let done = run("streambox-relay", Some(&table), Some(&url), all).await;
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
    };

    let mut consumer = Process::start(CONSUMER, None, None, arguments);
    consumer.prints("waiting for messages").await;
    table.fill(&stream("order-1"), 3).await;
    table.fill(&stream("permit-1"), 2).await;
    relay(&["drain"]).await;
    relay(&["replay", "--stream", "order-1", "--from-version", "2"]).await;
    consumer.prints("dropped order-1 3 (replay)").await;
    let killed = consumer.kill().await;
    assert!(killed.stdout.contains("handled order-1 3\n") && !killed.stdout.contains("permit"), "{}", killed.stdout);

    // The crash has left half a line behind; the last whole one was not acknowledged, say.
    std::fs::OpenOptions::new()
        .append(true)
        .open(&journal)
        .map(|mut file| {
            use std::io::Write as _;
            file.write_all(b"{\"stream\":\"order-1\",\"ver").unwrap();
        })
        .unwrap();
    let mut consumer = Process::start(CONSUMER, None, None, arguments);
    consumer.prints("waiting for messages").await;
    table.fill(&stream("order-2"), 1).await;
    relay(&["replay", "--category", "order"]).await;
    relay(&["drain"]).await;
    consumer.prints("order-2 1\n").await;
    consumer.signal(Signal::SIGTERM);
    let ended = consumer.finish().await;
    for version in 1..=3 {
        assert!(ended.stdout.contains(&format!("dropped order-1 {version} (replay)")), "{}", ended.stdout);
    }

    let lines = std::fs::read_to_string(&journal).unwrap();
    let handled: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("one JSON object a line"))
        .map(|line| (line["stream"].as_str().unwrap().to_owned(), line["version"].as_u64().unwrap()))
        .collect();
    let of =
        |id: &str| handled.iter().filter(|(stream, _)| stream == id).map(|(_, version)| *version).collect::<Vec<_>>();
    assert_eq!((of("order-1"), of("order-2"), handled.len()), (vec![1, 2, 3], vec![1], 4), "{lines}");
}
