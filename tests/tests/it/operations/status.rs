//! `status`: what the table shows, whether a relay runs or not.

use serde_json::Value;
use streambox::outbox::{HaltedStream, SkipRequest, WorkerId, WorkerRow};
use streambox_tests::{
    engine::{TestTable, stream},
    programs::{Finished, Process, run},
};

async fn status(table: &TestTable, arguments: &[&str]) -> Finished {
    run("streambox-relay", Some(table), None, ["status"].iter().chain(arguments)).await
}

async fn json(table: &TestTable, arguments: &[&str]) -> Value {
    let all: Vec<_> = arguments.iter().copied().chain(["--format", "json"]).collect();
    let printed = status(table, &all).await;
    assert_eq!(printed.code(), Some(0), "{}", printed.stderr);
    serde_json::from_str(&printed.stdout).expect("one JSON object")
}

fn row(id: &str, beat: u64) -> WorkerRow {
    let mut row = WorkerRow::new(WorkerId::new(id).expect("a valid id"), beat);
    (row.beat_interval_ms, row.live_workers) = (1_000, 2);
    row
}

#[tokio::test]
async fn the_backlog_is_counted_up_to_a_limit_and_old_entries_fail_a_probe() {
    let table = TestTable::create().await;
    let empty = json(&table, &[]).await;
    assert_eq!((&empty["backlog"]["entries"], &empty["backlog"]["at_least"]), (&0.into(), &false.into()));
    assert_eq!((&empty["workers"], &empty["halted"]), (&serde_json::json!([]), &serde_json::json!([])));
    table.fill(&stream("order-1"), 3).await;
    table.fill(&stream("order-2"), 2).await;

    let all = json(&table, &[]).await;
    assert_eq!((&all["backlog"]["entries"], &all["backlog"]["streams"]), (&5.into(), &2.into()));
    assert!(all["backlog"]["oldest_age_seconds"].is_u64() && all["backlog"]["oldest_stream"].is_string(), "{all}");
    let some = json(&table, &["--max-entries", "4"]).await;
    assert_eq!((&some["backlog"]["entries"], &some["backlog"]["at_least"]), (&4.into(), &true.into()));
    let text = status(&table, &["--max-entries", "4"]).await.stdout;
    assert!(text.contains("at least 4 entries"), "{text}");
    let remedy = format!("nothing is published: start a relay by `streambox-relay run --table {}`", table.name);
    assert!(text.contains(&remedy), "{text}");
    assert_eq!(status(&table, &["--fail-if-older-than-s", "3600"]).await.code(), Some(0));
}

#[tokio::test]
async fn an_entry_that_is_too_old_and_a_halted_stream_fail_a_probe() {
    let table = TestTable::create().await;
    let long_ago = || std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let store = streambox::EventStore::builder(table.store_client(), &table.name).clock(long_ago).build();
    let appended = [streambox_tests::engine::event(1)];
    store.append(&stream("order-1"), streambox::ExpectedVersion::NoStream, appended).await.unwrap();
    let old = status(&table, &["--fail-if-older-than-s", "3600"]).await;
    assert_eq!(old.code(), Some(1), "{}", old.stdout);
    assert!(old.stdout.contains("order-1") && old.stdout.contains(" d "), "{}", old.stdout);

    let mut worker = row("a", 1);
    (worker.halted_streams, worker.halted) =
        (3, vec![HaltedStream::new(stream("permit-1"), 7, "no queue takes it", 1_780_000_000_000, 4)]);
    table.store.outbox().put_worker(&worker).await.unwrap();
    let halted = status(&table, &["--fail-if-halted", "--no-wait"]).await;
    assert_eq!(halted.code(), Some(1));
    for part in ["  no queue takes it\n    permit-1 at version 7, since ", "tried 4 times by a", "and 2 more"] {
        assert!(halted.stdout.contains(part), "{part}:\n{}", halted.stdout);
    }
}

