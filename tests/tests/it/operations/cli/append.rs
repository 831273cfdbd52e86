//! `streambox append`.

use serde_json::json;
use streambox_tests::{
    engine::{TestTable, stream},
    fault,
    metering::Metering,
    programs::Process,
    proxy::Proxy,
};

use super::{DONE, FAILED, USAGE, file, json_lines, log, payloads, streambox};

#[tokio::test]
async fn an_event_is_appended_from_an_argument_a_file_and_standard_input() {
    let table = TestTable::create().await;
    let from_file = file("  { \"b\": 1.50 }\n");
    let at_file = format!("@{}", from_file.path().display());
    let first =
        ["append", "order-1", "--type", "Placed", "--data", "{\"a\":1.0}", "--expect", "none", "--format", "json"];
    let stored = streambox(&table, &first).await;
    assert_eq!(stored.code(), DONE, "{stored:?}");
    let stored = &json_lines(&stored)[0];
    assert_eq!(
        (&stored["stream"], &stored["version"], &stored["type"]),
        (&json!("order-1"), &json!(1), &json!("Placed"))
    );
    let events = table.store.read(&stream("order-1")).await.unwrap().events;
    assert_eq!(stored["event_id"], events[0].event_id().to_string());
    assert_eq!(
        (&stored["already_stored"], stored["write_units"].as_f64()),
        (&json!(false), Some(Metering::of_tests().append(1)))
    );

    let metadata = ["--metadata", "{\"correlation_id\":\"c-1\"}", "--private"];
    let second: Vec<_> =
        ["append", "order-1", "--type", "Paid", "--data", &at_file].into_iter().chain(metadata).collect();
    let text = streambox(&table, &second).await;
    assert!(text.stdout.starts_with("order-1 version 2 stored at "), "{text:?}");
    let event_id = table.store.event(&stream("order-1"), 2).await.unwrap().expect("it is stored").event_id();
    assert!(text.stdout.contains(&format!("event id {event_id}, append id ")), "{text:?}");

    let mut third =
        Process::start("streambox", Some(&table), None, ["append", "order-1", "--type", "Sent", "--expect", "2"]);
    third.input("[ ]\n").await;
    assert_eq!(third.finish().await.code(), DONE);

    assert_eq!(payloads(&table, "order-1").await, ["{\"a\":1.0}", "{ \"b\": 1.50 }", "[ ]"], "byte for byte");
    let events = table.store.read(&stream("order-1")).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.is_private).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(events[1].metadata.text("correlation_id").as_deref(), Some("c-1"));
}

#[tokio::test]
async fn g3_an_append_with_an_id_is_stored_once() {
    let table = TestTable::create().await;
    let id = "0197a3c2-5b1e-7d44-9f0a-6a1c2e8b7d30";
    let append = ["append", "order-1", "--type", "A", "--data", "1", "--expect", "none", "--append-id", id];
    let first = streambox(&table, &append).await;
    let again = streambox(&table, &append).await;
    assert_eq!((first.code(), again.code()), (DONE, DONE), "{again:?}");
    assert!(again.stdout.contains("order-1 version 1 was stored before") && again.stdout.contains(id), "{again:?}");
    assert_eq!(payloads(&table, "order-1").await.len(), 1);
}

/// Standard output on a full disk.
#[tokio::test]
async fn what_is_done_and_can_not_be_printed_says_on_standard_error_that_it_is_done() {
    let table = TestTable::create().await;
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let log = file(&log(2, 3));
    let log = log.path().to_str().unwrap();
    for (arguments, done) in [
        (&["append", "order-9", "--type", "A", "--data", "1"][..], "order-9 version 1 stored at "),
        (&["append", "order-9", "--type", "A", "--data", "1", "--format", "json"], "order-9 version 2 stored at "),
        (&["import", log], "6 events of 2 streams; 6 appended"),
        (&["table", "create"], "already exists"),
    ] {
        let process = Process::start_printing_to("streambox", Some(&table), arguments, full());
        let finished = process.finish().await;
        assert_eq!(finished.code(), FAILED, "{finished:?}");
        let [done, why] = [done, "; but standard output can't be written: "].map(|part| finished.stderr.find(part));
        assert!(done.is_some() && done < why, "{}", finished.stderr);
    }
}

