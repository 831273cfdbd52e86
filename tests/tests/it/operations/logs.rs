//! Standard error that can't be written, or that nobody reads; signals while something waits; what must not be in a log.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, PipeReader},
    os::fd::OwnedFd,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use streambox_tests::{
    PATIENCE,
    amqp::{Act, Moment, ScriptedBroker, obedient},
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, stream},
    http::{ask, without_table},
    programs::Process,
    unique,
};
use tokio::{net::TcpListener, task::spawn_blocking, time::timeout};

const RELAY: &str = "streambox-relay";

/// A disk without room.
fn full_disk() -> OwnedFd {
    File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

fn closed_pipe() -> OwnedFd {
    std::io::pipe().expect("a pipe").1.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_a_full_disk_or_a_closed_pipe_costs_nothing_but_the_log() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    for (number, stderr) in [(1, full_disk()), (2, closed_pipe())] {
        let arguments = ["run", "--exchange", inbox.exchange(), "--poll-interval-ms", "50", "--log", "trace"];
        let relay = Process::start_logging_to(RELAY, Some(&table), Some(&url), arguments, stderr);
        table.fill(&stream(&format!("order-{number}")), 50).await;
        inbox.receive_distinct(number * 50).await;
        table.wait_for_nothing_pending().await;
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.finish().await.code(), Some(0));
    }
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_broker_goes_on_trying_also_when_it_can_not_say_so() {
    let (table, broker) = (TestTable::create().await, ScriptedBroker::start(|_| vec![Act::Reset]).await);
    let relay = Process::start_logging_to(RELAY, Some(&table), Some(&broker.url()), ["run"], full_disk());
    broker.wait_until(|seen| seen.connections >= 6).await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
}

#[tokio::test]
async fn a_failure_that_can_not_be_told_has_its_exit_code_all_the_same() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 1).await;
    for (name, arguments, code) in [
        (RELAY, &["run", "--amqp-url", "http://h"][..], 78),
        (RELAY, &["run"], 2),
        (RELAY, &["health", "--http", "127.0.0.1:1"], 1),
        ("streambox", &["read", "order-1", "--table", "missing", "--log", "trace"], 78),
        ("streambox", &["read", "order-2", "--log", "trace"], 0),
        ("streambox", &["streams", "--category", "none"], 0),
    ] {
        for stderr in [full_disk(), closed_pipe()] {
            let process = Process::start_logging_to(name, Some(&table), None, arguments, stderr);
            assert_eq!(process.finish().await.code(), Some(code), "{name} {arguments:?}");
        }
    }
}

/// Reads lines until one contains this.
async fn read_until(mut pipe: BufReader<PipeReader>, text: &'static str) -> (String, BufReader<PipeReader>) {
    let read = spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(pipe.read_line(&mut line).expect("the pipe is open") > 0, "the log ends without {text:?}");
        }
        (line, pipe)
    });
    timeout(PATIENCE, read).await.expect("it is logged in time").expect("nobody panics")
}

async fn metric(address: &str, name: &str) -> u64 {
    let metrics = without_table(&ask(address, "GET", "/metrics").await.body);
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("there is no {name} in\n{metrics}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_neither_events_nor_the_end_and_what_is_dropped_is_counted() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let exchange = inbox.exchange().to_owned();
    let arguments = ["run", "--exchange", &exchange, "--poll-interval-ms", "10", "--log", "trace"];
    for (number, is_read_again) in [(1, true), (2, false)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let relay = Process::start_logging_to(RELAY, Some(&table), Some(&url), arguments, writer);
        let (line, pipe) = read_until(BufReader::new(reader), "status page at http://").await;
        let log: Value = serde_json::from_str(&line).expect("a log that is no terminal's is JSON");
        let address = log["address"].as_str().expect("the address").to_owned();
        // From here on nobody reads, and the queue runs full.
        let is_full = async {
            while metric(&address, "streambox_relay_log_lines_dropped_total").await == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, is_full).await.expect("lines are dropped");
        table.fill(&stream(&format!("order-{number}")), 20).await;
        inbox.receive_distinct(number * 20).await;
        table.wait_for_nothing_pending().await;
        let pipe = if is_read_again {
            let (line, mut pipe) = read_until(pipe, "lines to standard error were dropped").await;
            let log: Value = serde_json::from_str(&line).expect("whole lines");
            assert!(log["lines"].as_u64().is_some_and(|lines| lines > 0), "{line}");
            std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
            None
        } else {
            Some(pipe)
        };
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.finish().await.code(), Some(0));
        drop(pipe);
    }
    inbox.close().await.unwrap();
}

/// Sends SIGTERM again and again, until it has ended.
async fn insist(mut process: Process) -> Option<i32> {
    let ended = timeout(PATIENCE, async {
        while !process.has_ended() {
            process.signal(Signal::SIGTERM);
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("it ends");
    process.finish().await.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_program_also_while_it_waits_for_a_reader() {
    let table = TestTable::create().await;
    let arguments = ["status", "--watch", "--no-wait", "--format", "json", "--log", "trace"];
    // It blocks when it prints its first line.
    let mut status = Process::start_unread(RELAY, Some(&table), None, arguments, false);
    status.logs("Scan").await;
    assert_eq!(insist(status).await, Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_an_import_that_dynamodb_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("a bound address"));
    let table = TestTable::create().await.through(&url);
    let mut import = Process::start("streambox", Some(&table), None, ["import", "-"]);
    import.input("{\"stream\":\"order-1\",\"type\":\"Placed\",\"data\":1}\n").await;
    // Lines are read in chunks; what is there is sent at the end of the input, which the signals do not wait for.
    import.end_input();
    let (_held, _) = timeout(PATIENCE, silent.accept()).await.expect("it asks").expect("a connection");
    assert_eq!(insist(import).await, Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_says_forges_no_line_and_drives_no_terminal() {
    let script = |moment: &Moment<'_>| match moment {
        Moment::Open { .. } => vec![Act::CloseConnection(320, "bad\u{1b}[31m\r\n\u{9b}2J forged")],
        moment => obedient(moment),
    };
    let (table, broker) = (TestTable::create().await, ScriptedBroker::start(script).await);
    for format in ["text", "json"] {
        let arguments = ["run", "--log-format", format];
        let mut relay = Process::start(RELAY, Some(&table), Some(&broker.url()), arguments);
        let line = relay.log_line("forged").await;
        assert!(line.contains("bad") && !line.contains(char::is_control), "{line:?}");
        relay.signal(Signal::SIGTERM);
        assert_eq!(relay.finish().await.code(), Some(0));
    }
}
