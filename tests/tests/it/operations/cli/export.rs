//! `streambox export`, and that `import` takes it back.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::types::AttributeValue;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use streambox::{ExpectedVersion, NewEvent};
use streambox_tests::{
    engine::{TestTable, event, stream},
    programs::{Finished, Process},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::{BAD_CONFIGURATION, DONE, FAILED, USAGE, file, import, log, streambox};

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
    let none = streambox(&table, &["export", "--stream", "order-2"]).await;
    assert_eq!((none.code(), none.stdout.as_str()), (FAILED, ""));
    assert!(none.stderr.contains("has no stream order-2: nothing was exported"), "{}", none.stderr);
}

/// What a way to the engine does when this many bytes of answers have passed.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Nothing more passes.
    Stalls,
    GoesOn,
}

/// A way to the engine that signals when this many bytes of answers have passed, over whatever connections.
async fn limited(table: &TestTable, bytes: usize, then: Then) -> (TestTable, oneshot::Receiver<()>) {
    let engine = table.url().strip_prefix("http://").expect("an end point of HTTP").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let (tells, has_passed) = oneshot::channel();
    let budget = Arc::new(Mutex::new((bytes, Some(tells))));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let engine = TcpStream::connect(&engine).await.expect("the engine is there");
            let (mut from_engine, mut to_engine) = engine.into_split();
            let there = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_engine).await });
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                let mut chunk = [0; 16 * 1024];
                while let Ok(read @ 1..) = from_engine.read(&mut chunk).await {
                    let (passes, tells) = {
                        let (left, tells) = &mut *budget.lock().expect("no task has panicked");
                        let passes = if then == Then::Stalls { read.min(*left) } else { read };
                        *left = left.saturating_sub(read);
                        (passes, if *left == 0 { tells.take() } else { None })
                    };
                    if to_client.write_all(&chunk[..passes]).await.is_err() {
                        break;
                    }
                    if let Some(tells) = tells {
                        let _ = tells.send(());
                    }
                    if passes < read {
                        // The connection stays as it is until the program has gone.
                        let _ = there.await;
                        break;
                    }
                }
            });
        }
    });
    (table.through(&url), has_passed)
}

/// A way to the engine that lets this many bytes of answers pass, and then nothing.
async fn stalling(table: &TestTable, bytes: usize) -> (TestTable, oneshot::Receiver<()>) {
    limited(table, bytes, Then::Stalls).await
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
        let says = "streambox: interrupted; the same command with --resume resumes it";
        assert!(interrupted.stderr.contains(says), "{}", interrupted.stderr);
        let report: Value = serde_json::from_str(&interrupted.stdout).unwrap();
        let written = report["events"].as_u64().unwrap();
        assert!(written > 0 && report["complete"] == false, "{report}");
        assert_eq!(unpacked(&file).lines().count() as u64, written, "what is there can be read");

        let refused = streambox(&table, &command).await;
        assert_eq!(refused.code(), FAILED);
        assert!(refused.stderr.contains("exists already and is not overwritten"), "{}", refused.stderr);
        assert!(refused.stderr.contains("the same command with --resume"), "{}", refused.stderr);

        // What was written behind the checkpoint when a machine went down is written again.
        let mut torn = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        std::io::Write::write_all(&mut torn, b"{\"stream\":\"ord").unwrap();
        let resumed = streambox(&table, &[command.as_slice(), &["--resume"]].concat()).await;
        assert_eq!(resumed.code(), DONE, "{resumed:?}");
        let expected = exported(&table, &selection).await;
        assert!(unpacked(&file) == expected, "{name}: the same as without an interruption");
        let report: Value = serde_json::from_str(&resumed.stdout).unwrap();
        assert_eq!(report["events"], expected.lines().count());
        assert_eq!(report["streams"], by_stream(&expected).len(), "a stream that was begun before counts once");
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
    assert!(interrupted.stderr.contains("with -o FILE an export can be resumed"), "{}", interrupted.stderr);
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

/// Damages streams 2 to 8 of nine, each in another way, and returns how many events of each come before the damage.
async fn damage(table: &TestTable) -> BTreeMap<String, usize> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let key = |version: u64| format!("event#{version:020}");
    for (id, version, attribute, value) in [
        ("order-2", 2, "payload", text("{")),
        ("order-3", 3, "event_type", text("a\u{1b}b")),
        ("order-4", 1, "event_type", text(&"x".repeat(300))),
        ("order-5", 2, "append_id", text("x")),
        ("order-6", 3, "metadata", text("[]")),
    ] {
        table.set(&stream(id), &key(version), attribute, value).await;
    }
    table.delete(&stream("order-7"), &key(2)).await;
    table.set(&stream("order-8"), "event#7", "payload", text("{}")).await;
    [(2, 1), (3, 2), (4, 0), (5, 1), (6, 2), (7, 1), (8, 3)]
        .map(|(id, before)| (format!("\"order-{id}\""), before))
        .into()
}

