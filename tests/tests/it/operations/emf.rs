//! Metrics for CloudWatch on the standard output of a relay.

use nix::sys::signal::Signal;
use serde_json::Value;
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    emf,
    engine::{TestTable, stream},
    programs::{Process, run},
    unique,
};

const NAMESPACE: [&str; 4] = ["--emf-namespace", "Streambox", "--emf-interval-s", "1"];

fn sum(lines: &[Value], name: &str) -> u64 {
    lines.iter().filter_map(|line| line[name].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_and_refused_is_in_the_lines_each_once_and_the_last_comes_when_the_relay_has_ended() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    table.fill(&stream("permit-1"), 2).await;
    let first = ["run", "--exchange", inbox.exchange(), "--worker-id", "relay-1", "--poll-interval-ms", "50"];
    let arguments = first.into_iter().chain(NAMESPACE);
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    table.fill(&stream("order-1"), 40).await;
    inbox.receive_distinct(40).await;
    // At least one line has come while it ran, and says that the backlog is the halted stream's.
    relay.prints("\"PendingEntries\":2,").await;
    table.fill(&stream("order-2"), 30).await;
    inbox.receive_distinct(70).await;
    table.wait_for_items(2 + 70 + 2 + 1).await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);

    let lines = emf::lines(&finished.stdout);
    let summary = finished.stdout.lines().nth(lines.len()).unwrap_or_default();
    assert!(summary.starts_with("published 70 events"), "it comes last, and nothing else: {}", finished.stdout);
    for line in &lines {
        emf::check(line).unwrap();
        assert_eq!((&line["Table"], &line["WorkerId"]), (&table.name.as_str().into(), &"relay-1".into()));
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Streambox");
    }
    assert_eq!(sum(&lines, "PublishedEvents"), 70);
    let attempts = finished.stderr.matches("the stream is halted at version 1").count();
    assert_eq!(sum(&lines, "RefusedEvents"), attempts as u64, "{}", finished.stderr);
    let (last, running) = lines.split_last().expect("there are lines");
    assert!(last.get("PendingEntries").is_none() && last["PublishedEvents"].is_u64(), "{last}");
    let shown = running.last().expect("it ran for a while");
    assert_eq!(
        (&shown["BrokerReady"], &shown["HaltedStreams"], &shown["LiveWorkers"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert!(shown["OldestPendingAge"].as_f64().is_some_and(|age| age > 0.0), "{shown}");
    // Lines of one worker are never of the same interval; the last is of no whole one.
    let times: Vec<_> = running.iter().map(|line| line["_aws"]["Timestamp"].as_u64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a < b) && times.iter().all(|time| time % 1_000 == 0), "{times:?}");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_namespace_nothing_but_the_summary_is_printed() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    table.fill(&stream("order-1"), 3).await;
    let arguments = ["run", "--exchange", inbox.exchange(), "--format", "json", "--emf-interval-s", "1"];
    let relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    inbox.receive_distinct(3).await;
    table.wait_for_nothing_pending().await;
    relay.signal(Signal::SIGTERM);
    let finished = relay.finish().await;
    assert_eq!((finished.code(), finished.stdout.lines().count()), (Some(0), 1), "{}", finished.stdout);
    let report: Value = serde_json::from_str(&finished.stdout).expect("one JSON object");
    assert_eq!(report["published"], 3);
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_that_is_closed_or_that_nobody_reads_holds_nothing_up() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    for (number, is_closed) in [(1, true), (2, false)] {
        let first = ["run", "--exchange", inbox.exchange(), "--poll-interval-ms", "50"];
        let arguments = first.into_iter().chain(NAMESPACE);
        let mut relay = Process::start_unread("streambox-relay", Some(&table), Some(&url), arguments, is_closed);
        if is_closed {
            relay.logs("standard output can't be written").await;
        }
        table.fill(&stream(&format!("order-{number}")), 5).await;
        inbox.receive_distinct(number * 5).await;
        table.wait_for_nothing_pending().await;
        relay.signal(Signal::SIGTERM);
        let finished = relay.finish().await;
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    }
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn a_namespace_that_cloudwatch_does_not_take_is_bad_configuration() {
    let table = TestTable::create().await;
    let arguments = ["run", "--emf-namespace", "AWS/Streambox"];
    let refused = run("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1/"), arguments).await;
    assert_eq!(refused.code(), Some(78), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("STREAMBOX_EMF_NAMESPACE") && refused.stderr.contains("`AWS/`"),
        "{}",
        refused.stderr
    );
}
