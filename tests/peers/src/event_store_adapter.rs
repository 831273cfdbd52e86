//! event-store-adapter-rs, with its own JSON and without snapshots.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use chrono::Utc;
use event_store_adapter_rs::{AggregateId, DynamoDbOptions, DynamoDbTables, EventEnvelope, EventStoreForDynamoDB};

use crate::side::{Appender, EVENT_TYPE, Placed, Side, create_table};

type Store = EventStoreForDynamoDB<OrderId, (), Placed>;

pub(crate) struct Adapter {
    store: Store,
}

impl Adapter {
    pub(crate) async fn set_up(client: &Client) -> Self {
        let tables = DynamoDbTables {
            journal_table_name: "journal".to_owned(),
            snapshot_table_name: "snapshot".to_owned(),
            head_table_name: "head".to_owned(),
            // Of the history of snapshots, which none is written to.
            snapshot_history_index_name: "snapshot-history".to_owned(),
        };
        create_table(client, &tables.journal_table_name, "aid", Some("seq_nr")).await;
        create_table(client, &tables.snapshot_table_name, "aid", Some("skey")).await;
        create_table(client, &tables.head_table_name, "aid", None).await;
        let store = Store::open(client.clone(), tables, DynamoDbOptions::default()).await.expect("the engine answers");
        Self { store }
    }
}

#[async_trait(?Send)]
impl Side for Adapter {
    fn appender(&self, stream: u64) -> Box<dyn Appender> {
        Box::new(AdapterAppender { store: self.store.clone(), id: OrderId(stream), sequence: 0 })
    }

    async fn load(&self, stream: u64) -> u64 {
        let events = self.store.get_events_by_id_since_seq_nr(&OrderId(stream), 0).await;
        events.expect("the engine answers").len() as u64
    }
}

struct AdapterAppender {
    store: Store,
    id: OrderId,
    sequence: u64,
}

#[async_trait(?Send)]
impl Appender for AdapterAppender {
    async fn append(&mut self) {
        self.sequence += 1;
        let event = EventEnvelope::new(self.id.clone(), self.sequence, Utc::now(), Placed::new());
        self.store.persist_event(event.with_manifest(EVENT_TYPE)).await.expect("the engine writes");
    }
}

#[derive(Clone, Debug)]
struct OrderId(u64);

impl AggregateId for OrderId {
    fn type_name(&self) -> String {
        "order".to_owned()
    }

    fn value(&self) -> String {
        format!("{:04}", self.0)
    }
}
