//! `streambox export`, and that `import` takes it back.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use aws_sdk_dynamodb::types::AttributeValue;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use streambox::{ExpectedVersion, NewEvent};
use streambox_tests::{
    engine::{TestTable, event, stream},
    programs::Process,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::{BAD_CONFIGURATION, DONE, FAILED, USAGE, file, import, log, payloads, streambox};

/// Lines as an export writes them, of all that has to be kept: white space, line breaks, numbers, escapes, metadata.
fn odd_lines() -> String {
    let mut text = String::new();
    for (stream, rest) in [
        ("order-1", r#""data":{ "b":1.50,  "a" : [ ] }"#),
        ("order-1", r#""data":"\u001b[31m\u00e9 \"quoted\"""#),
        ("order-1", r#""data_text":" {\n\t\"pretty\": [\n1e2 ]\r\n}\n""#),
        ("order-1", r#""data_text":"{\n\"a\":1}""#),
        ("order-1", r#""data_text":" 7 ""#),
        ("order-1", r#""data":123456789012345678901234567890.10"#),
        ("order-Straße/€ 😀", r#""data":{"größe":"😀"}"#),
        ("order-Straße/€ 😀", r#""data":null,"metadata":{"correlation_id":"c-1","nested":{"a":[1,2.5,null]}}"#),
        ("permit-a-b", r#""data":[],"metadata":{"occurred_at":"yesterday"},"private":true"#),
        ("permit-a-b", r#""data":{"dup":1,"dup":2}"#),
    ] {
        let time = if rest.contains("null") { r#""occurred_at":"2010-10-02T09:20:39.266+02:00","# } else { "" };
        writeln!(text, r#"{{"stream":"{stream}","type":"Type \"{}\"",{time}{rest}}}"#, rest.len()).expect("a text");
    }
    text
}

fn by_stream(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let stream = serde_json::from_str::<Value>(line).expect("a line is JSON")["stream"].to_string();
        streams.entry(stream).or_default().push(line.to_owned());
    }
    streams
}

async fn exported(table: &TestTable, arguments: &[&str]) -> String {
    let finished = streambox(table, &[&["export"], arguments].concat()).await;
    assert_eq!((finished.code(), finished.stderr.as_str()), (DONE, ""), "{arguments:?}");
    finished.stdout
}

fn path(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

#[tokio::test]
async fn an_export_is_imported_and_exported_again_with_the_same_bytes() {
    let (first, second) = (TestTable::create().await, TestTable::create().await);
    let lines = odd_lines() + &log(20, 7);
    let (imported, report) = import(&first, file(&lines).path()).await;
    assert_eq!(imported.code(), DONE, "{imported:?}");

    let once = exported(&first, &[]).await;
    assert_eq!(by_stream(&once), by_stream(&lines), "each stream's lines, byte for byte, in order");
    let directory = tempfile::tempdir().unwrap();
    let packed = path(&directory, "events.ndjson.gz");
    let finished = streambox(&first, &["export", "-o", &packed, "--format", "json"]).await;
    let written: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&written["events"], &written["streams"], &written["complete"]),
        (&json!(150), &json!(22), &json!(true))
    );
    assert!(!Path::new(&format!("{packed}.resume")).exists(), "there is nothing to go on with");

    let (imported, _) = import(&second, Path::new(&packed)).await;
    assert_eq!(imported.code(), DONE, "{imported:?}");
    assert_eq!(exported(&second, &[]).await, once, "byte for byte, streams in the same order");
    let (again, repeated) = import(&first, Path::new(&packed)).await;
    assert_eq!((again.code(), &repeated["appended"]), (DONE, &json!(0)), "it is what the table has");
    assert_eq!(report["appended"], 150);
    for id in [stream("order-1"), stream("permit-a-b")] {
        let kept = async |table: &TestTable| {
            let events = table.store.read(&id).await.unwrap().events;
            events.into_iter().map(|e| (e.payload, e.metadata, e.event_type, e.is_private)).collect::<Vec<_>>()
        };
        assert_eq!(kept(&first).await, kept(&second).await);
    }
}

#[tokio::test]
async fn a_category_or_a_stream_is_exported_alone() {
    let table = TestTable::create().await;
    import(&table, file(&odd_lines()).path()).await;
    let of = |prefix: &str| -> BTreeMap<_, _> {
        by_stream(&odd_lines()).into_iter().filter(|(stream, _)| stream.starts_with(&format!("\"{prefix}"))).collect()
    };
    assert_eq!(by_stream(&exported(&table, &["--category", "order", "--segments", "3"]).await), of("order-"));
    assert_eq!(by_stream(&exported(&table, &["--stream", "permit-a-b"]).await), of("permit-a-b"));
    assert_eq!(exported(&table, &["--stream", "order-2"]).await, "");
}

/// A way to the engine that lets so many bytes of answers pass, and then nothing.
async fn stalling(table: &TestTable, bytes: u64) -> (TestTable, oneshot::Receiver<()>) {
    let engine = table.url().strip_prefix("http://").expect("an end point of HTTP").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let (stalls, stalled) = oneshot::channel();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("the program connects");
        let (mut from_client, mut to_client) = client.into_split();
        let (from_engine, mut to_engine) = TcpStream::connect(engine).await.expect("the engine is there").into_split();
        let there = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_engine).await });
        tokio::io::copy(&mut from_engine.take(bytes), &mut to_client).await.expect("the program reads");
        let _ = stalls.send(());
        // The connection stays as it is until the program has gone.
        let _ = there.await;
    });
    (table.through(&url), stalled)
}

#[tokio::test]
async fn an_interrupted_export_says_how_to_go_on_and_the_whole_is_the_same() {
    let table = TestTable::create().await;
    // Streams of 100 KB an event: a page of 1 MB has ten, another one follows.
    for id in 1..=5 {
        let events = (0..5).map(|_| NewEvent::json("Grown", &"x".repeat(100_000)).expect("a valid event"));
        table.as_text().append(&stream(&format!("order-{id}")), ExpectedVersion::NoStream, events).await.unwrap();
    }
    let long = (0..25).map(|_| NewEvent::json("Grown", &"x".repeat(100_000)).expect("a valid event"));
    table.as_text().append(&stream("permit-1"), ExpectedVersion::NoStream, long).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, selection) in [
        ("all.ndjson", ["--segments", "1"]),
        ("all.ndjson.gz", ["--segments", "1"]),
        ("one.ndjson", ["--stream", "permit-1"]),
    ] {
        let file = path(&directory, name);
        let command = [["export", "-o", &file, "--format", "json"].as_slice(), &selection].concat();
        let (behind, stalled) = stalling(&table, 1_500_000).await;
        let exporting = Process::start("streambox", Some(&behind), None, &command);
        stalled.await.expect("the second page does not come");
        exporting.signal(Signal::SIGINT);
        let interrupted = exporting.wait().await;
        assert_eq!(interrupted.code(), FAILED, "{interrupted:?}");
        let says = "streambox: interrupted; the same command with --resume goes on";
        assert!(interrupted.stderr.contains(says), "{}", interrupted.stderr);
        let report: Value = serde_json::from_str(&interrupted.stdout).unwrap();
        let written = report["events"].as_u64().unwrap();
        assert!(written > 0 && report["complete"] == false, "{report}");
        assert_eq!(unpacked(&file).lines().count() as u64, written, "what is there can be read");

        let refused = streambox(&table, &command).await;
        assert_eq!(refused.code(), FAILED);
        assert!(refused.stderr.contains("is there already and is left as it is"), "{}", refused.stderr);
        let other = streambox(&table, &["export", "-o", &file, "--resume", "--category", "order"]).await;
        assert_eq!(other.code(), FAILED);
        assert!(other.stderr.contains("had another --category"), "{}", other.stderr);

        // What was written behind the checkpoint when a machine went down is written again.
        let mut torn = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        std::io::Write::write_all(&mut torn, b"{\"stream\":\"ord").unwrap();
        let resumed = streambox(&table, &[command.as_slice(), &["--resume"]].concat()).await;
        assert_eq!(resumed.code(), DONE, "{resumed:?}");
        let expected = exported(&table, &selection).await;
        assert!(unpacked(&file) == expected, "{name}: the same as without an interruption");
        let report: Value = serde_json::from_str(&resumed.stdout).unwrap();
        assert_eq!(report["events"], expected.lines().count());
        assert!(!Path::new(&format!("{file}.resume")).exists());
    }
}

#[tokio::test]
async fn an_interrupted_export_to_standard_output_says_what_would_help() {
    let table = TestTable::create().await;
    let long = (0..25).map(|_| NewEvent::json("Grown", &"x".repeat(100_000)).expect("a valid event"));
    table.as_text().append(&stream("permit-1"), ExpectedVersion::NoStream, long).await.unwrap();
    let (behind, stalled) = stalling(&table, 1_500_000).await;
    let exporting = Process::start("streambox", Some(&behind), None, ["export", "--stream", "permit-1"]);
    stalled.await.expect("the second page does not come");
    exporting.signal(Signal::SIGTERM);
    let interrupted = exporting.wait().await;
    assert_eq!(interrupted.code(), FAILED, "{}", interrupted.stderr);
    assert!(interrupted.stderr.contains("with -o FILE an export can go on"), "{}", interrupted.stderr);
    let lines = interrupted.stdout.lines().count();
    assert!(
        lines > 0 && interrupted.stderr.contains(&format!("{lines} events were written")),
        "{}",
        interrupted.stderr
    );
}

fn unpacked(file: &str) -> String {
    let bytes = std::fs::read(file).expect("the file is there");
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&*bytes), &mut text).expect("whole gzip");
    } else {
        text = String::from_utf8(bytes).expect("a text");
    }
    text
}

#[tokio::test]
async fn an_export_that_meets_damage_stops_there_and_goes_on_when_it_is_mended() {
    let table = TestTable::create().await;
    import(&table, file(&log(9, 3)).path()).await;
    let whole = exported(&table, &[]).await;
    let (order, second) = (stream("order-5"), "event#00000000000000000002");
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "events.ndjson");

    // A payload that is no JSON can't be a line.
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let payload = payloads(&table, "order-5").await[1].clone();
    table.set(&order, second, "payload", text("{")).await;
    let command = ["export", "-o", &file];
    let stopped = streambox(&table, &command).await;
    assert_eq!(stopped.code(), FAILED, "{stopped:?}");
    assert!(stopped.stderr.contains("order-5 version 2: the payload is not JSON"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("streambox verify"), "{}", stopped.stderr);
    std::fs::remove_file(&file).unwrap();

    // An event that can't be read.
    table.set(&order, second, "payload", text(&payload)).await;
    table.set(&order, second, "event_id", text("x")).await;
    let stopped = streambox(&table, &command).await;
    assert_eq!(stopped.code(), FAILED, "{stopped:?}");
    assert!(
        stopped.stderr.contains("event_id is not a UUID") && stopped.stderr.contains("--resume"),
        "{}",
        stopped.stderr
    );
    let nil = "00000000-0000-0000-0000-000000000001";
    table.set(&order, second, "event_id", text(nil)).await;
    let resumed = streambox(&table, &["export", "-o", &file, "--resume"]).await;
    assert_eq!(resumed.code(), DONE, "{resumed:?}");
    assert_eq!(unpacked(&file), whole);
}

#[tokio::test]
async fn an_export_that_can_not_be_says_why() {
    let table = TestTable::create().await;
    table.store.append(&stream("order-1"), ExpectedVersion::NoStream, [event(1)]).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let new = path(&directory, "new.ndjson");
    let broken = path(&directory, "broken.ndjson");
    std::fs::write(format!("{broken}.resume"), "{}").unwrap();
    for (arguments, code, says) in [
        (vec!["-o", "/not/there/events"], FAILED, "/not/there/events can't be written"),
        (vec!["-o", &new, "--resume"], FAILED, "no interrupted export to go on with"),
        (vec!["-o", &broken, "--resume"], FAILED, "not what an interrupted export leaves"),
        (vec!["--resume"], USAGE, "--output"),
        (vec!["--stream", "order-1", "--category", "order"], USAGE, "cannot be used with"),
        (vec!["--stream", "order"], FAILED, "category-id"),
        (vec!["--category", "order-1"], FAILED, "before the first `-`"),
        (vec!["--segments", "65"], USAGE, "1..=64"),
        (vec!["--table", "not-there"], BAD_CONFIGURATION, "streambox table create"),
    ] {
        let failed = streambox(&table, &[vec!["export"], arguments.clone()].concat()).await;
        assert_eq!(failed.code(), code, "{arguments:?}: {failed:?}");
        assert!(failed.stderr.contains(says), "{arguments:?}: {}", failed.stderr);
    }
}
