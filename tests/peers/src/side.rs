//! What a side has to do, and which sides there are.

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use serde::{Deserialize, Serialize};

use crate::{Work, dynamo_es, event_store_adapter, raw, streambox_side};

/// Bytes of an event's payload as JSON.
const PAYLOAD_BYTES: usize = 300;

/// What every side stores. Its type has the same name everywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) total_cents: u64,
    pub(crate) text: String,
}

/// The name of an event's type.
pub(crate) const EVENT_TYPE: &str = "Placed";

impl Placed {
    pub(crate) fn new() -> Self {
        let text = "x".repeat(PAYLOAD_BYTES - r#"{"total_cents":4990,"text":""}"#.len());
        Self { total_cents: 4990, text }
    }
}

/// A store with its tables.
#[async_trait(?Send)]
pub(crate) trait Side {
    /// Of a new stream.
    fn appender(&self, stream: u64) -> Box<dyn Appender>;

    /// Loads a stream. Returns how many events came.
    async fn load(&self, stream: u64) -> u64;
}

/// Appends to one stream and knows where it ends, as a service does that has loaded it.
#[async_trait(?Send)]
pub(crate) trait Appender {
    /// Appends one event.
    async fn append(&mut self);
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw,
    DynamoEs,
    EventStoreAdapter,
    Streambox,
    StreamboxPrivate,
}

pub(crate) const KINDS: [Kind; 5] =
    [Kind::Raw, Kind::DynamoEs, Kind::EventStoreAdapter, Kind::Streambox, Kind::StreamboxPrivate];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw SDK",
            Self::DynamoEs => "dynamo-es 0.5",
            Self::EventStoreAdapter => "event-store-adapter-rs 5.2",
            Self::Streambox => "streambox",
            Self::StreamboxPrivate => "streambox, private events",
        }
    }

    pub(crate) fn leaves_out(self) -> &'static str {
        match self {
            Self::Raw => {
                "puts copies of the two items that streambox writes; a load is a bare Query of the items that streambox has written, \
                 page by page, and no event is made of them; nothing is checked"
            }
            Self::DynamoEs => {
                "no outbox, so nothing is published after a crash; a load reads one page of at most 1 MB and does not report \
                 that there is more; a repeated append is a conflict"
            }
            Self::EventStoreAdapter => {
                "no outbox (a table of stream heads with the newest event, from which its users publish by DynamoDB Streams); one event an append; a \
                 repeated append is a conflict"
            }
            Self::Streambox => {
                "writes the outbox entry with the event, recognises a repeated append, checks loads for gaps"
            }
            Self::StreamboxPrivate => "the same for events that are not to be published: no outbox entry",
        }
    }

    pub(crate) fn takes_part(self, work: Work) -> bool {
        self != Self::StreamboxPrivate || matches!(work, Work::Append { .. })
    }

    /// Makes the tables.
    pub(crate) async fn set_up(self, client: &Client) -> Box<dyn Side> {
        match self {
            Self::Raw => Box::new(raw::Raw::set_up(client).await),
            Self::DynamoEs => Box::new(dynamo_es::DynamoEs::set_up(client).await),
            Self::EventStoreAdapter => Box::new(event_store_adapter::Adapter::set_up(client).await),
            Self::Streambox => Box::new(streambox_side::Streambox::set_up(client, false).await),
            Self::StreamboxPrivate => Box::new(streambox_side::Streambox::set_up(client, true).await),
        }
    }
}

/// A table with a partition key and, if one is named, a sort key that is a number.
pub(crate) async fn create_table(client: &Client, name: &str, partition: &str, sort: Option<&str>) {
    let mut table = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    let keys = [(partition, KeyType::Hash, ScalarAttributeType::S)]
        .into_iter()
        .chain(sort.map(|sort| (sort, KeyType::Range, ScalarAttributeType::N)));
    for (name, key, kind) in keys {
        let key = KeySchemaElement::builder().attribute_name(name).key_type(key).build().expect("a complete key");
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
        table = table.key_schema(key).attribute_definitions(attribute.expect("a complete attribute"));
    }
    table.send().await.expect("the engine creates tables");
}