#[tokio::test]
async fn halted_streams_are_grouped_by_reason_with_a_command_for_each_that_a_shell_reads() {
    let table = TestTable::create().await;
    let remedy = "bind one, or run with --unroutable accept";
    let no_queue = format!("no queue takes routing key \"{}\" of exchange \"e\": {remedy}", "order.Placed".repeat(60));
    let long = format!("order-{}", "x".repeat(2_042));
    let halted = |id: &str, reason: &str| HaltedStream::new(stream(id), 7, reason, 1_780_000_000_000, 4);
    let streams = [halted(&long, &no_queue), halted("order-it's 1", &no_queue), halted("permit-1", "damaged")];
    let mut worker = row("a", 1);
    (worker.halted_streams, worker.halted) = (3, streams.to_vec());
    table.store.outbox().put_worker(&worker).await.unwrap();
    let text = status(&table, &["--no-wait"]).await.stdout;
    assert_eq!(text.matches("no queue takes routing key").count(), 1, "{text}");
    assert!(text.contains(remedy), "what to do is not cut off: {text}");
    assert!(text.contains("    order-xxx") && text.contains("xxx at version 7, since"), "{text}");
    for id in [long.as_str(), r"'order-it'\''s 1'", "permit-1"] {
        let command = format!("      streambox-relay skip {id} 7 --table {} --reason 'WHY'\n", table.name);
        assert!(text.contains(&command), "{command}:\n{text}");
    }
}

#[tokio::test]
async fn a_worker_whose_heartbeat_stands_still_is_told_from_one_that_is_alive() {
    let table = TestTable::create().await;
    let outbox = table.store.outbox();
    let mut dead = row("dead", 1);
    dead.halted = vec![HaltedStream::new(stream("permit-1"), 7, "an old story", 1_780_000_000_000, 4)];
    dead.halted_streams = 1;
    outbox.put_worker(&dead).await.unwrap();
    outbox.put_worker(&row("live", 1)).await.unwrap();
    let beating = tokio::spawn(async move {
        for beat in 2.. {
            outbox.put_worker(&row("live", beat)).await.unwrap();
            // A heart's own pace, which nothing waits for.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let status = json(&table, &[]).await;
    beating.abort();
    let workers = status["workers"].as_array().unwrap();
    let alive = |id: &str| workers.iter().find(|worker| worker["id"] == id).map(|worker| worker["alive"].clone());
    assert_eq!((alive("dead"), alive("live")), (Some(false.into()), Some(true.into())), "{status}");
    assert_eq!(status["halted"], serde_json::json!([]), "what the dead have said last is not true any more");
    let share = |id: &str| workers.iter().find(|worker| worker["id"] == id).and_then(|worker| worker["share"].as_f64());
    assert_eq!((share("live"), share("dead")), (Some(0.5), Some(0.0)));
}

#[tokio::test]
async fn the_latest_skips_are_shown_and_what_comes_from_outside_moves_no_cursor() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 1).await;
    table.store.outbox().skip(&SkipRequest::new("order-1", 1_u64, "ada", "gone\u{1b}[2J mad")).await.unwrap();
    let text = status(&table, &[]).await.stdout;
    assert!(text.contains("order-1 version 1: gone\\u001b[2J mad") && !text.contains('\u{1b}'), "{text:?}");
    let skips = json(&table, &[]).await["skips"].clone();
    assert_eq!((&skips[0]["stream"], &skips[0]["by"]), (&"order-1".into(), &"ada".into()));
    assert_eq!(json(&table, &["--skips", "0"]).await["skips"], serde_json::json!([]));
}

#[tokio::test]
async fn watch_shows_it_again_and_again_until_told_to_stop() {
    let table = TestTable::create().await;
    let arguments = ["status", "--watch", "--watch-interval-ms", "200", "--format", "json"];
    let mut watching = Process::start("streambox-relay", Some(&table), None, arguments);
    watching.prints("\"entries\":0").await;
    table.fill(&stream("order-1"), 2).await;
    watching.prints("\"entries\":2").await;
    watching.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(watching.finish().await.code(), Some(0));
}
