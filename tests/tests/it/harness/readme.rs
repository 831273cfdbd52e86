//! What the pages about the stored format and the messages show is what store and relay do.

use std::{
    collections::BTreeSet,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use streambox::{
    EventStore, ExpectedVersion, Metadata, NewEvent, Uuid,
    aggregate::{Aggregate, CommandContext, DomainEvent, Repository, TaggedJson, UnknownEvents},
    message::{REPLAY_ENDED_HEADER, REPLAY_HEADER},
    outbox::OutboxEvent,
    snapshot::NewSnapshot,
};
use streambox_relay::broker::{MessageForm, MessageFormat};
use streambox_tests::engine::{TestTable, stream};

const STORED_FORMAT: &str = include_str!("../../../../docs/stored-format.md");
const MESSAGES: &str = include_str!("../../../../docs/messages.md");

/// The examples of items.
fn examples() -> Vec<&'static str> {
    STORED_FORMAT
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .filter(|(fence, _)| fence.trim() == "json")
        .map(|(_, text)| text)
        .collect()
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum OrderEvent {
    OrderPlaced { total_cents: u64 },
}

impl DomainEvent for OrderEvent {
    type Codec = TaggedJson;
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Order;

impl Aggregate for Order {
    type Event = OrderEvent;
    const CATEGORY: &'static str = "order";
    const UNKNOWN_EVENTS: UnknownEvents = UnknownEvents::Ignore;

    fn apply(&mut self, _: &OrderEvent) {}
}

#[tokio::test]
async fn the_example_of_the_stored_format_is_what_an_append_writes() {
    let table = TestTable::create().await;
    let at = |seconds: u64| move || UNIX_EPOCH + Duration::from_secs(1_780_000_000 + seconds);
    let client = table.store_client();
    let order = stream("order-4711");

    let before = EventStore::builder(client.clone(), &table.name).clock(at(0)).build();
    let started = NewEvent::from_json_text("OrderStarted", r#"{"customer":"customer-7"}"#).unwrap();
    let first = before.append(&order, ExpectedVersion::NoStream, [started]).await.unwrap();

    let store = EventStore::builder(client, &table.name).clock(at(60)).build();
    let orders = Repository::<Order>::new(store.clone());
    let loaded = orders.load("4711").await.unwrap();
    assert_eq!(loaded.position(), &first.position);
    table.wire.take();
    let metadata = Metadata::new().with(Metadata::CORRELATION_ID, "checkout-9");
    let append_id = Uuid::parse_str("0197a3c2-5b1e-7d44-9f0a-6a1c2e8b7d30").unwrap();
    let command = CommandContext::new().with_id_for_ever(append_id).with_metadata(metadata);
    orders.save_with(&loaded, &command, [OrderEvent::OrderPlaced { total_cents: 4990 }]).await.unwrap();

    store.write_snapshot(&order, &NewSnapshot::new(2, append_id, 1, r#"{"total_cents":4990}"#)).await.unwrap();

    let sent = table.wire.take();
    let puts = sent.iter().flat_map(|exchange| exchange.request["TransactItems"].as_array().unwrap());
    let written: Vec<_> = puts.map(|put| put["Put"]["Item"].clone()).collect();
    let shown: Vec<Value> = examples().iter().map(|text| serde_json::from_str(text).expect(text)).collect();
    assert_eq!(shown, written, "{}", serde_json::to_string_pretty(&written).unwrap());

    // How an event's id is derived, in the page's words.
    let name = "order-4711#2";
    let event_id = Uuid::new_v5(&append_id, name.as_bytes());
    let event = store.event(&order, 2).await.unwrap().expect("it is stored");
    assert_eq!(event.event_id(), event_id);
    for shown in [append_id.to_string(), name.to_owned(), event_id.to_string()] {
        assert!(STORED_FORMAT.contains(&format!("`{shown}`")), "{shown}");
    }
}

/// What stands in backticks in each row of a table of messages: in its first column, and in all others.
fn table(first_row: &str) -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let quoted = |text: &'static str| text.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    let rows =
        MESSAGES.lines().skip_while(|line| !line.starts_with(first_row)).take_while(|line| line.starts_with('|'));
    rows.map(|row| row[1..].split_once('|').expect("two columns"))
        .map(|(name, rest)| (quoted(name), quoted(rest)))
        .collect()
}

#[test]
fn the_tables_of_the_message_name_what_a_message_has() {
    let names = Metadata::HEADERS.into_iter();
    let mut event = OutboxEvent::new(2, Uuid::new_v4(), "OrderPlaced", "{}");
    event.previous_version = Some(1);
    event.metadata = names.fold(Metadata::new(), |metadata, name| metadata.with(name, "text"));
    let order = stream("order-4711");
    let plain = MessageForm::default().message(&order, &event).unwrap();
    let headers = |message: &streambox_relay::broker::Message| -> BTreeSet<String> {
        let headers = message.properties.headers().as_ref().expect("headers").inner();
        headers.keys().map(ToString::to_string).collect()
    };

    let rows = table("| routing key");
    let row = |name: &str| rows.iter().find(|(first, _)| first.contains(&name)).expect(name).1.clone();
    assert_eq!(rows[0].1, ["{category}.{event type}", plain.routing_key.as_str()]);
    let properties = &plain.properties;
    let values = [properties.content_type(), properties.app_id()].map(|value| value.as_ref().expect("set").as_str());
    assert_eq!(row("message_id"), values, "type, content type and app id");
    assert!(properties.message_id().is_some() && properties.kind().is_some());
    assert_eq!((row("timestamp"), properties.timestamp()), (vec![], &Some(0)));
    let shown: BTreeSet<_> = rows.last().expect("headers").1.iter().map(ToString::to_string).collect();
    assert_eq!(shown, headers(&plain));

    let form =
        MessageForm { format: MessageFormat::CloudEvents, replay: Some("r-1".to_owned()), ..MessageForm::default() };
    let cloud = form.message(&order, &event).unwrap();
    let body: Value = serde_json::from_slice(cloud.body(&event)).unwrap();
    let shown: BTreeSet<_> = table("| `id`, `type`").into_iter().flat_map(|(names, _)| names).collect();
    let attributes: BTreeSet<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(shown, &attributes - &BTreeSet::from(["specversion"]));
    let content_type = cloud.properties.content_type().as_ref().expect("set").as_str();
    assert!(MESSAGES.contains(&format!("`{content_type}`")), "{content_type}");
    assert_eq!(&headers(&cloud) - &headers(&plain), BTreeSet::from([REPLAY_HEADER.to_owned()]));
    assert!(MESSAGES.contains(&format!("`{REPLAY_HEADER}` and `{REPLAY_ENDED_HEADER}` (`true`)")));
}
