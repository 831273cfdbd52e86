//! The one request that reads events of a stream: a strongly consistent `Query` over a range of versions.

use std::ops::RangeInclusive;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::Direction;
use crate::{
    EventStore,
    error::Error,
    failure::Attempts,
    schema::{self, ENTITY, Item, STREAM_ID},
    stream::StreamId,
};

/// One page of at most 1 MB.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// Whether there is nothing behind it in the range.
    pub(super) is_last: bool,
    pub(super) read_units: f64,
}

/// The events of `stream` with these versions.
pub(super) fn events(store: &EventStore, stream: &StreamId, versions: RangeInclusive<u64>) -> QueryFluentBuilder {
    store
        .client()
        .query()
        .table_name(store.table())
        .consistent_read(true)
        .key_condition_expression(format!("{STREAM_ID} = :stream AND {ENTITY} BETWEEN :from AND :to"))
        .expression_attribute_values(":stream", schema::text(stream.as_str()))
        .expression_attribute_values(":from", schema::text(schema::event_key(*versions.start())))
        .expression_attribute_values(":to", schema::text(schema::event_key(*versions.end())))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
}

/// The next page of a range, at most `limit` events of it.
pub(super) async fn page(
    store: &EventStore,
    stream: &StreamId,
    versions: RangeInclusive<u64>,
    direction: Direction,
    limit: Option<u64>,
) -> Result<Page, Error> {
    let output = events(store, stream, versions)
        .scan_index_forward(direction == Direction::Forward)
        .set_limit(limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
        .send()
        .await
        .map_err(|error| Attempts { made: 1, ..Attempts::of("read", stream.as_str()) }.failed(error))?;
    let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
    let is_last = output.last_evaluated_key().is_none_or(Item::is_empty);
    Ok(Page { items: output.items.unwrap_or_default(), is_last, read_units })
}