#[tokio::test]
async fn g12_damaged_streams_are_named_and_every_other_stream_is_exported_whole() {
    let (table, second) = (TestTable::create().await, TestTable::create().await);
    import_singly(&table, &log(9, 3)).await;
    let whole = by_stream(&exported(&table, &[]).await);
    let damaged = damage(&table).await;
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "events.ndjson");

    for arguments in [vec!["export"], vec!["export", "-o", &file, "--format", "json", "--segments", "2"]] {
        let finished = streambox(&table, &arguments).await;
        assert_eq!(finished.code(), FAILED, "{finished:?}");
        let text = if arguments.contains(&"-o") { unpacked(&file) } else { finished.stdout.clone() };
        let mut expected = whole.clone();
        for (id, lines) in &mut expected {
            lines.truncate(damaged.get(id).copied().unwrap_or(3));
        }
        expected.retain(|_, lines| !lines.is_empty());
        assert_eq!(by_stream(&text), expected);
        for id in damaged.keys() {
            let line = format!("damaged: stream {}, ", id.trim_matches('"'));
            assert_eq!(finished.stderr.matches(&line).count(), 1, "{id}: {}", finished.stderr);
        }
        assert!(finished.stderr.contains("7 streams are damaged") && finished.stderr.contains("--leave-out-damaged"));
        let taken = TestTable::create().await;
        let (imported, _) = import(&taken, super::file(&text).path()).await;
        assert_eq!(imported.code(), DONE, "{imported:?}");
    }
    assert!(!Path::new(&format!("{file}.resume")).exists(), "everything was read");

    std::fs::remove_file(&file).unwrap();
    let sound: BTreeMap<_, _> = whole.into_iter().filter(|(id, _)| !damaged.contains_key(id)).collect();
    for arguments in [vec!["export"], vec!["export", "-o", &file, "--format", "json"]] {
        let finished = streambox(&table, &[arguments.as_slice(), &["--leave-out-damaged"]].concat()).await;
        assert_eq!(finished.code(), DONE, "{finished:?}");
        for id in damaged.keys() {
            let line = format!("damaged: stream {}, ", id.trim_matches('"'));
            assert_eq!(finished.stderr.matches(&line).count(), 1, "{id}: {}", finished.stderr);
        }
        if arguments.contains(&"-o") {
            let report: Value = serde_json::from_str(&finished.stdout).unwrap();
            assert_eq!((&report["complete"], &report["streams"]), (&json!(true), &json!(2)));
            let named = report["damaged"].as_array().unwrap();
            let named: BTreeMap<_, _> = named.iter().map(|one| (one["stream"].to_string(), one)).collect();
            assert!(named.keys().eq(damaged.keys()), "{named:?}");
            assert_eq!(by_stream(&unpacked(&file)), sound);
        } else {
            assert_eq!(by_stream(&finished.stdout), sound);
        }
    }
    let (imported, _) = import(&second, Path::new(&file)).await;
    assert_eq!(imported.code(), DONE, "{imported:?}");
    assert_eq!(by_stream(&exported(&second, &[]).await), sound);
}

/// Each line by an append of its own.
async fn import_singly(table: &TestTable, lines: &str) {
    let file = file(lines);
    let file = file.path().to_str().expect("a temporary file's name");
    let imported = streambox(table, &["import", file, "--events-per-append", "1"]).await;
    assert_eq!(imported.code(), DONE, "{imported:?}");
}

#[tokio::test]
async fn a_stream_that_is_damaged_alone_is_exported_as_far_as_it_is_whole() {
    let table = TestTable::create().await;
    import_singly(&table, &log(3, 3)).await;
    table.delete(&stream("order-2"), "event#00000000000000000003").await;
    table.set(&stream("order-2"), "event#00000000000000000002", "payload", AttributeValue::S("{".to_owned())).await;
    let finished = streambox(&table, &["export", "--stream", "order-2"]).await;
    assert_eq!((finished.code(), finished.stdout.lines().count()), (FAILED, 1), "{finished:?}");
    assert!(finished.stderr.contains("order-2, event#00000000000000000002"), "{}", finished.stderr);
}

