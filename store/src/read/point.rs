//! One request: where a stream ends, whether there is one, the event at a version, the marker of a command.

use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity, Select};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::EventReader;
use super::query;
use crate::{
    error::Error,
    event::RecordedEvent,
    observe::count,
    schema::{self, Item, Marker},
    stream::{StreamId, StreamPosition},
    table::Table,
};

/// The newest event, if there is one: one request, read units by its size.
pub(crate) async fn last_event(table: &Table, stream: &StreamId) -> Result<Option<RecordedEvent>, Error> {
    let operation = table.request("read the end", stream.as_str());
    count::request();
    let output = query::events(table, stream, 1..=u64::MAX)
        .scan_index_forward(false)
        .limit(1)
        .send()
        .boxed()
        .await
        .map_err(|error| operation.failed(error))?;
    let units = units(output.consumed_capacity());
    let newest = output.items.unwrap_or_default().into_iter().next();
    count::read(units, newest.iter().len());
    Ok(newest.map(schema::read_event).transpose()?)
}

/// The position behind the newest append.
pub(crate) async fn end(table: &Table, stream: &StreamId) -> Result<StreamPosition, Error> {
    match last_event(table, stream).await? {
        Some(newest) => behind_append(table, newest).await,
        None => Ok(StreamPosition::start(stream.clone())),
    }
}

/// The position behind an event's append. If the event is not its last one, that is read: it may not be visible yet, but since one event
/// of the append is, all of it is committed.
pub(crate) async fn behind_append(table: &Table, event: RecordedEvent) -> Result<StreamPosition, Error> {
    let (version, last) = (event.version, event.append.last);
    if version == last {
        return Ok(event.position(table.full_name()));
    }
    let mut rest = EventReader::beginning_with(table.clone(), event.stream_id, last).reaching(last);
    while Box::pin(rest.fetch()).await?.is_some() {}
    Ok(rest.position().clone())
}

/// Whether there is an event, without transferring one.
pub(crate) async fn exists(table: &Table, stream: &StreamId) -> Result<bool, Error> {
    let operation = table.request("look for", stream.as_str());
    count::request();
    let output = query::events(table, stream, 1..=u64::MAX)
        .select(Select::Count)
        .limit(1)
        .send()
        .boxed()
        .await
        .map_err(|error| operation.failed(error))?;
    count::read(units(output.consumed_capacity()), 0);
    Ok(output.count() > 0)
}

/// The event at one version, strongly consistent. Versions begin with 1.
pub(crate) async fn event_at(table: &Table, stream: &StreamId, version: u64) -> Result<Option<RecordedEvent>, Error> {
    if version == 0 {
        return Ok(None);
    }
    let item = item(table, stream, schema::event_key(version)).await?;
    count::read(0.0, item.iter().len());
    Ok(item.map(schema::read_event).transpose()?)
}

/// The marker of a command, strongly consistent; it is there if the command was carried out with one.
pub(crate) async fn marker(table: &Table, stream: &StreamId, command: Uuid) -> Result<Option<Marker>, Error> {
    let item = item(table, stream, schema::command_key(command)).await?;
    Ok(item.map(schema::read_marker).transpose()?)
}

async fn item(table: &Table, stream: &StreamId, entity: String) -> Result<Option<Item>, Error> {
    let operation = table.request("read", stream.as_str());
    count::request();
    let output = table
        .client()
        .get_item()
        .table_name(table.name())
        .set_key(Some(schema::key(stream.as_str(), entity)))
        .consistent_read(true)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .boxed()
        .await
        .map_err(|error| operation.failed(error))?;
    count::read(units(output.consumed_capacity()), 0);
    Ok(output.item)
}

fn units(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(|used| used.capacity_units).unwrap_or_default()
}
