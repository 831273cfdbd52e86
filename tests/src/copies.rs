//! Many streams with the items of one: large tables in a short time. The embedded engine remembers each transaction for ten minutes and
//! becomes slow when there are many, so that what is measured on is not appended.

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use streambox::{
    Client, StreamId,
    schema::{ENTITY, STREAM_ID},
};

use crate::items::Item;

/// Requests that write at the same time.
const WRITERS: usize = 16;
/// Items that one request may write.
const BATCH_WRITES: usize = 25;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Gives each of `streams` copies of those items of `original` whose sort keys begin with `entities`.
///
/// # Errors
/// The engine does not answer, or leaves items out.
pub async fn copy_stream(
    client: &Client,
    table: &str,
    original: &StreamId,
    entities: &str,
    streams: impl Iterator<Item = String>,
) -> Result<(), Failure> {
    let mut query = client
        .query()
        .table_name(table)
        .key_condition_expression(format!("{STREAM_ID} = :stream AND begins_with({ENTITY}, :entities)"))
        .expression_attribute_values(":stream", AttributeValue::S(original.to_string()))
        .expression_attribute_values(":entities", AttributeValue::S(entities.to_owned()))
        .into_paginator()
        .items()
        .send();
    let mut items = Vec::new();
    while let Some(item) = query.try_next().await? {
        items.push(item);
    }
    let puts = streams.flat_map(|stream| items.iter().map(move |item| put(item, stream.clone())));
    stream::iter(puts)
        .chunks(BATCH_WRITES)
        .map(async |puts| {
            let written = client.batch_write_item().request_items(table, puts).send().await?;
            let is_whole = written.unprocessed_items.unwrap_or_default().is_empty();
            is_whole.then_some(()).ok_or_else(|| Failure::from("the engine has left items out"))
        })
        .buffer_unordered(WRITERS)
        .try_collect()
        .await
}

fn put(item: &Item, stream: String) -> WriteRequest {
    let mut item = item.clone();
    item.insert(STREAM_ID.to_owned(), AttributeValue::S(stream));
    let put = PutRequest::builder().set_item(Some(item)).build().expect("a put has an item");
    WriteRequest::builder().put_request(put).build()
}
