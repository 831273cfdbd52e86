//! `streambox-relay health`: what the health check of a container asks.

use nix::sys::signal::Signal;
use serde_json::Value;
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::TestTable,
    programs::{Finished, Process, run},
    unique,
};
use tokio::net::TcpListener;

async fn health(arguments: &[&str]) -> Finished {
    // Neither a table nor a broker.
    run("streambox-relay", None, None, ["health"].iter().chain(arguments)).await
}

async fn address(relay: &mut Process) -> String {
    let line = relay.log_line("status page at http://").await;
    let log: Value = serde_json::from_str(&line).expect("a log that is no terminal's is JSON");
    log["address"].as_str().expect("the address").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_works_is_well_and_one_without_a_broker_is_alive_and_not_ready() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    // It listens on every address, and is asked on loopback.
    let arguments = ["run", "--exchange", inbox.exchange(), "--http", "0.0.0.0:0"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    let at = address(&mut relay).await;
    assert!(at.starts_with("0.0.0.0:"), "{at}");
    let mut ready = health(&["--http", &at, "--ready"]).await;
    // It may not have come so far.
    while ready.code() == Some(1) {
        assert!(!ready.stdout.is_empty(), "it says why: {}", ready.stderr);
        ready = health(&["--http", &at, "--ready"]).await;
    }
    assert_eq!((ready.code(), ready.stdout.as_str()), (Some(0), "ok\n"), "{}", ready.stderr);
    let alive = health(&["--http", &at]).await;
    assert_eq!((alive.code(), alive.stdout.as_str(), alive.stderr.as_str()), (Some(0), "ok\n", ""));
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.unwrap();

    let mut lost = Process::start("streambox-relay", Some(&table), Some("amqp://127.0.0.1:1/"), ["run"]);
    lost.logs("no connection to the broker").await;
    let at = address(&mut lost).await;
    assert_eq!(health(&["--http", &at]).await.code(), Some(0), "no reason to restart it");
    let refused = health(&["--http", &at, "--ready"]).await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stdout.contains("there is no connection to the broker"), "{}", refused.stdout);
}

#[tokio::test]
async fn no_answer_and_a_wrong_one_are_told_in_a_sentence_within_a_bounded_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let silent = health(&["--http", &at]).await;
    assert_eq!(silent.code(), Some(1));
    assert!(silent.stderr.contains("has not answered within 4s") && silent.stderr.contains(&at), "{}", silent.stderr);
    drop(listener);
    let nobody = health(&["--http", &at]).await;
    assert_eq!(nobody.code(), Some(1));
    assert!(nobody.stderr.contains(&format!("no relay answers at {at}")), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("STREAMBOX_HTTP") && nobody.stderr.contains("refused"), "{}", nobody.stderr);
}

#[tokio::test]
async fn a_setting_that_leads_nowhere_is_a_mistake_of_the_call() {
    for (setting, code, words) in
        [("off", 2, "--http off"), ("127.0.0.1:0", 2, "the relay's log names"), ("localhost", 78, "allowed is")]
    {
        let refused = health(&["--http", setting]).await;
        assert_eq!(refused.code(), Some(code), "{}", refused.stderr);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}
