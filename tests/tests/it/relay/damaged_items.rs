//! Items that another client has put into the table, or has damaged: each halts its own stream, is named wherever somebody looks,
//! and can be given up. Every other stream continues.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use streambox::{ExpectedVersion::NoStream, NewEvent};
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    items::{item, put},
    programs::{Finished, Process, run},
    unique,
};

const HEALTHY_STREAMS: u64 = 10;

/// An item that is put into a stream beside a sound event and its pending entry.
struct Damage {
    stream: &'static str,
    entity: &'static str,
    attributes: Value,
    /// What names it to `skip`: a version, a sort key; none where `skip` must not touch it.
    skipped_by: Option<&'static str>,
    /// What `verify` calls it.
    kind: &'static str,
    /// Whether the sound entry of the stream is published before the stream halts.
    goes_before: bool,
}

fn damages() -> Vec<Damage> {
    let entry = |first: &str| json!({ "pending_since": { "N": "1700000000000" }, "first_version": { "N": first } });
    let damage = |stream, entity, attributes, skipped_by, kind, goes_before| Damage {
        stream,
        entity,
        attributes,
        skipped_by,
        kind,
        goes_before,
    };
    let second = "pending#00000000000000000002";
    let far = json!({
        "pending_since": { "N": "1700000000000" },
        "first_version": { "N": "2" },
        "previous_version": { "N": "2" },
        "previous_at": { "N": "1700000000000" },
    });
    vec![
        damage("large-1", second, entry("18446744073709551615"), Some("2"), "unreadable_entry", true),
        damage("large-2", second, entry("1000000000"), Some("2"), "unreadable_entry", true),
        damage("large-3", second, entry("101"), Some("2"), "unreadable_entry", true),
        damage("large-4", second, entry("9223372036854775808"), Some("2"), "unreadable_entry", true),
        damage("itself-1", second, far, Some("2"), "unreadable_entry", true),
        damage("plus-1", "pending#+0000000000000000002", entry("2"), Some("KEY"), "unreadable_entry", false),
        damage("zero-1", "pending#00000000000000000000", entry("2"), Some("KEY"), "unreadable_entry", false),
        damage("letters-1", "pending#abc", entry("2"), Some("KEY"), "unreadable_entry", true),
        damage("short-1", "pending#5", entry("5"), Some("KEY"), "unreadable_entry", true),
        damage("long-1", "pending#000000000000000000002", entry("2"), Some("KEY"), "unreadable_entry", false),
        damage("huge-1", "pending#18446744073709551616", entry("2"), Some("KEY"), "unreadable_entry", true),
        damage("quote-1", "pending#it's", entry("2"), Some("KEY"), "unreadable_entry", true),
        damage("stray-1", "snapshot", json!({ "pending_since": { "N": "1" } }), None, "stray", true),
        damage("stray-2", "other", json!({ "pending_since": { "N": "1" } }), None, "stray", true),
        damage("noid", "pending#00000000000000000001", entry("1"), Some("1"), "entry_without_events", false),
    ]
}

async fn drain(table: &TestTable, inbox: &Inbox) -> (Option<i32>, Value, String) {
    let arguments = ["drain", "--exchange", inbox.exchange(), "--format", "json"];
    let drained = run("streambox-relay", Some(table), Some(&shared_broker_url()), arguments).await;
    let report = serde_json::from_str(&drained.stdout).unwrap_or_else(|_| panic!("one JSON object: {drained:?}"));
    (drained.code(), report, drained.stderr)
}

async fn relay(table: &TestTable, arguments: &[&str]) -> Finished {
    run("streambox-relay", Some(table), None, arguments).await
}

