//! Everything that can be refused before anything is sent.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::TransactWriteItem;
use uuid::Uuid;

use super::Part;
use crate::{
    error::{Corrupt, Error, Invalid},
    event::{NewEvent, RecordedEvent},
    failure::own as own_items,
    json,
    limits::{
        MAX_EVENTS_PER_APPEND, MAX_INLINE_ENTRY_BYTES, MAX_ITEM_BYTES, MAX_MESSAGE_HEADER_BYTES, MAX_SHORT_STRING_BYTES,
    },
    metadata::Metadata,
    schema,
    stream::{ExpectedVersion, StreamId},
    table::Table,
};

pub(super) fn check(table: &Table, append_id: Uuid, parts: &[Part], own: &[TransactWriteItem]) -> Result<(), Invalid> {
    if append_id.is_nil() {
        return Err(Invalid::AppendId(append_id));
    }
    if parts.is_empty() {
        return Err(Invalid::NoAppends);
    }
    let mut streams = HashSet::new();
    let mut bytes = 0;
    let mut items = own.len();
    for part in parts {
        if !streams.insert(&part.stream) {
            return Err(Invalid::DuplicateStream { stream: part.stream.clone() });
        }
        bytes += check_part(table, part)?;
        items += part.events.len() + usize::from(part.has_entry()) + usize::from(part.is_marked);
    }
    own_items::check(table.name(), own, items - own.len(), bytes)
}

fn check_part(table: &Table, part: &Part) -> Result<usize, Invalid> {
    if let ExpectedVersion::At(position) = &part.expected {
        if *position.stream() != part.stream {
            let position_of = position.stream().clone();
            return Err(Invalid::ForeignPosition { stream: part.stream.clone(), position_of });
        }
        table.check_position(position)?;
    }
    if part.events.is_empty() {
        return Err(Invalid::NoEvents);
    }
    if part.events.len() > MAX_EVENTS_PER_APPEND {
        return Err(Invalid::TooManyEvents { limit: MAX_EVENTS_PER_APPEND, events: part.events.len() });
    }
    let mut bytes = 0;
    for (index, event) in part.events.iter().enumerate() {
        bytes += check_event(index, &part.stream, event)?;
    }
    // A little more than the entry can have.
    let entry_bytes = part.stream.as_str().len() + MAX_INLINE_ENTRY_BYTES + 16 * part.events.len();
    let marker_bytes = schema::marker_bytes(&part.stream);
    Ok(bytes + if part.has_entry() { entry_bytes } else { 0 } + if part.is_marked { marker_bytes } else { 0 })
}

impl NewEvent {
    /// Checks whether the event can be appended to `stream`, as the append itself does, and returns the bytes that its item
    /// takes: keys, attribute names and the widest version included. An append has at most
    /// [`MAX_TRANSACTION_BYTES`](crate::limits::MAX_TRANSACTION_BYTES), its pending entry included.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the item has more than 400 KB, the metadata have too many levels, category and type do not fit into a
    /// routing key, or there is too much for the headers of a message.
    pub fn check_for(&self, stream: &StreamId) -> Result<usize, Error> {
        Ok(check_event(0, stream, self)?)
    }
}

impl RecordedEvent {
    /// Checks everything that an append of such an event to its stream is checked for: stream id, type, payload, metadata,
    /// sizes. An event that this library has written passes; one of another program that does not can be read, but not
    /// published, or not imported again.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the event and the rule that it breaks.
    pub fn check(&self) -> Result<(), Error> {
        let checked = StreamId::new(self.stream_id.as_str()).map_err(Error::from).and_then(|_| self.check_content());
        checked.map_err(|error| {
            let what = format!("no append takes this event: {error}");
            Corrupt { stream: self.stream_id.clone(), at: schema::event_key(self.version), what }.into()
        })
    }

    /// As [`check`](Self::check), but for the stream id.
    pub(crate) fn check_content(&self) -> Result<(), Error> {
        let event = NewEvent::from_json_text(self.event_type.as_str(), self.payload.as_str())?;
        let event = event.with_metadata(self.metadata.clone());
        let event = if self.is_private { event.private() } else { event };
        event.check_for(&self.stream_id).map(|_| ())
    }
}

/// Checks the event at place `index` of an append, and returns the bytes of its item.
fn check_event(index: usize, stream: &StreamId, event: &NewEvent) -> Result<usize, Invalid> {
    let bytes = stream.category().len() + 1 + event.event_type().len();
    if bytes > MAX_SHORT_STRING_BYTES {
        let what = "routing key `{category}.{event type}`";
        return Err(Invalid::TooLong { what, limit_bytes: MAX_SHORT_STRING_BYTES, bytes });
    }
    // Those that were set value by value have not been checked yet.
    json::check_depth("metadata", event.metadata().as_json_text())?;
    let bytes = message_header_bytes(stream, event);
    if bytes > MAX_MESSAGE_HEADER_BYTES {
        return Err(Invalid::HeadersTooLarge { index, limit_bytes: MAX_MESSAGE_HEADER_BYTES, bytes });
    }
    // Uncompressed: whether an event is taken must not depend on how well it compresses.
    match schema::event_bytes(stream, event) {
        bytes if bytes > MAX_ITEM_BYTES => Err(Invalid::EventTooLarge { index, limit_bytes: MAX_ITEM_BYTES, bytes }),
        bytes => Ok(bytes),
    }
}

/// What an event puts into the headers of its message. What is the same for every message is far below the limit and not
/// counted.
fn message_header_bytes(stream: &StreamId, event: &NewEvent) -> usize {
    const MESSAGE_ID_BYTES: usize = 36;
    let metadata =
        Metadata::HEADERS.iter().filter_map(|name| Some(name.len() + event.metadata().header_text(name)?.len()));
    MESSAGE_ID_BYTES + stream.as_str().len() + event.event_type().len() + metadata.sum::<usize>()
}
