//! The library's requests, written by hand with the SDK.
//!
//! As little as possible is done for them: ids are constants, sizes and times are known, nothing is checked, and what is read
//! stays as the SDK has deserialised it.

use std::{
    collections::{BTreeMap, HashMap},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    operation::query::QueryOutput,
    primitives::Blob,
    types::{AttributeValue, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use serde_json::Value;
use streambox::{Client, snapshot::COLD_LOAD_ITEMS};
use streambox_tests::wire::Exchange;

type Item = HashMap<String, AttributeValue>;

const ID: [u8; 16] = *b"an append's id..";
const EVENT_TYPE: &str = "Counted";
/// With the payloads of this benchmark, a pending entry of up to this many events has room for a copy of them.
const MOST_COPIED_EVENTS: usize = 2;

#[derive(Clone)]
pub(crate) struct Raw {
    client: Client,
    table: String,
    clock: fn() -> SystemTime,
}

/// Appends to one stream.
pub(crate) struct RawAppender {
    raw: Raw,
    stream: String,
    version: u64,
    /// Last version and time of the append before.
    previous: Option<(u64, u128)>,
}

impl Raw {
    pub(crate) fn new(client: Client, table: &str, clock: fn() -> SystemTime) -> Self {
        Self { client, table: table.to_owned(), clock }
    }

    pub(crate) fn appender(&self, stream: &str) -> RawAppender {
        RawAppender { raw: self.clone(), stream: stream.to_owned(), version: 0, previous: None }
    }

    /// A whole stream, page by page.
    pub(crate) async fn load(&self, stream: &str) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            let page = self.events(stream, items.len() as u64 + 1).await;
            items.extend(page.items.unwrap_or_default());
            if page.last_evaluated_key.is_none_or(|key| key.is_empty()) {
                return items;
            }
        }
    }

    /// The event at a version, which shows that the table still has it, and those behind it, one page.
    pub(crate) async fn load_from(&self, stream: &str, version: u64) -> Vec<Item> {
        self.events(stream, version).await.items.unwrap_or_default()
    }

    /// The snapshot, some pending entries and the newest events.
    pub(crate) async fn load_top(&self, stream: &str) -> Vec<Item> {
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(COLD_LOAD_ITEMS.into())
            .key_condition_expression("stream_id = :partition AND entity BETWEEN :from AND :to")
            .expression_attribute_values(":partition", text(stream))
            .expression_attribute_values(":from", text("event#"))
            .expression_attribute_values(":to", text("snapshot"))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .expect("the engine answers");
        page.items.unwrap_or_default()
    }

    async fn events(&self, stream: &str, from: u64) -> QueryOutput {
        self.client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(true)
            .key_condition_expression("stream_id = :partition AND entity BETWEEN :from AND :to")
            .expression_attribute_values(":partition", text(stream))
            .expression_attribute_values(":from", text(event_key(from)))
            .expression_attribute_values(":to", text(event_key(u64::MAX)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .expect("the engine answers")
    }
}

impl RawAppender {
    pub(crate) async fn append(&mut self, payloads: Vec<String>) {
        let now = (self.raw.clock)().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis();
        let (first, last) = (self.version + 1, self.version + payloads.len() as u64);
        let entry = self.entry(&payloads, first, last, now);
        let events = payloads.into_iter().zip(first..).map(|(payload, version)| {
            let mut item = attributes(payload);
            item.extend([
                ("stream_id".to_owned(), text(&self.stream)),
                ("entity".to_owned(), text(event_key(version))),
                ("recorded_at".to_owned(), number(&now)),
                ("append_id".to_owned(), AttributeValue::B(Blob::new(ID))),
            ]);
            if first < last {
                item.insert("append_first".to_owned(), number(&first));
                item.insert("append_last".to_owned(), number(&last));
            }
            item
        });
        let puts = events.chain([entry]).map(|item| put(&self.raw.table, item)).collect();
        self.raw
            .client
            .transact_write_items()
            .set_transact_items(Some(puts))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .expect("the engine writes");
        self.version = last;
        self.previous = Some((last, now));
    }

    fn entry(&self, payloads: &[String], first: u64, last: u64, now: u128) -> Item {
        let mut entry = Item::from([
            ("stream_id".to_owned(), text(&self.stream)),
            ("entity".to_owned(), text(format!("pending#{last:020}"))),
            ("pending_since".to_owned(), number(&now)),
        ]);
        if first < last {
            entry.insert("first_version".to_owned(), number(&first));
        }
        if let Some((version, at)) = self.previous {
            entry.insert("previous_version".to_owned(), number(&version));
            entry.insert("previous_at".to_owned(), number(&at));
        }
        if payloads.len() <= MOST_COPIED_EVENTS {
            let copies = payloads.iter().map(|payload| AttributeValue::M(attributes(payload.clone())));
            entry.insert("append_id".to_owned(), AttributeValue::B(Blob::new(ID)));
            entry.insert("events".to_owned(), AttributeValue::L(copies.collect()));
        }
        entry
    }
}

/// What an event and its copy have in common.
fn attributes(payload: String) -> Item {
    Item::from([("event_type".to_owned(), text(EVENT_TYPE)), ("payload".to_owned(), AttributeValue::S(payload))])
}

fn put(table: &str, item: Item) -> TransactWriteItem {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression("attribute_not_exists(entity)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("a put has a table and an item");
    TransactWriteItem::builder().put(put).build()
}

fn event_key(version: u64) -> String {
    format!("event#{version:020}")
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: &impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A request without what differs from call to call.
pub(crate) fn comparable(exchange: Exchange) -> (String, BTreeMap<String, Value>) {
    let Value::Object(mut request) = exchange.request else { panic!("a request is an object") };
    request.values_mut().for_each(blank);
    let token = request.remove("ClientRequestToken");
    assert_eq!(token.is_some(), exchange.operation == "TransactWriteItems");
    (exchange.operation, request.into_iter().collect())
}

fn blank(value: &mut Value) {
    const DIFFERENT: [&str; 3] = ["stream_id", ":partition", "append_id"];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if DIFFERENT.contains(&name.as_str()) {
                    *value = Value::Null;
                } else {
                    blank(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(blank),
        _ => {}
    }
}
