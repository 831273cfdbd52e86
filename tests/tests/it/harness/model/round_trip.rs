//! What is accepted can be read: whatever an append or an import takes, in any of its fields, every reader takes back, byte for
//! byte; and a state of floats is the same by whatever way it was loaded.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::TryStreamExt as _;
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::TestCaseError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use streambox::{
    Error, EventStore,
    ExpectedVersion::Any,
    Metadata, NewEvent, ReadOptions, RecordedEvent, ScanOptions, StreamId,
    aggregate::{Aggregate, DomainEvent, EveryEvents, Never, Repository, TaggedJson, Upcasters},
    limits::{MAX_JSON_DEPTH, MAX_RECORDED_AT_MS},
};
use streambox_tests::{
    engine::{TestTable, stream},
    programs::run,
};

use super::{
    play_random,
    world::{Result, failed},
};

/// Each is a whole table and three processes.
const CASES: u32 = 6;

/// An event as a caller, or a line of a file, may describe it; not all of it is accepted.
#[derive(Clone, Debug)]
struct Given {
    stream: String,
    event_type: String,
    payload: String,
    metadata: Option<String>,
    occurred_at: Option<String>,
    private: bool,
}

fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_filter("JSON has none", |number| number.is_finite()).prop_map(|number| format!("{number:e}")),
        any::<u64>().prop_map(|bits| format!("0.{bits:020}")),
        any::<i128>().prop_map(|number| number.to_string()),
        select(vec!["1e2", "1.10", "-0", "-0.0", "1E+400", "9.5254291334151588", "12345678901234567890123"])
            .prop_map(str::to_owned),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,8}".prop_map(|text| serde_json::to_string(&text).expect("a text")),
        select(vec![
            r#""\u001b[31m\u00e9\/""#,
            r#""\ud83d\ude00""#,
            r#""\ud800""#,
            "\"\\\"[{\\\\\"",
            "\"\u{202e}\u{feff}\""
        ])
        .prop_map(str::to_owned),
    ]
}

/// JSON, or nearly: with white space wherever it may be, names that are repeated, and levels up to and over the limit.
fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![numbers(), texts(), select(vec!["null", "true", "{}", "[ ]", "[1,", ""]).prop_map(str::to_owned)];
    let space = || select(vec!["", "", " ", "\n", "\r\n\t"]);
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..4), space())
                .prop_map(|(values, space)| format!("[{space}{}]", values.join(&format!("{space},")))),
            (vec((name(), inner), 0..4), space()).prop_map(|(members, space)| object(&members, space)),
        ]
    });
    prop_oneof![
        6 => (space(), value, space()).prop_map(|(before, value, after)| format!("{before}{value}{after}")),
        1 => (MAX_JSON_DEPTH - 2..=MAX_JSON_DEPTH + 30).prop_map(|levels| "[".repeat(levels) + &"]".repeat(levels)),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        texts(),
        select(vec!["correlation_id", "causation_id", "traceparent", "tracestate", "occurred_at", "a"])
            .prop_map(|name| format!("\"{name}\"")),
    ]
}

fn object(members: &[(String, String)], space: &str) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{space}{name}{space}:{value}")).collect();
    format!("{{{}{space}}}", members.join(","))
}

fn metadata() -> impl Strategy<Value = String> {
    let members = |space| vec((name(), json()), 0..4).prop_map(move |members| object(&members, space));
    prop_oneof![members(""), members(" "), members("\n"), json()]
}

fn given() -> impl Strategy<Value = Given> {
    let id = prop_oneof![select(vec!["order-1", "order-2"]).prop_map(str::to_owned), ".{1,6}-.{1,6}"];
    let event_type = prop_oneof![Just("Placed".to_owned()), ".{0,12}", Just("T".repeat(256))];
    let time =
        option::of(select(vec!["2010-10-02T09:20:39.266+02:00", "2026-01-31T09:30:00Z"]).prop_map(str::to_owned));
    (id, event_type, json(), option::of(metadata()), time, any::<bool>()).prop_map(
        |(stream, event_type, payload, metadata, occurred_at, private)| Given {
            stream,
            event_type,
            payload,
            metadata,
            occurred_at,
            private,
        },
    )
}

/// What a reader has to give back.
type Kept = (String, String, Metadata, bool);

fn kept(event: RecordedEvent) -> Kept {
    (event.event_type, event.payload, event.metadata, event.is_private)
}