/// A file of an export of `table` that was interrupted in the middle.
async fn interrupted(table: &TestTable, file: &str) {
    let (behind, stalled) = stalling(table, 1_500_000).await;
    let exporting = Process::start("streambox", Some(&behind), None, ["export", "-o", file, "--segments", "1"]);
    stalled.await.expect("the second page does not come");
    exporting.signal(Signal::SIGINT);
    assert_eq!(exporting.wait().await.code(), FAILED);
}

#[tokio::test]
async fn g12_an_export_resumes_only_from_its_table_with_its_options_into_its_file() {
    let (table, another) = (TestTable::create().await, TestTable::create().await);
    for table in [&table, &another] {
        let long = (0..25).map(|_| NewEvent::json("Grown", &"x".repeat(100_000)).expect("a valid event"));
        table.as_text().append(&stream("permit-1"), ExpectedVersion::NoStream, long).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "events.ndjson");
    let checkpoint = format!("{file}.resume");
    interrupted(&table, &file).await;
    let left = || (std::fs::read(&file).unwrap_or_default(), std::fs::read(&checkpoint).unwrap());
    let (written, resume) = left();
    let resumed = async |table: &TestTable, more: &[&str]| {
        let arguments = [&["export", "-o", &file, "--segments", "1", "--resume"], more].concat();
        streambox(table, &arguments).await
    };
    let refused = async |table: &TestTable, more: &[&str], says: &str| {
        let before = left();
        let refused = resumed(table, more).await;
        assert_eq!(refused.code(), FAILED, "{says}: {refused:?}");
        assert!(refused.stderr.contains(says), "{says}: {}", refused.stderr);
        assert!(refused.stderr.contains("to start again, remove"), "{says}: {}", refused.stderr);
        assert!(left() == before, "{says}: the file is left as it is");
    };

    refused(&another, &[], "it belongs to an export of table arn:aws:dynamodb:").await;
    refused(&table, &["--category", "order"], "the export began with --segments 1, no gzip, not with --category").await;
    refused(&table, &["--gzip"], "not with --segments 1, gzip").await;
    refused(&table, &["--leave-out-damaged"], "not with --segments 1, --leave-out-damaged, no gzip").await;
    let segments = streambox(&table, &["export", "-o", &file, "--segments", "2", "--resume"]).await;
    assert!(segments.code() == FAILED && segments.stderr.contains("not with --segments 2"), "{}", segments.stderr);

    // One byte, as long as it was; another export's lines; a part of it; nothing.
    let altered = |place: usize| written.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == place)).collect();
    let lines: Vec<u8> = exported(&another, &[]).await.replace("xx", "yy").into_bytes();
    for content in [altered(0), altered(written.len() - 1), lines] {
        std::fs::write(&file, content).unwrap();
        refused(&table, &[], "was changed since the export was interrupted").await;
    }
    std::fs::write(&file, &written[..written.len() - 1]).unwrap();
    refused(&table, &[], "is shorter than the export left it").await;
    std::fs::remove_file(&file).unwrap();
    refused(&table, &[], "no longer exists").await;

    std::fs::write(&file, &written).unwrap();
    for broken in [&resume[..resume.len() / 2], b"", b"{}"] {
        std::fs::write(&checkpoint, broken).unwrap();
        refused(&table, &[], "it is not the checkpoint of an interrupted export").await;
    }
    std::fs::write(&checkpoint, &resume).unwrap();
    // A second export into the same file has to wait.
    let open = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    open.lock().unwrap();
    let second = resumed(&table, &[]).await;
    assert!(second.code() == FAILED && second.stderr.contains("another export is writing"), "{}", second.stderr);
    drop(open);

    let finished = resumed(&table, &[]).await;
    assert_eq!(finished.code(), DONE, "{finished:?}");
    assert!(unpacked(&file) == exported(&table, &["--segments", "1"]).await, "it is the whole");
    let again = resumed(&table, &[]).await;
    assert_eq!(again.code(), FAILED);
    assert!(again.stderr.contains("A complete export needs no --resume"), "{}", again.stderr);
}

