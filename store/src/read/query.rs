//! The one request that reads a stream: a strongly consistent `Query`, over a range of versions or over everything.

use std::{collections::BTreeMap, ops::RangeInclusive};

use aws_sdk_dynamodb::{
    error::SdkError, operation::query::builders::QueryFluentBuilder, types::ReturnConsumedCapacity,
};

use super::{Direction, gap::GapWatch, page_size::PageSize};
use crate::{
    EventStore,
    error::Error,
    failure::Operation,
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
    size: &mut PageSize,
) -> Result<Page, Error> {
    let request = events(store, stream, versions).scan_index_forward(direction == Direction::Forward);
    let output = loop {
        match request.clone().set_limit(size.limit(limit)).send().await {
            // The time in all is over, and the connection was not silent: it is slow.
            Err(SdkError::TimeoutError(_)) if size.shrink() => {}
            answer => break answer,
        }
    };
    let output =
        output.map_err(|error| Operation::one(store.request_context(), "read", stream.as_str()).failed(error))?;
    size.grow();
    let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
    let is_last = output.last_evaluated_key().is_none_or(Item::is_empty);
    Ok(Page { items: output.items.unwrap_or_default(), is_last, read_units })
}

/// A page of everything that a stream has, behind the entity `after`: its items, the key to go on behind, read units.
pub(crate) async fn partition_page(
    store: &EventStore,
    stream: &StreamId,
    after: Option<&str>,
) -> Result<(Vec<Item>, Option<Item>, f64), Error> {
    let output = store
        .client()
        .query()
        .table_name(store.table())
        .consistent_read(true)
        .key_condition_expression(format!("{STREAM_ID} = :stream"))
        .expression_attribute_values(":stream", schema::text(stream.as_str()))
        .set_exclusive_start_key(after.map(|entity| schema::key(stream.as_str(), entity.to_owned())))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .map_err(|error| Operation::one(store.request_context(), "read", stream.as_str()).failed(error))?;
    let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
    let key = output.last_evaluated_key.filter(|key| !key.is_empty());
    Ok((output.items.unwrap_or_default(), key, read_units))
}

/// The event items of a range by their versions, read again until all are visible or have been waited for: what is missing
/// then is missing. And the read units.
pub(crate) async fn settled(
    store: &EventStore,
    stream: &StreamId,
    versions: RangeInclusive<u64>,
) -> Result<(BTreeMap<u64, Item>, f64), Error> {
    let expected = versions.end() - versions.start() + 1;
    let mut watch = GapWatch::new(store.jitter());
    let mut found = BTreeMap::new();
    let mut units = 0.0;
    let mut size = PageSize::default();
    loop {
        let mut next = *versions.start();
        while next <= *versions.end() {
            let Page { items, is_last, read_units } =
                page(store, stream, next..=*versions.end(), Direction::Forward, None, &mut size).await?;
            units += read_units;
            let by_version = |item: Item| Some((schema::event_version(schema::read_entity(&item))?, item));
            found.extend(items.into_iter().filter_map(by_version));
            match found.last_key_value() {
                // A page of nothing but keys that are none ends the reading: what is behind it counts as missing.
                Some((last, _)) if !is_last && *last >= next => next = last + 1,
                _ => break,
            }
        }
        if found.len() as u64 == expected || watch.wait(stream, next).await.is_err() {
            return Ok((found, units));
        }
    }
}
