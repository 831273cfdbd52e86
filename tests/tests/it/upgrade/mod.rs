//! What an upgrade relies on (UPGRADES.md): programs of today read what older ones have written, ignore what newer ones may
//! write beside it, and stop if they must not ignore it; and they write nothing that older ones do not know.

mod golden;
mod later;
mod writers;

use serde_json::{Value, json};
use streambox::RecordedEvent;
use streambox_tests::{
    broker::{Inbox, Message},
    engine::TestTable,
    items::{Item, item, put},
    programs::{Finished, run},
};

const FIXTURES: [&str; 5] = [
    include_str!("../../../fixtures/format-1/plain.json"),
    include_str!("../../../fixtures/format-1/private.json"),
    include_str!("../../../fixtures/format-1/compressed.json"),
    include_str!("../../../fixtures/format-1/snapshot.json"),
    include_str!("../../../fixtures/format-1/relay.json"),
];

/// An event as it was appended.
struct Expected(Value);

impl Expected {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().expect("a text")
    }

    fn stream(&self) -> &str {
        self.text("stream")
    }

    fn version(&self) -> u64 {
        self.0["version"].as_u64().expect("a number")
    }

    fn is_private(&self) -> bool {
        self.0["is_private"] == true
    }

    fn metadata(&self) -> Value {
        self.0.get("metadata").cloned().unwrap_or_else(|| json!({}))
    }

    fn assert_is(&self, event: &RecordedEvent) {
        assert_eq!((event.stream_id.as_str(), event.version), (self.stream(), self.version()));
        assert_eq!(
            (event.event_type.as_str(), event.payload.as_str()),
            (self.text("event_type"), self.text("payload"))
        );
        assert_eq!(event.event_id().to_string(), self.text("event_id"));
        assert_eq!(Some(event.recorded_at_ms), self.0["recorded_at_ms"].as_i64());
        let metadata: Value = serde_json::from_str(event.metadata.as_json_text()).expect("metadata are JSON");
        assert_eq!((event.is_private, metadata), (self.is_private(), self.metadata()));
    }

    fn assert_is_message(&self, message: &Message) {
        assert_eq!((message.event.stream_id.as_str(), message.event.version), (self.stream(), self.version()));
        assert_eq!(String::from_utf8_lossy(&message.body), self.text("payload"), "byte for byte");
        let property = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        assert_eq!(property(message.properties.message_id()).as_deref(), Some(self.text("event_id")));
        assert_eq!(property(message.properties.kind()).as_deref(), Some(self.text("event_type")));
    }
}

/// The items of all fixtures.
fn items() -> Vec<Value> {
    let fixtures = FIXTURES.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    fixtures.iter().flat_map(|fixture| fixture["items"].as_array().expect("a list").clone()).collect()
}

/// The events that they hold, stream by stream.
fn expected() -> Vec<Expected> {
    let fixtures = FIXTURES.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    let events = fixtures.iter().flat_map(|fixture| fixture["events"].as_array().expect("a list").clone());
    events.map(Expected).collect()
}

/// The streams of the fixtures.
fn streams() -> Vec<String> {
    let mut streams: Vec<_> = expected().iter().map(|event| event.stream().to_owned()).collect();
    streams.dedup();
    streams
}

fn is_pending(item: &Value, stream: &str) -> bool {
    let entity = item["entity"]["S"].as_str().unwrap_or_default();
    item["stream_id"]["S"] == stream && entity.starts_with("pending#")
}

/// The events that are still to be published, stream by stream.
fn unpublished() -> Vec<Expected> {
    let items = items();
    let is_unpublished =
        |event: &Expected| !event.is_private() && items.iter().any(|item| is_pending(item, event.stream()));
    expected().into_iter().filter(is_unpublished).collect()
}

/// A table that holds these.
async fn table_of(items: impl IntoIterator<Item = Item>) -> TestTable {
    let table = TestTable::create().await;
    for item in items {
        put(&table, item).await;
    }
    table
}

async fn golden_table() -> TestTable {
    table_of(items().iter().map(item)).await
}

async fn drain(table: &TestTable, url: &str, inbox: &Inbox) -> Finished {
    let arguments = ["drain", "--exchange", inbox.exchange(), "--format", "json"];
    run("streambox-relay", Some(table), Some(url), arguments).await
}

/// Takes this many messages and compares them, stream by stream, with what was appended.
async fn assert_receives(inbox: &mut Inbox, expected: Vec<Expected>) {
    let mut received = Vec::new();
    for _ in 0..expected.len() {
        received.push(inbox.next().await);
    }
    // Streams come in any order; within one the order is that of the versions.
    received.sort_by(|a, b| a.event.stream_id.cmp(&b.event.stream_id));
    for (expected, message) in expected.iter().zip(&received) {
        expected.assert_is_message(message);
    }
}
