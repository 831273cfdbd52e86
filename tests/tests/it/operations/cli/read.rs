//! `streambox read` and `streambox streams`.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use streambox::{ExpectedVersion, NewEvent};
use streambox_tests::engine::{TestTable, event, stream};

use super::{DONE, FAILED, file, import, json_lines, streambox};

#[tokio::test]
async fn a_stream_is_read_as_text_and_as_json_lines() {
    let table = TestTable::create().await;
    let line = r#"{"stream":"order-1","type":"Placed","data":{"b":1.50,"a":"\u001b[31m"},"occurred_at":"2010-10-02T09:20:39.266+02:00"}"#;
    import(&table, file(line).path()).await;
    table.store.append(&stream("order-1"), ExpectedVersion::Any, [event(2)]).await.unwrap();

    let lines = streambox(&table, &["read", "order-1", "--format", "json"]).await;
    assert_eq!(lines.code(), DONE);
    let events: Vec<Value> = lines.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2);
    assert!(lines.stdout.contains(r#""data":{"b":1.50,"a":"\u001b[31m"}"#), "{}", lines.stdout);
    assert_eq!(events[0]["metadata"]["occurred_at"], "2010-10-02T09:20:39.266+02:00");
    assert_eq!(
        (&events[1]["stream"], &events[1]["version"], &events[1]["type"]),
        (&json!("order-1"), &json!(2), &json!("Counted"))
    );
    assert!(events[1]["event_id"].is_string() && events[1]["recorded_at"].is_string());

    let text = streambox(&table, &["read", "order-1"]).await;
    assert_eq!(text.stdout.lines().count(), 3, "a heading and two events");
    assert!(text.stdout.contains("Placed"), "{}", text.stdout);

    let empty = streambox(&table, &["read", "order-2"]).await;
    assert_eq!((empty.code(), empty.stdout.as_str()), (DONE, ""));
    assert!(empty.stderr.contains("stream order-2 has no events"), "{}", empty.stderr);
}

#[tokio::test]
async fn a_part_of_a_stream_is_read_in_either_direction() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 9).await;
    let read = async |arguments: &str| {
        let arguments: Vec<_> =
            ["read", "order-1", "--format", "json"].into_iter().chain(arguments.split(' ')).collect();
        let finished = streambox(&table, &arguments).await;
        assert_eq!(finished.code(), DONE, "{finished:?}");
        let versions: Vec<_> = json_lines(&finished).iter().map(|event| event["version"].as_u64().unwrap()).collect();
        (versions, finished.stderr)
    };
    assert_eq!(read("--from 4 --limit 3").await.0, [4, 5, 6]);
    assert_eq!(read("--backward --limit 2").await.0, [9, 8]);
    assert_eq!(read("--backward --from 3").await.0, [3, 2, 1]);
    let (none, says) = read("--from 10").await;
    assert_eq!(none, [0; 0]);
    assert!(says.contains("stream order-1 has no events in this part"), "{says}");
}

#[tokio::test]
async fn for_people_a_stream_is_a_table_and_a_pipe_gets_all_of_it() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    let long = format!("\"{}\"", "x".repeat(500));
    let events = [
        NewEvent::from_json_text("Placed", "{}").unwrap(),
        NewEvent::from_json_text("Grown by far", &*long).unwrap().private(),
    ];
    table.store.append(&order, ExpectedVersion::NoStream, events).await.unwrap();
    let text = streambox(&table, &["read", "order-1"]).await.stdout;
    let lines: Vec<_> = text.lines().collect();
    let column = |name: &str| lines[0].find(name).unwrap_or_else(|| panic!("no {name} in {text}"));
    assert_eq!((lines[1].find("Placed"), lines[2].find("Grown by far")), (Some(column("TYPE")), Some(column("TYPE"))));
    assert_eq!((lines[1].find("{}"), lines[2].find(&long)), (Some(column("DATA")), Some(column("DATA"))));
    assert!(lines[2].ends_with("  private"), "{text}");
}

#[tokio::test]
async fn a_reader_that_has_had_enough_is_no_failure() {
    let table = TestTable::create().await;
    table.fill(&stream("order-1"), 3).await;
    for command in ["read order-1", "streams", "export", "verify"] {
        let program = streambox_tests::programs::program("streambox");
        let mut shell = tokio::process::Command::new("bash");
        let script = format!("set -o pipefail; {} {command} | true", program.display());
        let output = shell.args(["-c", &script]).envs(table.environment()).output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
    }
}

