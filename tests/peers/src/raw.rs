//! The SDK alone: puts of items as streambox writes them, and a bare Query of streambox's own.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};

use crate::{
    side::{Appender, Side},
    streambox_side::{Streambox, TABLE, id},
};

type Item = HashMap<String, AttributeValue>;

const STREAM_ID: &str = "stream_id";
const ENTITY: &str = "entity";

/// A stream apart, whose second append shows what streambox writes. Its id is as long as the others'.
const TEMPLATE_STREAM: u64 = 9_999;

pub(crate) struct Raw {
    client: Client,
    /// The items of an append, whatever streambox writes for it.
    template: Vec<Item>,
}

impl Raw {
    pub(crate) async fn set_up(client: &Client) -> Self {
        let streambox = Streambox::set_up(client, false).await;
        let mut appender = streambox.appender(TEMPLATE_STREAM);
        appender.append().await;
        let first = items(client, TEMPLATE_STREAM, "").await;
        appender.append().await;
        let mut template = items(client, TEMPLATE_STREAM, "").await;
        template.retain(|item| first.iter().all(|before| before[ENTITY] != item[ENTITY]));
        assert_eq!(template.len(), 2, "an event and its pending entry");
        Self { client: client.clone(), template }
    }
}

#[async_trait(?Send)]
impl Side for Raw {
    fn appender(&self, stream: u64) -> Box<dyn Appender> {
        Box::new(RawAppender { client: self.client.clone(), template: self.template.clone(), stream, version: 0 })
    }

    async fn load(&self, stream: u64) -> u64 {
        items(&self.client, stream, "event#").await.len() as u64
    }
}

/// A stream's items whose sort key begins so, page by page.
async fn items(client: &Client, stream: u64, prefix: &str) -> Vec<Item> {
    let query = client
        .query()
        .table_name(TABLE)
        .consistent_read(true)
        .key_condition_expression("stream_id = :partition AND entity BETWEEN :from AND :to")
        .expression_attribute_values(":partition", text(id(stream).as_str()))
        .expression_attribute_values(":from", text(if prefix.is_empty() { " " } else { prefix }))
        .expression_attribute_values(":to", text(format!("{prefix}~")))
        .return_consumed_capacity(ReturnConsumedCapacity::Total);
    let (mut items, mut from) = (Vec::new(), None);
    loop {
        let page = query.clone().set_exclusive_start_key(from).send().await.expect("the engine answers");
        items.extend(page.items.unwrap_or_default());
        match page.last_evaluated_key {
            Some(key) if !key.is_empty() => from = Some(key),
            _ => return items,
        }
    }
}

struct RawAppender {
    client: Client,
    template: Vec<Item>,
    stream: u64,
    version: u64,
}

#[async_trait(?Send)]
impl Appender for RawAppender {
    async fn append(&mut self) {
        self.version += 1;
        let puts = self.template.iter().map(|item| {
            let mut item = item.clone();
            let entity = item[ENTITY].as_s().expect("a sort key is text");
            let kind = entity.split_once('#').expect("a kind and a version").0;
            let entity = format!("{kind}#{:020}", self.version);
            item.insert(ENTITY.to_owned(), text(entity));
            item.insert(STREAM_ID.to_owned(), text(id(self.stream).as_str()));
            let put = Put::builder()
                .table_name(TABLE)
                .set_item(Some(item))
                .condition_expression("attribute_not_exists(entity)")
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .build()
                .expect("a put has a table and an item");
            TransactWriteItem::builder().put(put).build()
        });
        self.client
            .transact_write_items()
            .set_transact_items(Some(puts.collect()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .expect("the engine writes");
    }
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}
