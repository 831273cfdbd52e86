//! Items as a newer version might write them: what may be ignored is ignored, and what may not be stops its stream, visibly and
//! without a loss, until a program comes that knows it.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::TryStreamExt as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use streambox::{Error, ExpectedVersion, ReadOptions, ScanOptions, aggregate::Repository};
use streambox_tests::{
    PATIENCE,
    broker::{Inbox, shared_broker_url},
    engine::{TestTable, event, stream},
    http::{ask, without_table},
    items::{self, Item, item},
    orders::Order,
    programs::{Process, run},
    unique,
};

use super::{assert_receives, drain, expected, items, table_of, unpublished};

/// More than a cold load reads at once.
const MANY: u64 = 40;

/// The attributes that a newer version may have beside those of today.
fn more() -> [(String, AttributeValue); 3] {
    [
        ("zz_tenant".to_owned(), AttributeValue::S("t-1".to_owned())),
        ("digest".to_owned(), AttributeValue::N("77".to_owned())),
        ("shape".to_owned(), AttributeValue::M([("v".to_owned(), AttributeValue::Bool(true))].into())),
    ]
}

/// With unknown attributes in the item, in the copies of events in it, and in the halted streams of a worker.
fn grown(mut item: Item) -> Item {
    for list in ["events", "halted"] {
        if let Some(AttributeValue::L(elements)) = item.get_mut(list) {
            for element in elements {
                let AttributeValue::M(map) = element else { panic!("{list} has maps") };
                map.extend(more());
            }
        }
    }
    item.extend(more());
    item
}

/// Entities that nobody knows today: before, between and behind those of a stream, and beside the rows of the relays.
fn unknown_entities() -> Vec<Item> {
    let mut all = Vec::new();
    for id in super::streams() {
        let behind = (0..MANY).map(|number| format!("zz#{number:020}"));
        let keys = ["audit#1", "index#by-sku", "note", "receipt#00000000000000000001"].map(str::to_owned);
        all.extend(
            keys.into_iter().chain(behind).map(|entity| json!({ "stream_id": { "S": id }, "entity": { "S": entity } })),
        );
    }
    for entity in ["audit#1", "format", "worker-group#1", "zz#1"] {
        all.push(json!({ "stream_id": { "S": "$relay" }, "entity": { "S": entity }, "beat": { "N": "1" } }));
    }
    all.iter().map(|json| grown(item(json))).collect()
}

async fn grown_table() -> TestTable {
    table_of(items().iter().map(|json| grown(item(json))).chain(unknown_entities())).await
}

