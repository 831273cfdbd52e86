//! One request: the newest event, whether there is one, the event at a version.

use aws_sdk_dynamodb::types::{ReturnConsumedCapacity, Select};

use super::query;
use crate::{EventStore, error::Error, event::RecordedEvent, failure::Operation, schema, stream::StreamId};

/// The newest event, if there is one: one request, read units by its size.
pub(crate) async fn last_event(store: &EventStore, stream: &StreamId) -> Result<Option<RecordedEvent>, Error> {
    let operation = Operation::one(store.request_context(), "read the end", stream.as_str());
    let output = query::events(store, stream, 1..=u64::MAX)
        .scan_index_forward(false)
        .limit(1)
        .send()
        .await
        .map_err(|error| operation.failed(error))?;
    let newest = output.items.unwrap_or_default().into_iter().next();
    Ok(newest.map(schema::read_event).transpose()?)
}

/// Whether there is an event, without transferring one.
pub(crate) async fn exists(store: &EventStore, stream: &StreamId) -> Result<bool, Error> {
    let operation = Operation::one(store.request_context(), "look for", stream.as_str());
    let output = query::events(store, stream, 1..=u64::MAX)
        .select(Select::Count)
        .limit(1)
        .send()
        .await
        .map_err(|error| operation.failed(error))?;
    Ok(output.count() > 0)
}

/// The event at one version, strongly consistent.
pub(crate) async fn event_at(
    store: &EventStore,
    stream: &StreamId,
    version: u64,
) -> Result<Option<RecordedEvent>, Error> {
    let operation = Operation::one(store.request_context(), "read", stream.as_str());
    let output = store
        .client()
        .get_item()
        .table_name(store.table())
        .set_key(Some(schema::key(stream.as_str(), schema::event_key(version))))
        .consistent_read(true)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .map_err(|error| operation.failed(error))?;
    Ok(output.item.map(schema::read_event).transpose()?)
}