#[tokio::test]
async fn an_append_whose_outcome_is_unknown_names_the_options_that_repeat_it() {
    let engine = TestTable::create().await;
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    proxy.set_fault(fault::lose_answers("TransactWriteItems", u32::MAX));
    let append = ["append", "order-1", "--type", "A", "--data", "1", "--expect", "none"];
    let lost = streambox(&table, &[&append[..], &["--request-timeout-s", "1"]].concat()).await;
    assert_eq!(lost.code(), FAILED, "{lost:?}");
    let id = lost.stderr.split("--append-id ").nth(1).and_then(|rest| rest.split(')').next()).expect("the option");
    proxy.behave();
    let again = streambox(&table, &[&append[..], &["--append-id", id]].concat()).await;
    assert!(again.stdout.contains("order-1 version 1 was stored before"), "{again:?}");
}

#[tokio::test]
async fn a_conflict_says_where_the_stream_is_and_stores_nothing() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 3).await;
    for (id, expect, says) in [
        ("order-1", "none", "stream order-1 is at version 3, expected no stream"),
        ("order-1", "2", "stream order-1 is at version 3, expected version 2"),
        ("order-2", "2", "decide again, or --expect none"),
        ("order-2", "exists", "stream order-2 is at version 0, expected an existing stream"),
    ] {
        let failed = streambox(&table, &["append", id, "--type", "A", "--data", "1", "--expect", expect]).await;
        assert_eq!((failed.code(), failed.stdout.as_str()), (FAILED, ""));
        assert!(failed.stderr.contains(says) && failed.stderr.contains("Nothing was stored"), "{}", failed.stderr);
    }
    assert_eq!(table.items().await, 6);
}

#[tokio::test]
async fn what_can_not_be_appended_is_refused_before_anything_is_sent() {
    let table = TestTable::create().await;
    let large = file(&format!("\"{}\"", "x".repeat(5_000_000)));
    let large = format!("@{}", large.path().display());
    let not_utf8 = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(not_utf8.path(), b"\"\xff\"").unwrap();
    let not_utf8 = format!("@{}", not_utf8.path().display());
    let marked = file("\u{feff}{}");
    let marked = format!("@{}", marked.path().display());
    let headers = format!(r#"{{"causation_id":"{}"}}"#, "x".repeat(20_000));
    for (arguments, code, says) in [
        (vec!["order", "--type", "A", "--data", "1"], FAILED, "category-id"),
        (vec!["order-1", "--type", "", "--data", "1"], FAILED, "it is empty"),
        (vec!["order-1", "--type", "A", "--data", "{"], FAILED, "is not JSON"),
        (vec!["order-1", "--type", "A", "--data", "NaN"], FAILED, "is not JSON"),
        (vec!["order-1", "--type", "A", "--data", ""], FAILED, "is not JSON"),
        (vec!["order-1", "--type", "A", "--data", "1", "--metadata", "[]"], FAILED, "metadata must be a JSON object"),
        (vec!["order-1", "--type", "A", "--data", "@/not/there"], FAILED, "/not/there can't be opened"),
        (vec!["order-1", "--type", "A", "--data", &large], FAILED, "too long"),
        (vec!["order-1", "--type", "A", "--data", &not_utf8], FAILED, "can't be read"),
        (vec!["order-1", "--type", "A", "--data", &marked], FAILED, "byte order mark"),
        (vec!["order-1", "--type", "A", "--data", "1", "--metadata", &headers], FAILED, "at most 16384 bytes"),
        (vec!["order-1", "--type", "A", "--data", "1", "--append-id", "7"], USAGE, "--append-id"),
        (
            vec!["order-1", "--type", "A", "--data", "1", "--expect", "last"],
            USAGE,
            "allowed is any, exists, none, or a version",
        ),
        (vec!["order-1", "--data", "1"], USAGE, "--type"),
    ] {
        let failed = streambox(&table, &[vec!["append"], arguments.clone()].concat()).await;
        assert_eq!(failed.code(), code, "{arguments:?}: {}", failed.stderr);
        assert!(failed.stderr.contains(says), "{arguments:?}: {}", failed.stderr);
    }
    let nil = "00000000-0000-0000-0000-000000000000";
    let failed = streambox(&table, &["append", "order-1", "--type", "A", "--data", "1", "--append-id", nil]).await;
    assert!(failed.stderr.contains("is not usable"), "{}", failed.stderr);
    assert_eq!(table.items().await, 0);
}