#[tokio::test]
async fn a_new_export_takes_the_place_of_the_checkpoint_of_an_old_one() {
    let table = TestTable::create().await;
    let long = (0..25).map(|_| NewEvent::json("Grown", &"x".repeat(100_000)).expect("a valid event"));
    table.as_text().append(&stream("permit-1"), ExpectedVersion::NoStream, long).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "events.ndjson");
    interrupted(&table, &file).await;
    let old = std::fs::read(format!("{file}.resume")).unwrap();
    std::fs::remove_file(&file).unwrap();

    // It is killed before it has a single event.
    let (behind, stalled) = stalling(&table, 3_000).await;
    let mut exporting = Process::start("streambox", Some(&behind), None, ["export", "-o", &file, "--segments", "1"]);
    stalled.await.expect("the first page does not come");
    while !Path::new(&file).exists() {
        assert!(!exporting.has_ended(), "it has a file before it has events");
        tokio::task::yield_now().await;
    }
    exporting.kill().await;
    assert_ne!(std::fs::read(format!("{file}.resume")).unwrap(), old);
    let resumed = streambox(&table, &["export", "-o", &file, "--segments", "1", "--resume"]).await;
    assert_eq!(resumed.code(), DONE, "{resumed:?}");
    assert!(unpacked(&file) == exported(&table, &["--segments", "1"]).await);

    // The sentences lead out: what is there is removed, and then it works.
    let there = streambox(&table, &["export", "-o", &file]).await;
    assert!(there.stderr.contains("remove it, or name another file"), "{}", there.stderr);
    assert!(!there.stderr.contains("--resume"), "there is nothing to resume: {}", there.stderr);
    std::fs::remove_file(&file).unwrap();
    let resumed = streambox(&table, &["export", "-o", &file, "--resume"]).await;
    assert!(resumed.stderr.contains("leave out --resume"), "{}", resumed.stderr);
    assert_eq!(streambox(&table, &["export", "-o", &file]).await.code(), DONE);
}

#[tokio::test]
async fn g12_an_export_that_is_killed_again_and_again_and_resumed_is_as_one_that_never_was() {
    const KILLS: usize = 6;
    let table = TestTable::create().await;
    // Several checkpoints, of which most are in the middle of a stream.
    let (imported, _) = import(&table, file(&log(7, 1_000)).path()).await;
    assert_eq!(imported.code(), DONE, "{imported:?}");
    table.set(&stream("order-3"), "event#00000000000000000700", "payload", AttributeValue::S("{".to_owned())).await;
    let directory = tempfile::tempdir().unwrap();
    let undisturbed = path(&directory, "undisturbed");
    let options: [&[&str]; 2] = [&["--segments", "1"], &["--segments", "1", "--leave-out-damaged"]];
    for (seed, (options, name)) in
        (1..).zip([(options[0], "a.ndjson"), (options[0], "b.ndjson.gz"), (options[1], "c.ndjson")])
    {
        let mut random = fastrand::Rng::with_seed(seed);
        let _ = std::fs::remove_file(&undisturbed);
        let expected =
            streambox(&table, &[&["export", "-o", &undisturbed, "--format", "json"], options].concat()).await;
        let file = path(&directory, name);
        let command = [&["export", "-o", &file, "--format", "json"], options].concat();
        let checkpoint = format!("{file}.resume");
        let mut ended = None;
        for kills in 0..=KILLS {
            let has_begun = Path::new(&checkpoint).exists();
            let resume: &[&str] = if has_begun { &["--resume"] } else { &[] };
            let arguments = [command.as_slice(), resume].concat();
            if kills == KILLS {
                ended = Some(streambox(&table, &arguments).await);
                break;
            }
            let (behind, passed) = limited(&table, random.usize(1..2_500_000), Then::GoesOn).await;
            let exporting = Process::start("streambox", Some(&behind), None, &arguments);
            let process = Pid::from_raw(i32::try_from(exporting.id()).expect("a process id"));
            let mut exporting = Box::pin(exporting.wait());
            tokio::select! {
                finished = &mut exporting => { ended = Some(finished); break }
                _ = passed => kill(process, Signal::SIGKILL).expect("it has not been waited for"),
            }
            exporting.await;
            // Killed behind its end: nothing is left to resume.
            if Path::new(&file).exists() && !Path::new(&checkpoint).exists() {
                break;
            }
        }
        assert!(!Path::new(&checkpoint).exists(), "seed {seed}: {ended:?}");
        assert!(unpacked(&file) == unpacked(&undisturbed), "seed {seed}: the same lines, once each, in order");
        let Some(ended) = ended else { continue };
        assert_eq!(ended.code(), expected.code(), "seed {seed}: {ended:?}");
        let report = |finished: &Finished| -> Value {
            serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"))
        };
        let (is, expected) = (report(&ended), report(&expected));
        for count in ["events", "streams", "damaged", "complete"] {
            assert_eq!(is[count], expected[count], "seed {seed}: {count}");
        }
    }
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
        (vec!["-o", &new, "--resume"], FAILED, "no interrupted export to resume"),
        (vec!["-o", &broken, "--resume"], FAILED, "not the checkpoint of an interrupted export"),
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
