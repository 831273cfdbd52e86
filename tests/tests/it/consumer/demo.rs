//! The demo: each event takes effect once, in order, also if most of what is in the queue is purged in the middle; and it leaves nothing behind.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use streambox_tests::{
    broker::{OwnBroker, shared_broker_url},
    engine::TestTable,
    mode::Mode,
    programs::{Finished, Process},
};

/// 140 events of 24 streams.
fn log() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/orders.ndjson")
}

/// Starts it with what it needs to build the programs, which are built already.
fn start(table: &TestTable, url: &str, arguments: &[&OsStr]) -> Process {
    let is_of_others = |name: &OsString| {
        let name = name.to_string_lossy();
        !name.starts_with("AWS_") && !name.starts_with("STREAMBOX_")
    };
    let inherited: Vec<_> = env::vars_os().filter(|(name, _)| is_of_others(name)).collect();
    let variables: Vec<_> =
        inherited.iter().filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str()))).collect();
    Process::start_with("streambox-demo", Some(table), Some(url), &variables, arguments)
}

/// The tables that there are beside the test's own, if the engine is its own.
async fn other_tables(table: &TestTable) -> Vec<String> {
    if !Mode::is_embedded() {
        return vec![];
    }
    let tables = table.client().list_tables().send().await.expect("the engine answers").table_names.unwrap_or_default();
    tables.into_iter().filter(|name| *name != table.name).collect()
}

/// The number at the beginning of what follows a text.
fn number_behind(text: &str, before: &str) -> u64 {
    let behind = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}")).1;
    let number = behind.split_whitespace().next().unwrap_or_default().replace(',', "");
    number.parse().unwrap_or_else(|_| panic!("no number behind {before:?} in {text}"))
}

fn is_whole(demo: &Finished) {
    assert_eq!(demo.code(), Some(0), "{}{}", demo.stdout, demo.stderr);
    let counts = [
        ("events appended", 140),
        ("events published", 140),
        ("effects stored", 140),
        ("effects missing", 0),
        ("effects repeated", 0),
        ("order violations", 0),
        ("streams behind", 0),
        ("streams parked", 0),
        ("entries pending", 0),
    ];
    for (what, count) in counts {
        assert_eq!(number_behind(&demo.stdout, what), count, "{what}: {}", demo.stdout);
    }
    assert!(demo.stdout.contains("\nEvery event has taken effect once, each stream in order"), "{}", demo.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_the_demo_stores_each_effect_once_in_order_and_leaves_nothing_behind() {
    let table = TestTable::create().await;
    let demo = start(&table, &shared_broker_url(), &[log().as_os_str()]).finish().await;
    is_whole(&demo);
    assert!(number_behind(&demo.stdout, "messages received") >= 140, "{}", demo.stdout);
    assert_eq!(other_tables(&table).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_c3_the_demo_heals_what_a_purge_in_the_middle_has_deleted_and_stores_nothing_twice() {
    let table = TestTable::create().await;
    let demo = start(&table, &shared_broker_url(), &[OsStr::new("--purge"), log().as_os_str()]).finish().await;
    is_whole(&demo);
    let text = &demo.stdout;
    let purged = number_behind(text, "messages purged");
    // What was lost with messages of streams that go on, and of those that do not.
    let of_gaps = number_behind(text, "healed from the events table:");
    let lost_ends = number_behind(text, "by `Inbox::lag`:");
    let rebuilt = number_behind(text, "with `Rebuild`:");
    assert!(purged > 0 && of_gaps > 0 && lost_ends > 0, "{text}");
    assert_eq!(rebuilt, lost_ends, "{text}");
    assert!(of_gaps + rebuilt >= purged, "{text}");
    assert_eq!(other_tables(&table).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_can_purge_nothing_says_so() {
    let table = TestTable::create().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("small.ndjson");
    let text = std::fs::read_to_string(log()).expect("it can be read");
    let few: String = text.lines().take(2).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(&file, few).expect("it can be written");
    let demo = start(&table, &shared_broker_url(), &[OsStr::new("--purge"), file.as_os_str()]).finish().await;
    assert_eq!(demo.code(), Some(1), "{}{}", demo.stdout, demo.stderr);
    assert!(demo.stderr.contains("demo: nothing could be purged: the log has too few events"), "{}", demo.stderr);
    assert_eq!(other_tables(&table).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_interrupted_in_the_middle_leaves_nothing_behind() {
    let (table, broker) = (TestTable::create().await, OwnBroker::start().await);
    let mut demo = start(&table, broker.url(), &[OsStr::new("--purge"), log().as_os_str()]);
    demo.prints("purging the queue").await;
    demo.signal(Signal::SIGINT);
    let demo = demo.finish().await;
    assert_eq!(demo.code(), Some(130), "{}{}", demo.stdout, demo.stderr);
    assert!(demo.stderr.contains("interrupted; what it has made is removed"), "{}", demo.stderr);
    assert_eq!(other_tables(&table).await, [""; 0]);
    broker.ctl(&["eval", "[] = rabbit_amqqueue:list()."]).await;
    let of_demos =
        "[N || {resource, _, exchange, N} <- rabbit_exchange:list_names(), binary:match(N, <<\"demo\">>) =/= nomatch]";
    broker.ctl(&["eval", &format!("[] = {of_demos}.")]).await;
}
