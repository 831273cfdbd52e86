//! A consumer's effects that show what was done: the versions of each stream, in the order in which they took effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TransactWriteItem, Update,
};
use streambox::{Client, StreamId, message::Received};
use streambox_consumer::{Context, Handler, HandlerError};
use tokio::time::timeout;

use crate::{PATIENCE, items::Item, unique};

/// The partition key of its table (S).
pub const KEY: &str = "key";

/// Effects in a table of their own: an item for each stream and generation, with its versions in a list. One that took effect twice is in it twice.
#[derive(Clone, Debug)]
pub struct Effects {
    client: Client,
    table: String,
    refused: Arc<Mutex<BTreeSet<StreamId>>>,
}

impl Effects {
    /// Creates the table.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn create(client: Client) -> Self {
        let effects = Self::of_table(client, unique("effects"));
        effects.create_table().await.expect("the engine creates tables");
        effects
    }

    /// Creates the table of [`of_table`](Self::of_table).
    ///
    /// # Errors
    /// DynamoDB's.
    ///
    /// # Panics
    /// Never: its definition is whole.
    pub async fn create_table(&self) -> Result<(), aws_sdk_dynamodb::Error> {
        let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash);
        let attribute = AttributeDefinition::builder().attribute_name(KEY).attribute_type(ScalarAttributeType::S);
        let create = self
            .client
            .create_table()
            .table_name(&self.table)
            .key_schema(key.build().expect("a key has a name"))
            .attribute_definitions(attribute.build().expect("an attribute has a name"))
            .billing_mode(BillingMode::PayPerRequest);
        create.send().await?;
        Ok(())
    }

    /// Those in a table that exists, or will.
    #[must_use]
    pub fn of_table(client: Client, table: String) -> Self {
        Self { client, table, refused: Arc::default() }
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// From now on no event of this stream can be handled.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn refuse(&self, stream: &StreamId) {
        self.refused.lock().expect("nobody panics with it").insert(stream.clone());
    }

    /// From now on its events can be handled again.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn accept(&self, stream: &StreamId) {
        self.refused.lock().expect("nobody panics with it").remove(stream);
    }

    /// The versions of a stream that took effect in generation 1, in this order.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn of(&self, stream: &StreamId) -> Vec<u64> {
        self.of_generation(stream, 1).await
    }

    /// As [`of`](Self::of), of any generation.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn of_generation(&self, stream: &StreamId, generation: u32) -> Vec<u64> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let item = get.key(KEY, key(stream, generation)).send().await.expect("the engine answers").item;
        item.map(|item| versions(&item)).unwrap_or_default()
    }

    /// As [`of`](Self::of), of every stream that has any.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub async fn all(&self) -> BTreeMap<StreamId, Vec<u64>> {
        let scan = self.client.scan().table_name(&self.table).consistent_read(true);
        let mut items = scan.into_paginator().items().send();
        let mut all = BTreeMap::new();
        while let Some(item) = items.next().await {
            let item = item.expect("the engine answers");
            let key = item[KEY].as_s().expect("the key is a text");
            if let Some(stream) = key.strip_prefix("1#") {
                all.insert(StreamId::new(stream).expect("a stream id"), versions(&item));
            }
        }
        all
    }

    /// Waits until a stream has had this many effects.
    ///
    /// # Panics
    /// If that takes longer than [`PATIENCE`].
    pub async fn wait_for(&self, stream: &StreamId, count: u64) {
        let reached = async {
            // There is no signal of another process's effects, so this asks again and again.
            while (self.of(stream).await.len() as u64) < count {
                tokio::task::yield_now().await;
            }
        };
        let is_in_time = timeout(PATIENCE, reached).await.is_ok();
        assert!(is_in_time, "{stream} has had {:?} of {count} effects", self.of(stream).await);
    }
}

impl Handler for Effects {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        if self.refused.lock().expect("nobody panics with it").contains(&event.stream_id) {
            return Err(format!("{} can't be handled", event.stream_id).into());
        }
        let version = || AttributeValue::L(vec![AttributeValue::N(event.version.to_string())]);
        let add = Update::builder()
            .table_name(&self.table)
            .key(KEY, key(&event.stream_id, context.generation()))
            .update_expression("SET versions = list_append(if_not_exists(versions, :none), :version)")
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":version", version());
        Ok(vec![TransactWriteItem::builder().update(add.build()?).build()])
    }
}

fn versions(item: &Item) -> Vec<u64> {
    let versions = item.get("versions").and_then(|versions| versions.as_l().ok());
    let version = |version: &AttributeValue| version.as_n().expect("a number").parse().expect("a version");
    versions.map(|versions| versions.iter().map(version).collect()).unwrap_or_default()
}

fn key(stream: &StreamId, generation: u32) -> AttributeValue {
    AttributeValue::S(format!("{generation}#{stream}"))
}