/// Appends what is accepted. The events of each stream, in order.
async fn append(table: &TestTable, all: &[Given]) -> Result<BTreeMap<StreamId, Vec<Kept>>> {
    let mut accepted: BTreeMap<StreamId, Vec<Kept>> = BTreeMap::new();
    for given in all {
        let metadata = given.metadata.clone().map_or_else(|| Ok(Metadata::new()), Metadata::from_json_text);
        let event = NewEvent::from_json_text(&given.event_type, &given.payload);
        let (Ok(id), Ok(event), Ok(metadata)) = (StreamId::new(&given.stream), event, metadata) else { continue };
        let event = event.with_metadata(metadata.clone());
        let event = if given.private { event.private() } else { event };
        match table.store.append(&id, Any, [event]).await {
            Ok(_) => accepted.entry(id).or_default().push((
                given.event_type.clone(),
                given.payload.clone(),
                metadata,
                given.private,
            )),
            Err(Error::Invalid(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(accepted)
}

async fn scanned(table: &TestTable) -> Result<BTreeMap<StreamId, Vec<Kept>>> {
    let mut events: BTreeMap<StreamId, Vec<Kept>> = BTreeMap::new();
    let mut scan = table.store.scan_events(&ScanOptions::new()).map_err(failed)?;
    while let Some(event) = scan.try_next().await.map_err(failed)? {
        events.entry(event.stream_id.clone()).or_default().push(kept(event));
    }
    Ok(events)
}

async fn exported(table: &TestTable) -> Result<String> {
    let finished = run("streambox", Some(table), None, ["export"]).await;
    prop_assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""));
    Ok(finished.stdout)
}

/// What is appended is given back by every reader of the table, by its pending entries, and by a table that its export was imported
/// into.
async fn all_readers_agree(all: Vec<Given>) -> Result {
    let (first, second) = (TestTable::create().await, TestTable::create().await);
    let accepted = append(&first, &all).await?;
    prop_assert_eq!(&scanned(&first).await?, &accepted);
    for (id, expected) in &accepted {
        let history = first.store.read(id).await.map_err(failed)?;
        prop_assert_eq!(&history.events.iter().cloned().map(kept).collect::<Vec<_>>(), expected);
        let backward = first.store.read_stream(id, ReadOptions::backward()).map_ok(kept).try_collect::<Vec<_>>();
        prop_assert!(backward.await.map_err(failed)?.iter().rev().eq(expected));
        for entry in first.store.outbox().pending(id, 1, 1_000).await.map_err(failed)?.entries {
            let events = match entry.events {
                Some(copies) => copies,
                None => first.store.outbox().events(id, entry.first, entry.last, None).await.map_err(failed)?,
            };
            for event in events {
                let (event_type, payload, metadata, _) = &expected[usize::try_from(event.version).expect("a few") - 1];
                prop_assert_eq!((&event.event_type, &event.payload, &event.metadata), (event_type, payload, metadata));
            }
        }
    }
    let lines = exported(&first).await?;
    let file = file(&lines);
    let imported = run("streambox", Some(&second), None, ["import", file.path().to_str().expect("a path")]).await;
    prop_assert_eq!(imported.code(), Some(0), "{}\n{}", imported.stderr, lines);
    prop_assert_eq!(&scanned(&second).await?, &accepted);
    prop_assert_eq!(exported(&second).await?, lines);
    Ok(())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    use std::io::Write as _;

    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room on the disk");
    file
}

#[test]
fn g12_whatever_an_append_takes_every_reader_an_export_and_an_import_take_back() {
    play_random(CASES, &vec(given(), 60..120), all_readers_agree);
}

/// A line of a file, of what an import takes.
fn line(given: &Given) -> Option<(StreamId, String)> {
    #[derive(Serialize)]
    struct Line<'a> {
        stream: &'a str,
        r#type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        occurred_at: Option<&'a str>,
        private: bool,
    }
    let (id, payload) = (StreamId::new(&given.stream).ok()?, given.payload.as_str());
    let metadata = given.metadata.as_deref().unwrap_or("{}").replace(['\n', '\r'], " ");
    let event = NewEvent::from_json_text(&given.event_type, payload).ok()?;
    let known = Metadata::from_json_text(&metadata).ok()?;
    let is_there = known.json("occurred_at").is_some();
    let occurred_at = given.occurred_at.as_deref().filter(|_| !is_there);
    event.with_metadata(known.with("room", "x".repeat(99))).check_for(&id).ok()?;
    let (data, data_text) = if payload.contains(['\n', '\r']) {
        (None, Some(payload))
    } else {
        (Some(serde_json::from_str(payload).ok()?), None)
    };
    let metadata = Some(serde_json::from_str(&metadata).ok()?);
    let r#type = given.event_type.as_str();
    let line = Line { stream: id.as_str(), r#type, data, data_text, metadata, occurred_at, private: given.private };
    let line = serde_json::to_string(&line).expect("JSON");
    Some((id, line))
}

/// An import of an export changes nothing: neither of the events nor of the lines.
async fn lines_are_taken_back(all: Vec<Given>) -> Result {
    let (first, second) = (TestTable::create().await, TestTable::create().await);
    let lines: String = all.iter().filter_map(line).map(|(_, line)| line + "\n").collect();
    let source = file(&lines);
    let imported = run("streambox", Some(&first), None, ["import", source.path().to_str().expect("a path")]).await;
    prop_assert_eq!(imported.code(), Some(0), "{}\n{}", imported.stderr, lines);
    let once = exported(&first).await?;
    let written = file(&once);
    for table in [&second, &first] {
        let again = run("streambox", Some(table), None, ["import", written.path().to_str().expect("a path")]).await;
        prop_assert_eq!(again.code(), Some(0), "{}\n{}", again.stderr, once);
    }
    prop_assert_eq!(scanned(&first).await?, scanned(&second).await?);
    prop_assert_eq!(exported(&second).await?, once);
    Ok(())
}

#[test]
fn g12_whatever_an_import_takes_an_export_gives_back_and_an_import_of_that_changes_nothing() {
    play_random(CASES, &vec(given(), 60..120), lines_are_taken_back);
}

/// What has been measured, in floats whose last bit counts.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Scale {
    sum: f64,
    single: f32,
    all: Vec<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Measured {
    Weight { kilograms: f64 },
}

impl DomainEvent for Measured {
    type Codec = TaggedJson;
}

impl Aggregate for Scale {
    type Event = Measured;
    const CATEGORY: &'static str = "scale";
    fn apply(&mut self, Measured::Weight { kilograms }: &Measured) {
        self.sum += kilograms;
        #[expect(clippy::cast_possible_truncation, reason = "so that its own rounding counts")]
        let single = *kilograms as f32;
        self.single = if single.is_finite() { single } else { 0.5 };
        self.all.push(*kilograms);
    }
}

/// The same with upcasters that change nothing.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Upcast(Scale);

impl Aggregate for Upcast {
    type Event = Measured;
    const CATEGORY: &'static str = "scale";
    fn apply(&mut self, event: &Measured) {
        self.0.apply(event);
    }
    fn upcasters() -> Upcasters {
        Upcasters::new().change("Weight", Ok).rename("Weight", "Mass").rename("Mass", "Weight")
    }
}

/// Of the sum every bit.
fn bits(scale: &Scale) -> (u64, u32, Vec<u64>) {
    (scale.sum.to_bits(), scale.single.to_bits(), scale.all.iter().map(|number| number.to_bits()).collect())
}

async fn every_way_gives_the_same_state(weights: Vec<f64>) -> Result {
    let table = TestTable::create().await;
    let plain = Repository::<Scale>::builder(table.another().0).snapshots(Never).cache(None).build();
    let cached = Repository::<Scale>::builder(table.store.clone()).snapshots(EveryEvents(1)).build();
    let cold = Repository::<Scale>::builder(table.store.clone()).snapshots(EveryEvents(2)).cache(None).build();
    let upcast = Repository::<Upcast>::builder(table.store.clone()).snapshots(Never).cache(None).build();
    let upcast_cold = Repository::<Upcast>::builder(table.store.clone()).cache(None).build();
    let mut expected = Scale::default();
    for (place, kilograms) in weights.into_iter().enumerate() {
        let weight = Measured::Weight { kilograms };
        expected.apply(&weight);
        let writer = if place % 2 == 0 { &cached } else { &cold };
        writer
            .execute("1", |_| Ok::<_, String>([weight.clone()]))
            .await
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for repository in [&plain, &cached, &cold] {
            repository.snapshots_settled().await;
            prop_assert_eq!(bits(repository.load("1").await.map_err(failed)?.state()), bits(&expected));
        }
        for repository in [&upcast, &upcast_cold] {
            prop_assert_eq!(bits(&repository.load("1").await.map_err(failed)?.state().0), bits(&expected));
        }
    }
    let (taken, unreadable) = (cached.stats().snapshots_taken, cold.stats().snapshots_unreadable);
    prop_assert!(taken > 0 && unreadable == 0);
    Ok(())
}

#[test]
fn g9_a_state_of_floats_is_the_same_by_whatever_way_it_was_loaded() {
    let fixed = Just(vec![21.01, 39.27, 65.01, 68.64, 44.110_000_000_000_01]);
    let number = prop_oneof![
        (1_u32..10_000).prop_map(|cents| f64::from(cents) / 100.0),
        (0.0..100.0_f64),
        (-1e300..1e300_f64),
        Just(-0.0),
        Just(9.525_429_133_415_159),
    ];
    play_random(CASES, &prop_oneof![1 => fixed, 5 => vec(number, 4..12)], every_way_gives_the_same_state);
}

#[tokio::test]
async fn g12_metadata_of_another_client_that_no_append_takes_are_a_damaged_item_that_is_named() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for (metadata, what) in
        [(deep.as_str(), "at most 100 levels"), (r#"{"a":1,"a":2}"#, "\"a\" is repeated"), ("{", "EOF")]
    {
        let (table, order) = (TestTable::create().await, stream("order-1"));
        table.fill(&order, 2).await;
        let second = "event#00000000000000000002";
        table.set(&order, second, "metadata", AttributeValue::S(metadata.to_owned())).await;
        let error = table.store.read(&order).await.unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt(corrupt) if corrupt.at == second && corrupt.what.contains(what)),
            "{error}"
        );
        let error = table.store.append(&order, Any, [streambox_tests::engine::event(3)]).await.unwrap_err();
        assert!(matches!(&error, Error::Corrupt(corrupt) if corrupt.at == second), "{error}");
    }
}

#[tokio::test]
async fn g12_an_event_of_a_clock_that_is_far_off_is_read_by_every_program() {
    let (table, order) = (TestTable::create().await, stream("order-1"));
    for years in [0, 20_000] {
        let clock = move || SystemTime::UNIX_EPOCH + Duration::from_hours(years * 365 * 24);
        let store = EventStore::builder(table.store_client(), &table.name).clock(clock).build();
        store.append(&order, Any, [streambox_tests::engine::event(1)]).await.unwrap();
    }
    let last = table.store.event(&order, 2).await.unwrap().unwrap();
    assert_eq!(last.recorded_at_ms, MAX_RECORDED_AT_MS);
    let read = run("streambox", Some(&table), None, ["read", "order-1"]).await;
    assert_eq!(read.code(), Some(0), "{}", read.stderr);
    assert!(read.stdout.contains("1970-01-01T") && read.stdout.contains("9999-12-31T"), "{}", read.stdout);
}

#[tokio::test]
async fn g12_what_is_as_deep_as_it_may_be_goes_through_every_program_and_one_level_more_through_none() {
    let (first, second) = (TestTable::create().await, TestTable::create().await);
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let metadata = |levels: usize| format!("{{\"a\":{}}}", nested(levels - 1));
    let append = async |data: String, metadata: String| {
        let arguments = ["append", "order-1", "--type", "Deep", "--data", &data, "--metadata", &metadata];
        run("streambox", Some(&first), None, arguments).await
    };
    let most = MAX_JSON_DEPTH;
    assert_eq!(append(nested(most), metadata(most)).await.code(), Some(0));
    for (data, metadata) in [(nested(most + 1), metadata(2)), (nested(1), metadata(most + 1))] {
        let refused = append(data.clone(), metadata.clone()).await;
        assert_eq!(refused.code(), Some(1));
        assert!(refused.stderr.contains("at most 100 levels of arrays and objects, got 101"), "{}", refused.stderr);
        let line = format!("{{\"stream\":\"order-1\",\"type\":\"Deep\",\"data\":{data},\"metadata\":{metadata}}}\n");
        let refused = run("streambox", Some(&second), None, ["import", file(&line).path().to_str().unwrap()]).await;
        assert_eq!(refused.code(), Some(1));
        assert!(refused.stderr.contains("at most 100 levels of arrays and objects, got 101"), "{}", refused.stderr);
    }
    // What is set value by value is checked when it is appended.
    let deep: serde_json::Value = serde_json::from_str(&nested(most)).unwrap();
    let event = streambox_tests::engine::event(1).with_metadata(Metadata::new().with("a", deep));
    let error = first.store.append(&stream("order-2"), Any, [event]).await.unwrap_err();
    assert!(error.to_string().contains("got 101"), "{error}");

    let read = run("streambox", Some(&first), None, ["read", "order-1", "--format", "json"]).await;
    assert_eq!(read.code(), Some(0), "{}", read.stderr);
    let lines = run("streambox", Some(&first), None, ["export"]).await.stdout;
    let imported = run("streambox", Some(&second), None, ["import", file(&lines).path().to_str().unwrap()]).await;
    assert_eq!(imported.code(), Some(0), "{}", imported.stderr);
    let event = &second.store.read(&stream("order-1")).await.unwrap().events[0];
    assert_eq!(
        (event.payload.as_str(), event.metadata.as_json_text()),
        (nested(most).as_str(), metadata(most).as_str())
    );
}