async fn damaged() -> (TestTable, Vec<Damage>) {
    let table = TestTable::create().await;
    for number in 0..HEALTHY_STREAMS {
        table.fill(&stream(&format!("order-{number}")), 3).await;
    }
    let damages = damages();
    for damage in &damages {
        if damage.stream.contains('-') {
            table.fill(&stream(damage.stream), 1).await;
        }
        let mut whole = json!({ "stream_id": { "S": damage.stream }, "entity": { "S": damage.entity } });
        let attributes = damage.attributes.as_object().expect("attributes").clone();
        whole.as_object_mut().expect("an item").extend(attributes);
        put(&table, item(&whole)).await;
    }
    (table, damages)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_damaged_item_halts_its_stream_and_no_other_is_named_and_can_be_skipped() {
    let (table, damages) = damaged().await;
    let mut inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();

    let (code, report, log) = drain(&table, &inbox).await;

    assert_eq!(code, Some(1), "{log}");
    let halted = report["halted"].as_object().expect("the halted streams");
    assert_eq!(halted.len(), damages.len(), "{halted:?}");
    for Damage { stream, entity, skipped_by, .. } in &damages {
        let reason = halted.get(*stream).unwrap_or_else(|| panic!("{stream} is not named: {halted:?}"));
        let reason = reason.as_str().expect("a text");
        assert!(reason.contains(entity), "{stream}: {reason}");
        assert!(log.contains(stream) && log.contains(entity), "{stream}: {log}");
        let says_how = reason.contains("streambox-relay skip");
        assert_eq!(says_how, *skipped_by == Some("KEY"), "{stream}: {reason}");
    }
    let sound = damages.iter().filter(|damage| damage.goes_before).count() as u64;
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates()), (3 * HEALTHY_STREAMS + sound, 0));

    let verified = run("streambox", Some(&table), None, ["verify", "--format", "json"]).await;
    assert_eq!(verified.code(), Some(1), "{}", verified.stderr);
    for Damage { stream, entity, kind, .. } in &damages {
        let finding = json!({ "stream": stream, "at": entity, "kind": kind });
        let is_it = |line: &&str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            ["stream", "at", "kind"].iter().all(|name| line[name] == finding[name])
        };
        assert_eq!(verified.stdout.lines().filter(is_it).count(), 1, "{finding}: {}", verified.stdout);
    }

    for Damage { stream, entity, skipped_by, .. } in &damages {
        let target = match skipped_by {
            Some("KEY") | None => entity,
            Some(version) => version,
        };
        let arguments = ["skip", stream, target, "--reason", "damaged", "--by", "ada", "--format", "json"];
        let skipped = relay(&table, &arguments).await;
        if skipped_by.is_none() {
            assert_eq!(skipped.code(), Some(2), "{stream}: what is not a pending entry is not touched");
            let name = "pending_since";
            let update = table.client().update_item().table_name(&table.name);
            let key = |value: &str| aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
            let update = update.key("stream_id", key(stream)).key("entity", key(entity));
            update.update_expression(format!("REMOVE {name}")).send().await.expect("the engine updates");
            continue;
        }
        assert_eq!(skipped.code(), Some(0), "{stream}: {}", skipped.stderr);
        let printed: Value = serde_json::from_str(&skipped.stdout).expect("one JSON object");
        let key = (*skipped_by == Some("KEY")).then_some(*entity);
        assert_eq!((&printed["stream"], &printed["key"]), (&json!(stream), &json!(key)), "{printed}");
        let again = relay(&table, &arguments).await;
        let printed: Value = serde_json::from_str(&again.stdout).expect("one JSON object");
        assert_eq!(printed["skipped_before"], true, "{stream}");
    }
    let (code, report, log) = drain(&table, &inbox).await;
    assert_eq!((code, &report["drained"]), (Some(0), &json!(true)), "{log}");
    let all = 3 * HEALTHY_STREAMS + damages.iter().filter(|damage| damage.stream.contains('-')).count() as u64;
    let tally = inbox.receive_rest().await.unwrap();
    assert_eq!((tally.distinct(), tally.duplicates()), (all, 0), "the sound entries of damaged streams, too");
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_a_stream_with_a_damaged_item_is_halted_under_a_running_relay_until_it_is_skipped() {
    let table = TestTable::create().await;
    let url = shared_broker_url();
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let damaged = json!({
        "stream_id": { "S": "order-1" },
        "entity": { "S": "pending#+0000000000000000001" },
        "pending_since": { "N": "1700000000000" },
        "first_version": { "N": "18446744073709551615" },
    });
    put(&table, item(&damaged)).await;
    let delays = ["--retry-delay-ms", "100", "--max-retry-delay-ms", "100", "--heartbeat-interval-ms", "500"];
    let arguments = ["run", "--exchange", inbox.exchange()].into_iter().chain(delays);
    let mut relay_process = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    relay_process.logs("the stream is halted").await;
    table.store.append(&stream("order-1"), NoStream, [event(1)]).await.unwrap();
    table.store.append(&stream("order-2"), NoStream, [event(1)]).await.unwrap();
    let next = inbox.next().await;
    assert_eq!((next.event.stream_id.as_str(), next.event.version), ("order-2", 1), "no other stream is halted");

    // The worker's row says so with its next heartbeat.
    let named = async {
        loop {
            let status = relay(&table, &["status", "--no-wait", "--format", "json"]).await;
            let status: Value = serde_json::from_str(&status.stdout).expect("one JSON object");
            if status["halted"][0]["stream"] == "order-1" {
                break status["halted"][0]["reason"].to_string();
            }
        }
    };
    let reason = tokio::time::timeout(streambox_tests::PATIENCE, named).await.expect("status names the stream");
    assert!(reason.contains("pending#+0000000000000000001"), "{reason}");

    let key = "pending#+0000000000000000001";
    let skipped = relay(&table, &["skip", "order-1", key, "--reason", "it is no entry"]).await;
    assert_eq!(skipped.code(), Some(0), "{}", skipped.stderr);
    let next = inbox.next().await;
    assert_eq!((next.event.stream_id.as_str(), next.event.version), ("order-1", 1), "the stream goes on by itself");
    relay_process.signal(Signal::SIGTERM);
    assert_eq!(relay_process.finish().await.code(), Some(0));
    inbox.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g7_an_event_whose_sort_key_has_not_20_digits_is_missing_and_halts_its_stream() {
    let table = TestTable::create().await;
    let inbox = Inbox::open(&shared_broker_url(), &unique("events")).await.unwrap();
    // Too large for a copy in the entry: the relay has to read the event.
    let large = NewEvent::json("Grown", &"x".repeat(2_000)).unwrap();
    let order = stream("order-1");
    table.as_text().append(&order, NoStream, [large]).await.unwrap();
    let key = json!({ "stream_id": { "S": "order-1" }, "entity": { "S": "event#00000000000000000001" } });
    let get = table.client().get_item().table_name(&table.name).set_key(Some(item(&key)));
    let mut whole = get.send().await.unwrap().item.expect("the event");
    let misnamed = "event#+0000000000000000001";
    whole.insert("entity".to_owned(), aws_sdk_dynamodb::types::AttributeValue::S(misnamed.to_owned()));
    put(&table, whole).await;
    table.delete(&order, "event#00000000000000000001").await;

    let (code, report, log) = drain(&table, &inbox).await;

    assert_eq!(code, Some(1), "{log}");
    let reason = report["halted"]["order-1"].as_str().expect("the stream is named");
    assert!(reason.contains("version 1") && reason.contains("missing"), "{reason}");
    let verified = run("streambox", Some(&table), None, ["verify", "--format", "json"]).await;
    assert!(verified.stdout.contains(misnamed) && verified.stdout.contains("\"key\""), "{}", verified.stdout);
    inbox.close().await.unwrap();
}
