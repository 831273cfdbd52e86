//! `streambox import`.

use std::io::Write as _;

use nix::sys::signal::Signal;
use serde_json::json;
use streambox::{ExpectedVersion, NewEvent};
use streambox_tests::{
    engine::{TestTable, stream},
    fault,
    metering::Metering,
    programs::Process,
    proxy::Proxy,
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
async fn a_stream_that_differs_does_not_stop_the_others() {
    // More lines than are read ahead, so that some come when their stream is already left out.
    const EVENTS: u64 = 1_100;
    let table = TestTable::create().await;
    import(&table, file(&log(4, 3)).path()).await;
    // The second event of order-2 and the third of order-3 are others, and all streams go on.
    let other = log(4, EVENTS)
        .replacen(
            "\"order-2\",\"type\":\"Counted\",\"data\":{ \"number\":2.0",
            "\"order-2\",\"type\":\"Counted\",\"data\":{ \"number\":2.5",
            1,
        )
        .replacen(
            "\"order-3\",\"type\":\"Counted\",\"data\":{ \"number\":3.0",
            "\"order-3\",\"type\":\"Weighed\",\"data\":{ \"number\":3.0",
            1,
        );
    let other = file(&other);
    let (failed, report) = import(&table, other.path()).await;

    assert_eq!(failed.code(), FAILED, "{failed:?}");
    assert_eq!((&report["appended"], &report["already_there"]), (&json!(2 * (EVENTS - 3)), &json!(2 * 3 + 1 + 2)));
    assert_eq!((&report["left_out"], &report["complete"]), (&json!(2 * EVENTS - 3), &json!(false)));
    for (stream, version, what) in [("order-2", 2, "data"), ("order-3", 3, "type")] {
        let line = 4 * (version - 1) + stream[6..].parse::<u64>().unwrap();
        let said = format!(
            "streambox: {}:{line}: the table has another event as version {version} of {stream}: its {what} differs",
            other.path().display()
        );
        assert!(failed.stderr.lines().any(|line| line == said), "{said}\n{}", failed.stderr);
    }
    let last = failed.stderr.lines().last().expect("a sentence");
    assert!(last.contains("2 streams differ from the table: 2197 lines are not imported"), "{last}");
    for (order, events) in [(1, 1_100), (2, 3), (3, 3), (4, 1_100)] {
        assert_eq!(payloads(&table, &format!("order-{order}")).await.len(), events, "order-{order}");
    }
}

#[tokio::test]
async fn nothing_of_a_gzip_file_whose_content_is_damaged_is_imported_and_what_is_left_can_be() {
    let table = TestTable::create().await;
    let plain = file(&log(1, 200));
    let gzip = tokio::process::Command::new("gzip").arg("-c").arg(plain.path()).output().await.expect("gzip");
    let mut padded = tempfile::NamedTempFile::new().expect("a temporary file");
    padded.write_all(&gzip.stdout[..gzip.stdout.len() - 3]).expect("room on the disk");
    let (failed, report) = import(&table, padded.path()).await;
    assert_eq!((failed.code(), &report["events"]), (FAILED, &json!(0)), "{failed:?}");
    assert!(failed.stderr.contains("its gzip content is damaged") && failed.stderr.contains("gzip -dc"), "{failed:?}");
    assert_eq!(table.items().await, 0);
    // The rest of it, and zeros behind, which `gzip -t` accepts as well.
    padded.write_all(&gzip.stdout[gzip.stdout.len() - 3..]).expect("room on the disk");
    padded.write_all(&[0; 5_000]).expect("room on the disk");
    let (done, report) = import(&table, padded.path()).await;
    assert_eq!((done.code(), &report["events"]), (DONE, &json!(200)), "{done:?}");
}

#[tokio::test]
async fn an_import_never_speaks_of_append_ids_which_its_user_can_not_give() {
    let engine = TestTable::create().await;
    let proxy = Proxy::start(engine.url()).await;
    let table = engine.through(proxy.url());
    proxy.set_fault(fault::lose_answers("TransactWriteItems", u32::MAX));
    let log = file(&log(1, 1));
    let path = log.path().to_str().expect("UTF-8");
    let failed = streambox(&table, &["import", path, "--request-timeout-s", "1"]).await;
    assert_eq!(failed.code(), FAILED, "{failed:?}");
    assert!(failed.stderr.contains("run the same command again") && !failed.stderr.contains("append id"), "{failed:?}");
    proxy.behave();
    assert_eq!(import(&table, log.path()).await.1["already_there"], 1);
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
