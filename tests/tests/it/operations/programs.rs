//! The programs' exit codes and what they say when they can't begin.

use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, stream},
    programs::{Process, run},
    unique,
};

const USAGE: Option<i32> = Some(2);
const BAD_CONFIGURATION: Option<i32> = Some(78);

#[tokio::test]
async fn the_relay_says_which_setting_is_wrong_and_what_is_allowed() {
    let table = TestTable::create().await;
    let (table, ok_url) = (Some(&table), Some("amqp://127.0.0.1:1/"));

    let no_url = run("streambox-relay", table, None, ["run"]).await;
    assert_eq!(no_url.code(), USAGE);
    assert!(no_url.stderr.contains("--amqp-url"), "{}", no_url.stderr);

    let bad_url = run("streambox-relay", table, Some("http://user:secret@host/"), ["run"]).await;
    assert_eq!(bad_url.code(), BAD_CONFIGURATION);
    assert!(bad_url.stderr.contains("STREAMBOX_AMQP_URL") && bad_url.stderr.contains("amqps://"), "{}", bad_url.stderr);
    assert!(!bad_url.stderr.contains("secret"), "{}", bad_url.stderr);

    let too_many = run("streambox-relay", table, ok_url, ["run", "--publishers", "17"]).await;
    assert_eq!(too_many.code(), USAGE);
    assert!(too_many.stderr.contains("--publishers") && too_many.stderr.contains("1..=16"), "{}", too_many.stderr);

    let reserved = run("streambox-relay", table, ok_url, ["run", "--exchange", "amq.topic"]).await;
    assert_eq!(reserved.code(), BAD_CONFIGURATION);
    assert!(reserved.stderr.contains("amq.topic"), "{}", reserved.stderr);
}

#[tokio::test]
async fn a_relay_without_its_table_says_how_to_create_it() {
    let table = TestTable::create().await;
    let arguments = ["drain", "--table", "not-there"];
    let failed = run("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1/"), arguments).await;
    assert_eq!(failed.code(), BAD_CONFIGURATION, "{}", failed.stderr);
    assert!(failed.stderr.contains("streambox table create"), "{}", failed.stderr);
}

#[tokio::test]
async fn a_relay_that_never_reaches_a_broker_still_stops_when_told() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 3).await;
    let arguments = ["run", "--drain-timeout-ms", "100"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1/"), arguments);
    relay.logs("no connection to the broker").await;
    relay.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    assert_eq!(table.pending().await, 3);
}

#[tokio::test]
async fn a_drain_reports_what_it_has_done() {
    let table = TestTable::create().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    for number in 0..3 {
        table.fill(&stream(&format!("order-{number}")), 4).await;
    }
    let drain = async |format: &str| {
        let arguments = ["drain", "--exchange", inbox.exchange(), "--format", format];
        run("streambox-relay", Some(&table), Some(&shared_broker_url()), arguments).await
    };
    let first = drain("json").await;
    let report: serde_json::Value = serde_json::from_str(&first.stdout).expect("one JSON object");
    assert_eq!((&report["published"], &report["entries_deleted"]), (&12.into(), &12.into()));
    assert_eq!((&report["drained"], &report["halted"]), (&true.into(), &serde_json::json!({})));
    assert!(report["seconds"].is_number() && report["events_per_second"].is_number());
    let second = drain("text").await;
    assert!(second.stdout.starts_with("published 0 events, deleted 0 pending entries"), "{}", second.stdout);
    assert_eq!(inbox.receive_rest().await.unwrap().received(), 12);
    inbox.close().await.unwrap();
}
