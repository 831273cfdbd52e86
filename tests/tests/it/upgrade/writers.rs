//! What today's programs write, held against the list of what format 1 may have. A new attribute fails here, until somebody has
//! decided what older programs make of it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use streambox::{
    ExpectedVersion::{At, NoStream},
    Metadata, NewEvent, Uuid,
    aggregate::{Aggregate, CommandContext, DomainEvent, Never, Repository, TaggedJson},
    outbox::{HaltedStream, SkipRequest, SkipTarget, WorkerId, WorkerRow},
    snapshot::NewSnapshot,
};
use streambox_tests::{
    engine::{TestTable, event, stream},
    items::kind,
};

const FORMAT: &str = include_str!("../../../fixtures/format-1/attributes.json");

/// What was written, by what it stands in: names and types, and how often each.
#[derive(Default)]
struct Written(BTreeMap<&'static str, Vec<BTreeMap<String, String>>>);

impl Written {
    fn add(&mut self, item: &Value) {
        let entity = item["entity"]["S"].as_str().expect("a sort key");
        let place = match entity.split('#').next() {
            Some("event") => "event",
            Some("pending") => "pending entry",
            Some("command") => "command",
            Some("snapshot") => "snapshot",
            Some("worker") => "worker",
            Some("skip") => "skip",
            _ => panic!("format 1 has no entity {entity}"),
        };
        self.add_map(place, item);
        for (list, place) in [("events", "copied event"), ("halted", "halted stream")] {
            for element in item[list]["L"].as_array().into_iter().flatten() {
                self.add_map(place, &element["M"]);
            }
        }
    }

    fn add_map(&mut self, place: &'static str, map: &Value) {
        let attributes = map.as_object().expect("a map");
        let kinds = attributes.iter().map(|(name, value)| (name.clone(), kind(value).to_owned())).collect();
        self.0.entry(place).or_default().push(kinds);
    }
}

/// A reading, of which a service keeps some to itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Reading {
    Public,
    Private,
}

impl DomainEvent for Reading {
    type Codec = TaggedJson;
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Sensor;

impl Aggregate for Sensor {
    type Event = Reading;
    const CATEGORY: &'static str = "sensor";

    fn apply(&mut self, _: &Reading) {}