#[tokio::test]
async fn streams_are_listed_with_their_events() {
    let table = TestTable::create().await;
    for (id, events) in [("order-1", 3), ("order-2", 1), ("permit-1", 2)] {
        table.fill(&stream(id), events).await;
    }
    let all = streambox(&table, &["streams"]).await;
    assert_eq!((all.code(), all.stdout.lines().count()), (DONE, 4), "{all:?}");
    assert!(all.stdout.starts_with("STREAM    EVENTS  LAST RECORDED"), "{}", all.stdout);

    let orders = streambox(&table, &["streams", "--category", "order", "--format", "json", "--segments", "2"]).await;
    let mut orders = json_lines(&orders);
    orders.sort_by_key(|stream| stream["stream"].to_string());
    let shown: Vec<_> =
        orders.iter().map(|stream| (&stream["stream"], &stream["events"], &stream["last_type"])).collect();
    let counted = json!("Counted");
    assert_eq!(shown, [(&json!("order-1"), &json!(3), &counted), (&json!("order-2"), &json!(1), &counted)]);

    table.delete(&stream("order-1"), "event#00000000000000000002").await;
    let gap = streambox(&table, &["streams", "--category", "order"]).await;
    assert!(gap.stdout.contains("2 (at version 3)"), "{}", gap.stdout);
    let none = streambox(&table, &["streams", "--category", "invoice"]).await;
    assert_eq!((none.code(), none.stdout.as_str()), (DONE, ""));
    assert!(none.stderr.contains("no stream of category invoice"), "{}", none.stderr);
    let bad = streambox(&table, &["streams", "--category", "order-1"]).await;
    assert_eq!(bad.code(), FAILED);
    assert!(bad.stderr.contains("before the first `-`"), "{}", bad.stderr);
}

#[tokio::test]
async fn stream_ids_that_look_the_same_are_different_streams_and_are_shown_apart() {
    let table = TestTable::create().await;
    let ids = ["order-caf\u{e9}", "order-cafe\u{301}", "order-caf\u{e9}\u{200b}", "order-\u{202e}caf\u{e9}"];
    for (id, events) in ids.iter().zip(1..) {
        table.fill(&stream(id), events).await;
    }
    for (id, events) in ids.iter().zip(1..) {
        assert_eq!(
            json_lines(&streambox(&table, &["read", id, "--format", "json"]).await).len(),
            events,
            "byte by byte"
        );
    }
    let shown = streambox(&table, &["streams"]).await.stdout;
    for id in ["order-café ", "order-cafe\\u0301 ", "order-café\\u200b ", "order-\\u202ecafé "] {
        assert!(shown.contains(id), "{id}:\n{shown}");
    }
    let missing = streambox(&table, &["read", "order-x\u{200b}"]).await;
    assert!(missing.stderr.contains("stream order-x\\u200b has no events"), "{}", missing.stderr);
}

#[tokio::test]
async fn g12_what_is_good_before_a_damaged_event_is_read_and_the_damaged_one_is_named() {
    let table = TestTable::create().await;
    let order = stream("order-1");
    table.store.append(&order, ExpectedVersion::NoStream, (1..=6).map(event)).await.unwrap();
    let read = async |arguments: &[&str]| {
        let finished = streambox(&table, &[&["read", "order-1", "--format", "json"], arguments].concat()).await;
        let versions: Vec<_> = json_lines(&finished).iter().map(|event| event["version"].as_u64().unwrap()).collect();
        (versions, finished.code(), finished.stderr)
    };
    let text = |text: &str| AttributeValue::S(text.to_owned());
    for (attribute, value, says) in [
        ("payload", text("{"), "order-1 version 4: the payload is not JSON"),
        ("metadata", text("["), "order-1, event#00000000000000000004: metadata must be a JSON object"),
    ] {
        table.set(&order, "event#00000000000000000004", attribute, value).await;
        for (arguments, good) in [(&[][..], vec![1, 2, 3]), (&["--backward"], vec![6, 5]), (&["--from", "4"], vec![])] {
            let (versions, code, says_what) = read(arguments).await;
            assert_eq!((versions, code), (good, FAILED), "{attribute} {arguments:?}");
            assert!(says_what.contains(says), "{attribute} {arguments:?}: {says_what}");
        }
        assert_eq!(read(&["--from", "5"]).await, (vec![5, 6], DONE, String::new()), "what is behind it can be read");
    }
    let lines = streambox(&table, &["read", "order-1"]).await;
    assert_eq!((lines.code(), lines.stdout.lines().count()), (FAILED, 4), "a heading and three events: {lines:?}");
    assert!(lines.stderr.contains("`streambox verify --stream order-1`"), "{}", lines.stderr);
}

#[tokio::test]
async fn g12_a_damaged_stream_does_not_keep_the_others_from_being_listed() {
    let table = TestTable::create().await;
    for id in 1..=9 {
        table.fill(&stream(&format!("order-{id}")), 3).await;
    }
    let number = AttributeValue::N("7".to_owned());
    table.set(&stream("order-4"), "event#00000000000000000001", "event_type", number.clone()).await;
    table.set(&stream("order-5"), "event#00000000000000000003", "event_type", number).await;
    for segments in ["1", "3"] {
        let listed = streambox(&table, &["streams", "--format", "json", "--segments", segments]).await;
        assert_eq!(listed.code(), FAILED, "{listed:?}");
        let mut ids: Vec<_> = json_lines(&listed).iter().map(|stream| stream["stream"].to_string()).collect();
        ids.sort();
        assert_eq!(ids, [1, 2, 3, 6, 7, 8, 9].map(|id| format!("\"order-{id}\"")));
        for id in ["order-4", "order-5"] {
            assert_eq!(listed.stderr.matches(&format!("damaged: stream {id}, event#")).count(), 1, "{}", listed.stderr);
        }
        assert!(listed.stderr.contains("2 damaged streams are not in the list"), "{}", listed.stderr);
    }
}