#[tokio::test]
async fn u2_unknown_attributes_and_entities_change_nothing_of_what_is_read_or_appended() {
    let (table, expected) = (grown_table().await, expected());
    let mut read = Vec::new();
    for id in super::streams() {
        let order = stream(&id);
        let history = table.store.read(&order).await.unwrap();
        let backward: Vec<_> = table.store.read_stream(&order, ReadOptions::backward()).try_collect().await.unwrap();
        assert!(backward.iter().rev().eq(&history.events));
        // What fills the first page of a cold load changes its speed, not its result.
        let mut load = table.store.load_snapshot(&order, |_| true).await.unwrap();
        let from = load.snapshot().map_or(0, |snapshot| snapshot.version);
        let mut behind = Vec::new();
        while let Some(page) = load.next_page().await.unwrap() {
            behind.extend(page);
        }
        assert!(behind.iter().eq(history.events.iter().filter(|event| event.version > from)), "{id}");
        assert_eq!(load.position(), &history.position);
        assert_eq!(table.store.position(&order).await.unwrap(), history.position);
        read.extend(history.events);
    }
    assert_eq!(read.len(), expected.len());
    read.iter().zip(&expected).for_each(|(event, expected)| expected.assert_is(event));
    let scanned: Vec<_> = table.store.scan_events(&ScanOptions::new()).unwrap().try_collect().await.unwrap();
    assert_eq!(scanned.len(), expected.len());
    for id in super::streams() {
        let order = stream(&id);
        let end = table.store.position(&order).await.unwrap();
        let appended = table.store.append(&order, ExpectedVersion::At(end.clone()), [event(1)]).await.unwrap();
        assert_eq!(appended.position.version(), end.version() + 1);
    }
    assert_eq!(table.store.outbox().workers().await.unwrap().len(), 1, "what is no worker is none");
    assert_eq!(table.store.outbox().skips(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_u2_unknown_attributes_and_entities_change_nothing_of_what_is_published() {
    let (table, url) = (grown_table().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    let before = table.items().await;
    let drained = drain(&table, &url, &inbox).await;
    assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
    assert_receives(&mut inbox, unpublished()).await;
    assert_eq!(inbox.receive_rest().await.unwrap().duplicates(), 0);
    let entries = items().iter().filter(|item| item["entity"]["S"].as_str().unwrap().starts_with("pending#")).count();
    assert_eq!(table.items().await, before - entries as u64, "nothing but pending entries was deleted");
    inbox.close().await.unwrap();
}

#[tokio::test]
async fn u2_verify_names_what_it_does_not_know_and_nothing_else() {
    let table = grown_table().await;
    let verified = run("streambox", Some(&table), None, ["verify", "--format", "json"]).await;
    let lines: Vec<Value> = verified.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (summary, findings) = lines.split_last().expect("a summary");
    assert!(findings.iter().all(|finding| finding["kind"] == "key"), "{}", verified.stdout);
    assert!(findings.iter().all(|finding| finding["what"].as_str().unwrap().contains("a newer version")));
    assert_eq!(summary["findings"], (MANY + 4) * super::streams().len() as u64);
    assert_eq!(summary["events"], expected().len() as u64);
}

/// The kind of an item, what is done to it, and what a program of today says of it.
type Change = (&'static str, fn(&mut Value), &'static str);

/// What a newer version may do that must not be overlooked: to an event, or to a pending entry.
fn changes() -> Vec<Change> {
    fn set(item: &mut Value, pointer: &str, name: &str, value: Value) {
        let object = item.pointer_mut(pointer).and_then(Value::as_object_mut);
        object.expect(pointer).insert(name.to_owned(), value);
    }
    vec![
        (
            "event#",
            |item| set(item, "", "payload_encoding", json!({ "S": "brotli" })),
            "unknown encoding \"brotli\": a newer version may have written it",
        ),
        ("event#", |item| set(item, "", "payload", json!({ "M": {} })), "payload is not binary"),
        (
            "pending#",
            |item| set(item, "/events/L/0/M", "payload_encoding", json!({ "S": "brotli" })),
            "unknown encoding \"brotli\": a newer version may have written it",
        ),
        ("pending#", |item| set(item, "", "events", json!({ "S": "elsewhere" })), "events is not a list"),
        ("pending#", |item| set(item, "", "public_versions", json!({ "SS": ["1"] })), "public_versions is not a list"),
        ("pending#", |item| set(item, "", "first_version", json!({ "S": "one" })), "first_version is not a number"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_g7_u3_what_must_not_be_overlooked_halts_its_stream_and_no_other_and_is_published_once_it_is_known() {
    let url = shared_broker_url();
    for (kind, change, told) in changes() {
        // An event that no entry copies is in `compressed`, an entry with a copy in `private`.
        let id = if kind == "event#" { "order-4713" } else { "order-4712" };
        let key = format!("{kind}{:020}", 1);
        let is_changed = |json: &Value| json["stream_id"]["S"] == id && json["entity"]["S"] == key.as_str();
        let later = items().into_iter().map(|mut json| {
            if is_changed(&json) {
                change(&mut json);
            }
            item(&json)
        });
        let table = table_of(later).await;
        let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
        let before = table.items().await;

        let drained = drain(&table, &url, &inbox).await;
        assert_eq!(drained.code(), Some(1), "{told}: {}", drained.stderr);
        let report: Value = serde_json::from_str(&drained.stdout).expect("JSON");
        let reason = report["halted"][id].as_str().unwrap_or_else(|| panic!("{id} is not halted: {report}"));
        assert!(reason.contains(told) && drained.stderr.contains(id), "{reason}");
        assert_eq!(report["halted"].as_object().map(serde_json::Map::len), Some(1), "no other is");
        let (rest, of_stream): (Vec<_>, Vec<_>) = unpublished().into_iter().partition(|event| event.stream() != id);
        assert_eq!(table.items().await, before - report["entries_deleted"].as_u64().unwrap());
        let held = items().iter().filter(|json| super::is_pending(json, id)).count();
        assert_eq!(table.pending().await, held as u64, "all entries of the stream are there");
        assert_receives(&mut inbox, rest).await;
        if kind == "event#" {
            let error = table.store.read(&stream(id)).await.unwrap_err();
            assert!(matches!(&error, Error::Corrupt(corrupt) if corrupt.what.contains(told)), "{error}");
        }

        // A program that knows it sees what was meant.
        for json in items().iter().filter(|json| is_changed(json)) {
            items::put(&table, item(json)).await;
        }
        let drained = drain(&table, &url, &inbox).await;
        assert_eq!(drained.code(), Some(0), "{}", drained.stderr);
        assert_receives(&mut inbox, of_stream).await;
        assert_eq!(inbox.receive_rest().await.unwrap().duplicates(), 0);
        assert_eq!(table.pending().await, 0);
        inbox.close().await.unwrap();
    }
}

#[tokio::test]
async fn g9_u6_a_snapshot_of_a_schema_that_is_not_known_is_ignored() {
    let table = TestTable::create().await;
    let orders = Repository::<Order>::new(table.store.clone());
    for items in 1..=3 {
        orders.execute("1", |order| order.add(items)).await.unwrap();
    }
    let newer = json!({
        "stream_id": { "S": "order-1" }, "entity": { "S": "snapshot" }, "version": { "N": "3" },
        "schema_version": { "N": "900" }, "body": { "S": "{\"shape\":\"of the future\"}" }, "taken_at": { "N": "1780000000000" },
    });
    items::put(&table, item(&newer)).await;
    let loaded = Repository::<Order>::new(table.store.clone()).load("1").await.unwrap();
    assert_eq!((loaded.version(), loaded.state().items), (3, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u4_relays_of_two_versions_share_the_streams_and_one_takes_over_from_the_other() {
    const STREAMS: u64 = 30;
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::open(&url, &unique("events")).await.unwrap();
    // All that a worker of another version is sure to write is its beat; and it has attributes of its own.
    let (client, name) = (table.client(), table.name.clone());
    let other = tokio::spawn(async move {
        for beat in 1_u64.. {
            let row = json!({
                "stream_id": { "S": "$relay" }, "entity": { "S": "worker#another" }, "beat": { "N": beat.to_string() },
                "zone": { "S": "b" }, "halted": { "S": "in another form" },
            });
            let put = client.put_item().table_name(&name).set_item(Some(grown_row(&row)));
            put.send().await.expect("the engine takes the row");
            // A heart's own pace, which nothing waits for.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let first = ["run", "--exchange", inbox.exchange(), "--worker-id", "today", "--poll-interval-ms", "50"];
    let arguments = first.into_iter().chain(["--heartbeat-interval-ms", "100", "--worker-timeout-ms", "3000"]);
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    let log: Value = serde_json::from_str(&relay.log_line("status page at http://").await).expect("JSON");
    let at = log["address"].as_str().expect("the address").to_owned();
    let shares = async {
        while !without_table(&ask(&at, "GET", "/metrics").await.body).contains("streambox_relay_own_share 0.5\n") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, shares).await.expect("the two see each other");
    for number in 0..STREAMS {
        table.fill(&stream(&format!("order-{number}")), 2).await;
    }
    // Its own share is published, and the other's waits for the other.
    let waits = async {
        loop {
            let metrics = without_table(&ask(&at, "GET", "/metrics").await.body);
            let own_are_done = metrics.contains("streambox_relay_own_pending_entries 0\n");
            if own_are_done && !metrics.contains("streambox_relay_pending_entries 0\n") {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("some streams are the other's");
    other.abort();
    inbox.receive_distinct(STREAMS * 2).await;
    table.wait_for_nothing_pending().await;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    assert_eq!(inbox.receive_rest().await.unwrap().duplicates(), 0, "nobody else has published them");
    inbox.close().await.unwrap();
}

fn grown_row(row: &Value) -> Item {
    let mut row = item(row);
    row.extend(more());
    row
}
