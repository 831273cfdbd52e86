//! The program `streambox`, as scripts and people use it: a file for each command.

mod append;
mod export;
mod import;
mod read;
mod table;
mod verify;

use std::{fmt::Write as _, io::Write as _, path::Path};

use serde_json::Value;
use streambox_tests::{
    engine::{TestTable, stream},
    programs::{Finished, run},
};

const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const BAD_CONFIGURATION: Option<i32> = Some(78);

/// The events of `streams` streams, the streams' lines in turn.
fn log(streams: u64, events: u64) -> String {
    let mut text = String::new();
    for number in 1..=events {
        for order in 1..=streams {
            writeln!(text, r#"{{"stream":"order-{order}","type":"Counted","data":{{ "number":{number}.0 }}}}"#)
                .expect("a text takes it");
        }
    }
    text
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room on the disk");
    file
}

async fn streambox(table: &TestTable, arguments: &[&str]) -> Finished {
    run("streambox", Some(table), None, arguments).await
}

async fn import(table: &TestTable, file: &Path) -> (Finished, Value) {
    let finished = streambox(table, &["import", &file.to_string_lossy(), "--format", "json"]).await;
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("no JSON: {finished:?}"));
    (finished, report)
}

/// The payloads of a stream.
async fn payloads(table: &TestTable, id: &str) -> Vec<String> {
    table.store.read(&stream(id)).await.expect("a whole stream").events.into_iter().map(|event| event.payload).collect()
}

/// The lines of standard output, each a JSON value.
fn json_lines(finished: &Finished) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {finished:?}"));
    finished.stdout.lines().map(line).collect()
}

#[tokio::test]
async fn what_can_not_work_is_said_with_what_to_do() {
    let table = TestTable::create().await;
    let log = file(&log(1, 1));
    let log = log.path().to_str().unwrap();
    for (arguments, code, says) in [
        (vec!["import", "/not/there.ndjson"], FAILED, "/not/there.ndjson can't be opened"),
        (vec!["import", log, "--table", "not-there"], BAD_CONFIGURATION, "streambox table create"),
        (vec!["import", log, "--concurrency", "0"], USAGE, "1..=256"),
        (vec!["import", log, "--events-per-append", "100"], USAGE, "1..=99"),
        (vec!["import", log, "--log", "=="], BAD_CONFIGURATION, "STREAMBOX_LOG"),
        (vec!["read", "order"], FAILED, "category-id"),
        (vec!["read", "order-1", "--table", ""], USAGE, "table name \"\": allowed are 3 to 255"),
        (vec!["read", "order-1", "--table", "ab"], USAGE, "table name \"ab\": allowed are 3 to 255"),
        (vec!["verify", "--table", "the table"], USAGE, "letters, digits, `_`, `-` and `.`"),
        (vec!["read"], USAGE, "<STREAM>"),
    ] {
        let failed = streambox(&table, &arguments).await;
        assert_eq!(failed.code(), code, "{arguments:?}: {}", failed.stderr);
        assert!(failed.stderr.contains(says), "{arguments:?}: {}", failed.stderr);
    }
    // Nothing in the environment says where DynamoDB is.
    let lost = run("streambox", None, None, ["read", "order-1"]).await;
    assert_eq!(lost.code(), BAD_CONFIGURATION, "{}", lost.stderr);
    assert!(lost.stderr.contains("AWS_REGION"), "{}", lost.stderr);
}
