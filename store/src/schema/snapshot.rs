//! The snapshot entity: how it is written and read.

use super::{BODY, Item, SCHEMA_VERSION, SNAPSHOT, TAKEN_AT, VERSION, fields::Fields, key, number, text};
use crate::{
    error::Corrupt,
    snapshot::{NewSnapshot, Snapshot},
    stream::StreamId,
};

/// The snapshot entity.
pub(crate) fn snapshot_item(stream: &StreamId, new: &NewSnapshot, taken_at_ms: i64) -> Item {
    let mut item = key(stream.as_str(), SNAPSHOT.to_owned());
    item.extend([
        (VERSION.to_owned(), number(new.version)),
        (SCHEMA_VERSION.to_owned(), number(new.schema_version)),
        (BODY.to_owned(), text(&new.body)),
        (TAKEN_AT.to_owned(), number(taken_at_ms)),
    ]);
    item
}

/// Reads a snapshot entity.
pub(crate) fn read_snapshot(item: Item) -> Result<Snapshot, Corrupt> {
    let mut fields = Fields::new(item);
    Ok(Snapshot {
        version: fields.version(VERSION)?,
        schema_version: fields.number(SCHEMA_VERSION)?,
        body: fields.text(BODY)?,
        taken_at_ms: fields.number(TAKEN_AT)?,
        stream_id: fields.stream,
    })
}