    fn is_private(event: &Reading) -> bool {
        matches!(event, Reading::Private)
    }
}

/// Commands that are recognised for ever: before, with, and behind the stream's first pending entry.
async fn carry_out_for_ever(table: &TestTable) {
    let sensors = Repository::<Sensor>::builder(table.store.clone()).snapshots(Never).build();
    for kind in [|| Reading::Private, || Reading::Public, || Reading::Private] {
        let command = CommandContext::new().with_id_for_ever(Uuid::new_v4());
        let decide = |_: &_| Ok::<_, std::convert::Infallible>([kind()]);
        sensors.execute_with("1", &command, decide).await.expect("the engine answers");
    }
}

/// Everything that the library writes, in every way.
async fn written() -> Written {
    let table = TestTable::create().await;
    let (order, other) = (stream("order-1"), stream("order-2"));
    let long = NewEvent::json("Long", &"streambox ".repeat(400)).expect("it is valid");
    let end = table.store.append(&order, NoStream, [event(1)]).await.expect("the engine answers").position;
    let described = event(2).with_metadata(Metadata::new().with(Metadata::CORRELATION_ID, "c-1"));
    let end = table
        .store
        .append(&order, At(end), [described, event(3).private(), event(4), event(5).private()])
        .await
        .expect("the engine answers")
        .position;
    let end = table.store.append(&order, At(end), [event(4).private()]).await.expect("the engine answers").position;
    table.store.append(&order, At(end), [long.clone()]).await.expect("the engine answers");
    let short = NewEvent::json("Short", &"x".repeat(700)).expect("it is valid");
    table.as_text().append(&other, NoStream, [long, short]).await.expect("the engine answers");
    table
        .store
        .write_snapshot(&order, &NewSnapshot::new(1, Uuid::new_v4(), 1, "{}"))
        .await
        .expect("the engine answers");
    carry_out_for_ever(&table).await;
    let outbox = table.store.outbox();
    let mut row = WorkerRow::new(WorkerId::new("relay-1").expect("it is valid"), 1);
    outbox.put_worker(&row).await.expect("the engine answers");
    row.halted = vec![HaltedStream::new(order.clone(), 1, "no queue", 1, 1)];
    row.last_error = Some("no connection".to_owned());
    outbox.put_worker(&row).await.expect("the engine answers");
    outbox.skip(&SkipRequest::new(&order, 1_u64, "ada", "why not")).await.expect("the engine answers");
    let damaged = "pending#abc";
    table.set(&order, damaged, "pending_since", AttributeValue::N("1".to_owned())).await;
    let by_key = SkipRequest::new(&order, SkipTarget::Key(damaged.to_owned()), "ada", "it is damaged");
    outbox.skip(&by_key).await.expect("the engine answers");
    let erased = stream("order-3");
    table.fill(&erased, 2).await;
    table.delete(&erased, "event#00000000000000000001").await;
    table.delete(&erased, "pending#00000000000000000001").await;
    let request = SkipRequest::new(&erased, 2_u64, "ada", "erased").giving_up_previous();
    outbox.skip(&request).await.expect("the engine answers");

    let mut written = Written::default();
    for exchange in table.wire.take() {
        let request = &exchange.request;
        let puts = request["TransactItems"].as_array().into_iter().flatten().map(|part| &part["Put"]["Item"]);
        puts.chain([&request["Item"]]).filter(|item| item.is_object()).for_each(|item| written.add(item));
    }
    written
}

#[tokio::test]
async fn u5_writers_write_what_format_1_has_and_nothing_else() {
    let (format, written): (Value, _) = (serde_json::from_str(FORMAT).expect("JSON"), written().await);
    let places: BTreeSet<_> =
        format.as_object().unwrap().keys().filter(|key| *key != "about").map(String::as_str).collect();
    assert_eq!(written.0.keys().copied().collect::<BTreeSet<_>>(), places);
    for (place, items) in written.0 {
        let of = |which: &str| format[place][which].as_object().expect("a list of attributes").clone();
        let (always, sometimes) = (of("always"), of("sometimes"));
        let mut seen = BTreeSet::new();
        for item in items {
            for (name, kind) in &item {
                let known = always.get(name).or_else(|| sometimes.get(name));
                let kinds =
                    known.unwrap_or_else(|| panic!("{place}: format 1 has no attribute {name}: see UPGRADES.md"));
                assert!(kinds.as_str().unwrap().split(" or ").any(|one| one == kind), "{place}: {name} is {kind}");
                seen.insert(name.clone());
            }
            for name in always.keys() {
                assert!(item.contains_key(name), "{place}: {name} is missing, which older programs need");
            }
        }
        let unseen: Vec<_> = sometimes.keys().filter(|name| !seen.contains(*name)).collect();
        assert!(unseen.is_empty(), "{place}: this test does not make anybody write {unseen:?}");
    }
}

#[tokio::test]
async fn u5_a_plain_append_needs_no_attribute_that_is_only_there_sometimes() {
    let table = TestTable::create().await;
    table.store.append(&stream("order-1"), NoStream, [event(1)]).await.unwrap();
    let sent = table.wire.take();
    let mut plain = Written::default();
    sent[0].request["TransactItems"].as_array().unwrap().iter().for_each(|part| plain.add(&part["Put"]["Item"]));
    let names = |place: &str| plain.0[place][0].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(names("event"), ["append_id", "entity", "event_type", "payload", "recorded_at", "stream_id"]);
    assert_eq!(names("pending entry"), ["append_id", "entity", "events", "pending_since", "stream_id"]);
    assert_eq!(names("copied event"), ["event_type", "payload"]);
}
