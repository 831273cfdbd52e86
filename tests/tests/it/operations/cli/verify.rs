//! `streambox verify`: what was damaged by hand is found, and nothing else.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use streambox::{
    Error, ExpectedVersion, RecordedEvent, StreamId, Uuid,
    aggregate::{Aggregate, CommandContext, DomainEvent, Repository, TaggedJson, UnknownEvents},
    snapshot::NewSnapshot,
};
use streambox_tests::engine::{TestTable, event, stream};

use super::{DONE, FAILED, json_lines, streambox};

const COMMAND: Uuid = Uuid::from_u128(7);

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// The bytes of a UUID.
fn bytes(id: u128) -> AttributeValue {
    AttributeValue::B(Blob::new(id.to_be_bytes()))
}

fn event_key(version: u64) -> String {
    format!("event#{version:020}")
}

fn pending_key(last: u64) -> String {
    format!("pending#{last:020}")
}

/// Streams of the appends 1–2, 3, 4–6, with private events and without.
async fn filled(streams: u64) -> TestTable {
    let table = TestTable::create().await;
    for id in 1..=streams {
        let order = stream(&format!("order-{id}"));
        let mut expected = ExpectedVersion::NoStream;
        for versions in [1..=2_u64, 3..=3, 4..=6] {
            let events =
                versions.map(|version| if version % 5 == 0 { event(version).private() } else { event(version) });
            expected =
                ExpectedVersion::At(table.store.append(&order, expected, events).await.expect("it works").position);
        }
    }
    table
}

