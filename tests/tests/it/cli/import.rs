//! `streambox import`.

use nix::sys::signal::Signal;
use serde_json::json;
use streambox::{ExpectedVersion, NewEvent};
use streambox_tests::{
    engine::{TestTable, stream},
    metering::Metering,
    programs::Process,
};

use super::{DONE, FAILED, file, import, log, payloads, streambox};

/// What the appends of the streams `order-1` to `order-{streams}` have cost.
async fn write_units_of_all_appends(table: &TestTable, streams: u64) -> f64 {
    let mut units = 0.0;
    for order in 1..=streams {
        let history = table.store.read(&stream(&format!("order-{order}"))).await.expect("a whole stream");
        let appends = history.events.chunk_by(|one, next| one.append == next.append);
        units += appends.map(|events| Metering::of_tests().append(events.len())).sum::<f64>();
    }
    units
}

#[tokio::test]
async fn an_import_keeps_each_stream_in_order_and_adds_nothing_the_second_time() {
    let table = TestTable::create().await;
    let file = file(&log(7, 60));

    let (first, report) = import(&table, file.path()).await;
    assert_eq!(first.code(), DONE, "{first:?}");
    assert_eq!((&report["events"], &report["appended"]), (&json!(420), &json!(420)));
    assert_eq!((&report["already_there"], &report["streams"]), (&json!(0), &json!(7)));
    assert_eq!(report["complete"], true);
    let appends = table.pending().await;
    assert_eq!(report["appends"], appends, "one pending entry an append");
    assert!(appends >= 7 * 3, "60 events are at least three appends of 25");
    assert_eq!(report["write_units"].as_f64(), Some(write_units_of_all_appends(&table, 7).await));
    assert!(report["seconds"].is_number() && report["events_per_second"].is_number());
    let expected: Vec<_> = (1..=60).map(|number| format!(r#"{{ "number":{number}.0 }}"#)).collect();
    for order in 1..=7 {
        assert_eq!(payloads(&table, &format!("order-{order}")).await, expected, "byte for byte");
    }

    let (second, report) = import(&table, file.path()).await;
    assert_eq!(second.code(), DONE);
    assert_eq!((&report["appended"], &report["already_there"]), (&json!(0), &json!(420)));
    assert_eq!((&report["appends"], report["write_units"].as_f64()), (&json!(0), Some(0.0)));
    assert_eq!(table.items().await, 420 + appends);
    let text = streambox(&table, &["import", &file.path().to_string_lossy()]).await;
    assert!(text.stdout.contains("420 events of 7 streams; 0 appended"), "{}", text.stdout);
    assert!(text.stdout.contains("420 already there"), "{}", text.stdout);
}

#[tokio::test]
async fn a_bad_line_is_named_and_a_repaired_file_goes_on_from_there() {
    let table = TestTable::create().await;
    let good = log(3, 10);
    let bad = format!("{good}{}\n{}", r#"{"stream":"order-1","typ":"Counted","data":{}}"#, log(1, 1));
    let broken = file(&bad);

    let (failed, report) = import(&table, broken.path()).await;
    assert_eq!(failed.code(), FAILED);
    let place = format!("{}:31: unknown field `typ`", broken.path().display());
    assert!(failed.stderr.contains(&place) && failed.stderr.contains("`type` (texts)"), "{}", failed.stderr);
    assert_eq!((&report["appended"], &report["complete"]), (&json!(30), &json!(false)), "all lines before it");
    assert_eq!(payloads(&table, "order-1").await.len(), 10);

    let repaired = file(&bad.replace("typ\"", "type\""));
    let (done, report) = import(&table, repaired.path()).await;
    assert_eq!(done.code(), DONE, "{}", done.stderr);
    assert_eq!((&report["appended"], &report["already_there"]), (&json!(2), &json!(30)));
    let order = payloads(&table, "order-1").await;
    assert_eq!(order[9..], ["{ \"number\":10.0 }", "{}", "{ \"number\":1.0 }"]);
}

#[tokio::test]
async fn an_event_over_a_limit_is_a_bad_line_and_never_sent() {
    let table = TestTable::create().await;
    let large = json!({"stream": "order-1", "type": "Grown", "data": "x".repeat(410_000)});
    let file = file(&format!("{}{large}\n", log(1, 3)));
    let (failed, report) = import(&table, file.path()).await;
    assert_eq!(failed.code(), FAILED);
    assert!(
        failed.stderr.contains(":4: the event is too large: an item has at most 409600 bytes"),
        "{}",
        failed.stderr
    );
    assert_eq!(report["appended"], 3);
}

#[tokio::test]
async fn an_event_with_too_much_for_the_headers_of_a_message_is_a_bad_line_and_never_sent() {
    let table = TestTable::create().await;
    let metadata = json!({"correlation_id": "x".repeat(140_000)});
    let poison = json!({"stream": "a-1", "type": "T", "data": {}, "metadata": metadata});
    let (failed, report) = import(&table, file(&format!("{}{poison}\n", log(1, 3))).path()).await;
    assert_eq!(failed.code(), FAILED);
    let said = ":4: the event has too much in its message headers";
    assert!(failed.stderr.contains(said) && failed.stderr.contains("at most 16384 bytes"), "{}", failed.stderr);
    assert_eq!((&report["appended"], table.items().await), (&json!(3), 4), "what stood before it, and nothing of it");
}

#[tokio::test]
async fn large_events_are_imported_in_appends_that_a_transaction_can_hold() {
    let table = TestTable::create().await;
    let text: String = (0..12)
        .map(|_| json!({"stream": "order-1", "type": "Grown", "data": "x".repeat(400_000)}).to_string() + "\n")
        .collect();
    let (done, report) = import(&table, file(&text).path()).await;
    assert_eq!(done.code(), DONE, "{}", done.stderr);
    assert_eq!(report["appended"], 12);
    assert_eq!(payloads(&table, "order-1").await.len(), 12);
}

#[tokio::test]
async fn g8_another_history_is_never_overwritten() {
    let table = TestTable::create().await;
    import(&table, file(&log(1, 3)).path()).await;
    let before = payloads(&table, "order-1").await;
    for (text, what) in [
        (log(1, 3).replace("3.0", "3.5"), "data"),
        (log(1, 3).replace("Counted", "Weighed"), "type"),
        (log(1, 3).replace("\"data\"", "\"metadata\":{\"by\":\"ann\"},\"data\""), "metadata"),
    ] {
        let (failed, report) = import(&table, file(&text).path()).await;
        assert_eq!(failed.code(), FAILED);
        let difference = format!("of order-1: its {what} differs");
        assert!(failed.stderr.contains(&difference), "{}", failed.stderr);
        assert_eq!(report["appended"], 0);
    }
    assert_eq!(payloads(&table, "order-1").await, before);
}

#[tokio::test]
async fn g2_two_imports_of_one_file_at_the_same_time_write_one_history() {
    let table = TestTable::create().await;
    let file = file(&log(3, 80));
    let ((first, report), (second, other)) = tokio::join!(import(&table, file.path()), import(&table, file.path()));
    assert_eq!((first.code(), second.code()), (DONE, DONE), "{first:?} {second:?}");
    let total = |field: &str| report[field].as_u64().unwrap() + other[field].as_u64().unwrap();
    assert_eq!((total("appended"), total("already_there")), (240, 240));
    assert_eq!(payloads(&table, "order-2").await.len(), 80);
}

/// What another writer appends while an import is under way is compared as what was there before.
#[tokio::test]
async fn g2_an_import_that_meets_another_writer_compares_and_goes_on() {
    let all = log(1, 3);
    let lines: Vec<_> = all.split_inclusive('\n').collect();
    for (number, code, version) in [("2.0", DONE, 3), ("7.0", FAILED, 2)] {
        let table = TestTable::create().await;
        let order = stream("order-1");
        let mut importing = Process::start("streambox", Some(&table), None, ["import", "-"]);
        importing.input(lines[0]).await;
        table.wait_for_items(2).await;
        let payload = format!(r#"{{ "number":{number} }}"#);
        let another = NewEvent::from_json_text("Counted", payload).expect("valid JSON");
        table.store.append(&order, ExpectedVersion::Any, [another]).await.expect("the other writer is first");
        importing.input(&lines[1..].concat()).await;

        let finished = importing.finish().await;
        assert_eq!(finished.code(), code, "{finished:?}");
        assert_eq!(payloads(&table, "order-1").await.len(), version);
        assert_eq!(finished.stderr.contains("another event as version 2 of order-1"), code == FAILED, "{finished:?}");
    }
}

#[tokio::test]
async fn an_interrupted_import_says_so_and_goes_on_when_repeated() {
    let table = TestTable::create().await;
    let mut importing = Process::start("streambox", Some(&table), None, ["import", "-"]);
    importing.input(&log(2, 5)).await;
    // Standard input stays open: what it has given so far is imported all the same.
    table.wait_for_items(10 + 2).await;
    importing.signal(Signal::SIGINT);
    let interrupted = importing.wait().await;
    assert_eq!(interrupted.code(), FAILED, "{interrupted:?}");
    assert!(interrupted.stderr.contains("run the same command again"), "{}", interrupted.stderr);
    assert!(interrupted.stdout.contains("10 appended"), "{}", interrupted.stdout);

    let mut again = Process::start("streambox", Some(&table), None, ["import", "-"]);
    again.input(&log(2, 6)).await;
    let done = again.finish().await;
    assert_eq!(done.code(), DONE, "{}", done.stderr);
    assert!(done.stdout.contains("standard input: 12 events of 2 streams; 2 appended"), "{}", done.stdout);
}