/// Takes a sound snapshot.
async fn snapshot(table: &TestTable, order: &StreamId, version: u64) {
    let event = table.store.event(order, version).await.expect("a readable event").expect("the event");
    let snapshot = NewSnapshot::new(version, event.append.id, 1, "{}");
    table.store.write_snapshot(order, &snapshot).await.expect("it is stored");
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum OrderEvent {
    Noted,
}

impl DomainEvent for OrderEvent {
    type Codec = TaggedJson;
}

/// It has no state, whatever there is in its stream.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Order;

impl Aggregate for Order {
    type Event = OrderEvent;
    const CATEGORY: &'static str = "order";
    const UNKNOWN_EVENTS: UnknownEvents = UnknownEvents::Ignore;

    fn apply(&mut self, _: &OrderEvent) {}
}

/// Appends an event by a command that is recognised for ever.
async fn command(table: &TestTable, order: &StreamId) {
    let orders = Repository::<Order>::new(table.store.clone());
    let command = CommandContext::new().with_id_for_ever(COMMAND);
    let loaded = orders.load(order.as_str().trim_start_matches("order-")).await.expect("it loads");
    orders.save_with(&loaded, &command, [OrderEvent::Noted]).await.expect("it is stored");
}

fn command_key() -> String {
    format!("command#{COMMAND}")
}

/// Stream, place and kind of each finding, and the exit code.
async fn findings(table: &TestTable, arguments: &[&str]) -> (Vec<(String, String, String)>, Option<i32>, Value) {
    let finished = streambox(table, &[&["verify", "--format", "json"], arguments].concat()).await;
    let mut lines = json_lines(&finished);
    let summary = lines.pop().unwrap_or_else(|| panic!("no summary: {finished:?}"));
    let text = |line: &Value, name: &str| line[name].as_str().expect("a text").to_owned();
    let findings = lines.iter().map(|line| (text(line, "stream"), text(line, "at"), text(line, "kind"))).collect();
    (findings, finished.code(), summary)
}

#[tokio::test]
async fn a_sound_table_has_no_findings_and_its_numbers_are_told() {
    let table = filled(9).await;
    table.fill(&stream("permit-1"), 2).await;
    snapshot(&table, &stream("order-2"), 6).await;
    command(&table, &stream("order-2")).await;
    let (found, code, summary) = findings(&table, &[]).await;
    assert_eq!((found, code), (vec![], DONE));
    let counts =
        |summary: &Value| ["streams", "events", "pending", "findings"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts(&summary), [10, 57, 30, 0]);
    assert!(summary["read_units"].as_f64().is_some_and(|units| units > 0.0));
    assert_eq!(counts(&findings(&table, &["--category", "permit"]).await.2), [1, 2, 2, 0]);
    assert_eq!(counts(&findings(&table, &["--stream", "order-3"]).await.2), [1, 6, 3, 0]);
    let none = streambox(&table, &["verify", "--stream", "order-77"]).await;
    assert_eq!((none.code(), none.stdout.as_str()), (FAILED, ""));
    assert!(none.stderr.contains("has no stream order-77: nothing was verified"), "{}", none.stderr);
    let people = streambox(&table, &["verify"]).await;
    assert!(
        people.stdout.starts_with("57 events and 30 pending entries of 10 streams verified, 0 findings"),
        "{people:?}"
    );
}

/// What is done to a stream by hand, and what is found of it.
type Damage =
    (&'static str, fn(&TestTable, StreamId) -> futures_util::future::BoxFuture<'_, ()>, Vec<(String, &'static str)>);

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn damages() -> Vec<Damage> {
    let version = |version: u64| format!("version {version}");
    vec![
        (
            "an event between others is deleted: its append has no others",
            |table, order| Box::pin(async move { table.delete(&order, &event_key(3)).await }),
            vec![(version(3), "gap"), (pending_key(3), "entry_without_events")],
        ),
        (
            "the first events are deleted",
            |table, order| {
                Box::pin(async move {
                    table.delete(&order, &event_key(1)).await;
                    table.delete(&order, &event_key(2)).await;
                    table.delete(&order, &pending_key(2)).await;
                })
            },
            vec![("versions 1 to 2".to_owned(), "gap")],
        ),
        (
            "the end of an append is deleted",
            |table, order| {
                Box::pin(async move {
                    table.delete(&order, &event_key(6)).await;
                    table.delete(&order, &pending_key(6)).await;
                })
            },
            vec![(version(6), "half_append")],
        ),
        (
            "the middle of an append is deleted",
            |table, order| Box::pin(async move { table.delete(&order, &event_key(5)).await }),
            vec![(version(5), "half_append"), (pending_key(6), "entry_without_events")],
        ),
        (
            "all events of a pending entry are deleted",
            |table, order| {
                Box::pin(async move {
                    for version in 4..=6 {
                        table.delete(&order, &event_key(version)).await;
                    }
                })
            },
            vec![(pending_key(6), "entry_without_events")],
        ),
        (
            "a payload is altered, which its pending entry has as it was",
            |table, order| Box::pin(async move { table.set(&order, &event_key(2), "payload", text("{}")).await }),
            vec![(pending_key(2), "entry_disagrees")],
        ),
        (
            "a payload is no JSON",
            |table, order| {
                Box::pin(async move {
                    table.delete(&order, &pending_key(2)).await;
                    table.set(&order, &event_key(2), "payload", text("{")).await;
                })
            },
            vec![(event_key(2), "broken_rule")],
        ),
        (
            "an attribute of an event is of another type",
            |table, order| {
                Box::pin(async move { table.set(&order, &event_key(3), "recorded_at", text("today")).await })
            },
            vec![(event_key(3), "unreadable_event")],
        ),
        (
            "an event is of another append than those around it",
            |table, order| Box::pin(async move { table.set(&order, &event_key(5), "append_id", bytes(7)).await }),
            vec![(event_key(5), "foreign_event"), (event_key(6), "foreign_event"), (pending_key(6), "entry_disagrees")],
        ),
        (
            "an event was recorded at another time than the others of its append",
            |table, order| Box::pin(async move { table.set(&order, &event_key(5), "recorded_at", number(7)).await }),
            // Against the one before it, and the next one against it.
            vec![(event_key(5), "foreign_event"), (event_key(6), "foreign_event"), (pending_key(6), "entry_disagrees")],
        ),
        (
            "an event is of an append that the one before it has not begun",
            |table, order| {
                Box::pin(async move {
                    table.set(&order, &event_key(3), "append_first", number(3)).await;
                    table.set(&order, &event_key(3), "append_last", number(4)).await;
                })
            },
            vec![(event_key(4), "foreign_event")],
        ),
        (
            "a private event is made public",
            |table, order| {
                Box::pin(async move {
                    table.set(&order, &event_key(5), "is_private", AttributeValue::Bool(false)).await;
                })
            },
            vec![(event_key(5), "broken_rule"), (pending_key(6), "entry_disagrees")],
        ),
        (
            "a pending entry ends before it begins",
            |table, order| {
                Box::pin(async move { table.set(&order, &pending_key(6), "first_version", number(7)).await })
            },
            vec![(pending_key(6), "unreadable_entry")],
        ),
        (
            "a pending entry is of more than there can be",
            |table, order| {
                Box::pin(async move {
                    table.set(&order, &pending_key(900), "first_version", number(2)).await;
                    table.set(&order, &pending_key(900), "pending_since", number(1)).await;
                })
            },
            vec![(pending_key(900), "unreadable_entry")],
        ),
        (
            "a pending entry leaves out the last public event of its append",
            |table, order| {
                Box::pin(async move {
                    table.delete(&order, &pending_key(6)).await;
                    let [before, first] = [3, 4].map(|version| table.store.event(&order, version));
                    let recorded_at = |event: Result<Option<RecordedEvent>, Error>| {
                        event.ok().flatten().expect("a readable event").recorded_at_ms.unsigned_abs()
                    };
                    let (before, first) = (recorded_at(before.await), recorded_at(first.await));
                    table.set(&order, &pending_key(4), "pending_since", number(first)).await;
                    table.set(&order, &pending_key(4), "previous_version", number(3)).await;
                    table.set(&order, &pending_key(4), "previous_at", number(before)).await;
                })
            },
            vec![(pending_key(4), "entry_disagrees")],
        ),
        (
            "keys that are none",
            |table, order| {
                Box::pin(async move {
                    table.set(&order, "event#7", "payload", text("{}")).await;
                    table.set(&order, "order", "payload", text("{}")).await;
                })
            },
            vec![("event#7".to_owned(), "key"), ("order".to_owned(), "key")],
        ),
        (
            "a pending entry names an earlier version than the last public one before it",
            |table, order| {
                Box::pin(async move { table.set(&order, &pending_key(6), "previous_version", number(2)).await })
            },
            vec![(pending_key(6), "previous_entry")],
        ),
        (
            "a pending entry names the version before by another time",
            |table, order| Box::pin(async move { table.set(&order, &pending_key(3), "previous_at", number(7)).await }),
            vec![(pending_key(3), "previous_entry")],
        ),
        (
            "a pending entry names itself as the version before",
            |table, order| {
                Box::pin(async move { table.set(&order, &pending_key(6), "previous_version", number(4)).await })
            },
            vec![(pending_key(6), "unreadable_entry")],
        ),
        (
            "a private event names an earlier version than the last public one before it",
            |table, order| {
                Box::pin(async move { table.set(&order, &event_key(5), "previous_version", number(3)).await })
            },
            vec![(event_key(5), "previous_entry")],
        ),
        (
            "a public event, published long ago, is made private",
            |table, order| {
                Box::pin(async move {
                    table.delete(&order, &pending_key(3)).await;
                    table.set(&order, &event_key(3), "is_private", AttributeValue::Bool(true)).await;
                })
            },
            // The entry behind it names it, and it names none.
            vec![(event_key(3), "previous_entry"), (pending_key(6), "previous_entry")],
        ),
        (
            "a pending entry with copies has more than a kilobyte",
            |table, order| {
                Box::pin(async move { table.set(&order, &pending_key(2), "note", text(&"x".repeat(2_000))).await })
            },
            vec![(pending_key(2), "broken_rule")],
        ),
        (
            "an append id is nil",
            |table, order| {
                Box::pin(async move {
                    table.set(&order, &event_key(3), "append_id", bytes(0)).await;
                    table.delete(&order, &pending_key(3)).await;
                })
            },
            vec![(event_key(3), "foreign_event")],
        ),
        (
            "the event of a command's marker is deleted",
            |table, order| {
                Box::pin(async move {
                    command(table, &order).await;
                    table.delete(&order, &event_key(7)).await;
                    table.delete(&order, &pending_key(7)).await;
                })
            },
            vec![(command_key(), "false_marker")],
        ),
        (
            "a command's marker names the append of another",
            |table, order| {
                Box::pin(async move {
                    command(table, &order).await;
                    table.set(&order, &command_key(), "append_first", number(3)).await;
                    table.set(&order, &command_key(), "append_last", number(3)).await;
                })
            },
            vec![(command_key(), "false_marker")],
        ),
        (
            "a command's marker has another time",
            |table, order| {
                Box::pin(async move {
                    command(table, &order).await;
                    table.set(&order, &command_key(), "recorded_at", number(7)).await;
                })
            },
            vec![(command_key(), "false_marker")],
        ),
        (
            "a command's marker says that its last event is private",
            |table, order| {
                Box::pin(async move {
                    command(table, &order).await;
                    table.set(&order, &command_key(), "is_private", AttributeValue::Bool(true)).await;
                })
            },
            vec![(command_key(), "false_marker")],
        ),
        (
            "command's markers are rubbish",
            |table, order| {
                Box::pin(async move {
                    command(table, &order).await;
                    table.set(&order, &command_key(), "append_last", text("8")).await;
                    table.set(&order, "command#7", "append_first", number(1)).await;
                })
            },
            vec![(command_key(), "unreadable_marker"), ("command#7".to_owned(), "unreadable_marker")],
        ),
        (
            "a snapshot is rubbish",
            |table, order| Box::pin(async move { table.set(&order, "snapshot", "body", number(7)).await }),
            vec![("snapshot".to_owned(), "unreadable_snapshot")],
        ),
        (
            "a snapshot is ahead of its stream",
            |table, order| {
                Box::pin(async move {
                    let ahead = NewSnapshot::new(7, Uuid::from_u128(1), 1, "{}");
                    table.store.write_snapshot(&order, &ahead).await.expect("it is stored");
                })
            },
            vec![("snapshot".to_owned(), "false_snapshot")],
        ),
        (
            "a snapshot is of a history that there was before",
            |table, order| {
                Box::pin(async move {
                    let before = NewSnapshot::new(6, Uuid::from_u128(1), 1, "{}");
                    table.store.write_snapshot(&order, &before).await.expect("it is stored");
                })
            },
            vec![("snapshot".to_owned(), "false_snapshot")],
        ),
        (
            "a snapshot was changed after it was taken",
            |table, order| {
                Box::pin(async move {
                    snapshot(table, &order, 3).await;
                    table.set(&order, "snapshot", "body", text("[]")).await;
                })
            },
            vec![("snapshot".to_owned(), "unreadable_snapshot")],
        ),
    ]
}

/// Attributes that no append writes, by what the finding says.
fn broken_rules() -> Vec<(&'static str, AttributeValue, &'static str)> {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    vec![
        ("event_type", text(""), "it is empty"),
        ("event_type", text(&"x".repeat(300)), "event type is too long"),
        ("event_type", text(&"x".repeat(253)), "routing key"),
        ("event_type", text("\u{1b}[31m"), "control character"),
        ("payload", text("{"), "not JSON"),
        ("payload", text(&nested(200)), "payload"),
        ("metadata", text(&format!(r#"{{"correlation_id":"{}"}}"#, "x".repeat(17_000))), "message headers"),
    ]
}

#[tokio::test]
async fn g12_every_rule_that_an_append_checks_is_checked_of_what_is_there() {
    let table = TestTable::create().await;
    let rules = broken_rules();
    for (number, (attribute, value, _)) in rules.iter().enumerate() {
        let order = stream(&format!("order-{number}"));
        table.fill(&order, 3).await;
        table.delete(&order, &pending_key(2)).await;
        table.set(&order, &event_key(2), attribute, value.clone()).await;
    }
    let verified = streambox(&table, &["verify"]).await;
    assert_eq!(verified.code(), FAILED);
    for (number, (attribute, _, says)) in rules.iter().enumerate() {
        let prefix = format!("order-{number}, {}: no append writes this: ", event_key(2));
        let found: Vec<_> =
            verified.stdout.lines().filter(|line| line.starts_with(&format!("order-{number}, "))).collect();
        assert!(matches!(found[..], [one] if one.starts_with(&prefix) && one.contains(says)), "{attribute}: {found:?}");
        assert!(!found[0].contains('\u{1b}'));
        let exported = streambox(&table, &["export", "--stream", &format!("order-{number}")]).await;
        assert_eq!((exported.code(), exported.stdout.lines().count()), (FAILED, 1), "{attribute}: {exported:?}");
    }
    let findings = format!("{} findings", rules.len());
    assert!(verified.stdout.contains(&findings), "nothing else: {}", verified.stdout);
}

#[test]
fn every_kind_of_finding_is_in_the_documents() {
    let rules = include_str!("../../../../../docs/stored-format.md");
    let kinds = damages().into_iter().flat_map(|(_, _, found)| found).map(|(_, kind)| kind);
    for kind in kinds.chain(["stream_id", "stray"]) {
        assert!(rules.contains(&format!("`{kind}`")), "{kind}");
    }
}

#[tokio::test]
async fn what_was_damaged_by_hand_is_found_and_nothing_else() {
    let damages = damages();
    let table = filled(damages.len() as u64 + 3).await;
    let mut expected = Vec::new();
    for (number, (_, damage, found)) in damages.iter().enumerate() {
        let order = stream(&format!("order-{}", number + 1));
        damage(&table, order.clone()).await;
        expected.extend(found.iter().map(|(at, kind)| (order.to_string(), at.clone(), (*kind).to_owned())));
    }
    let items = table.items().await;

    let (mut found, code, summary) = findings(&table, &["--segments", "3"]).await;
    assert_eq!(code, FAILED);
    assert_eq!(summary["findings"], found.len());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(table.items().await, items, "nothing was written");

    for (number, (what, _, expected)) in damages.iter().enumerate() {
        let id = format!("order-{}", number + 1);
        let (mut found, code, _) = findings(&table, &["--stream", &id]).await;
        found.sort();
        let mut expected: Vec<_> =
            expected.iter().map(|(at, kind)| (id.clone(), at.clone(), (*kind).to_owned())).collect();
        expected.sort();
        assert_eq!((found, code), (expected, FAILED), "{what}");
    }
    let people = streambox(&table, &["verify", "--stream", "order-4"]).await;
    assert!(people.stdout.contains("order-4, version 5: missing: the other events of append"), "{}", people.stdout);
    assert!(people.stderr.contains("2 findings: nothing was changed"), "{}", people.stderr);
}

#[tokio::test]
async fn a_stream_id_that_is_none_is_found() {
    let table = filled(1).await;
    let put = table.client().put_item().table_name(&table.name);
    put.item("stream_id", text("order")).item("entity", text("snapshot")).send().await.unwrap();
    let (found, code, _) = findings(&table, &[]).await;
    let finding = |at: &str, kind: &str| ("order".to_owned(), at.to_owned(), kind.to_owned());
    assert_eq!(
        (found, code),
        (vec![finding("its key", "stream_id"), finding("snapshot", "unreadable_snapshot")], FAILED)
    );
}

#[tokio::test]
async fn what_becomes_visible_a_moment_later_is_no_finding() {
    use futures_util::TryStreamExt as _;
    let table = filled(4).await;
    for hidden in [event_key(1), event_key(5), event_key(6), event_key(3)] {
        // The scan never shows it, and the first two Queries do not, either.
        let (entity, mut queries) = (hidden.clone(), 0);
        table.wire.set_fault(move |exchange| {
            let Some(items) = exchange.answer.get_mut("Items").and_then(Value::as_array_mut) else { return };
            if exchange.operation == "Scan" || queries < 2 {
                let before = items.len();
                items.retain(|item| item["entity"]["S"] != entity.as_str());
                queries += u32::from(exchange.operation == "Query" && items.len() < before);
            }
        });
        let mut verification = table.store.verify(&streambox::ScanOptions::new()).unwrap();
        let found: Vec<_> = (&mut verification).try_collect().await.unwrap();
        assert_eq!(found, [], "{hidden}");
        assert_eq!(verification.counts().events, 24, "{hidden}");
    }
    assert_eq!(json!(table.items().await), json!(4 * 9));
}
