//! The event entity: how it is written and read.

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use super::{
    APPEND_FIRST, APPEND_ID, APPEND_LAST, DIGITS, ENTITY, ENTRY_AT, ENTRY_FIRST, EVENT_ID, EVENT_PREFIX, EVENT_TYPE,
    IS_PRIVATE, Item, METADATA, PAYLOAD, PAYLOAD_ENCODING, RECORDED_AT, STREAM_ID, event_key,
    fields::Fields,
    key, number,
    payload::{Compression, StoredPayload},
    size::WIDEST_NUMBER_BYTES,
    text,
};
use crate::{
    error::Corrupt,
    event::{AppendRange, NewEvent, RecordedEvent},
    stream::{Previous, StreamId},
};

/// An event on its way into the table.
pub(crate) struct Recording<'a> {
    pub(crate) stream: &'a StreamId,
    pub(crate) version: u64,
    pub(crate) event_id: Uuid,
    pub(crate) new: &'a NewEvent,
    pub(crate) payload: StoredPayload<'a>,
}

impl<'a> Recording<'a> {
    pub(crate) fn new(
        stream: &'a StreamId,
        version: u64,
        event_id: Uuid,
        new: &'a NewEvent,
        compression: Compression,
    ) -> Self {
        let payload = compression.store(new.payload_text(), event_bytes(stream, new));
        Self { stream, version, event_id, new, payload }
    }
}

/// The bytes of an event's item with the payload as text, and with numbers at their widest: the place is not known yet, and
/// what was accepted must fit wherever it goes.
pub(crate) fn event_bytes(stream: &StreamId, event: &NewEvent) -> usize {
    const UUID_BYTES: usize = 36;
    const KEY_BYTES: usize = STREAM_ID.len() + ENTITY.len() + EVENT_PREFIX.len() + DIGITS;
    const ID_BYTES: usize = EVENT_ID.len() + APPEND_ID.len() + 2 * UUID_BYTES;
    const NAME_BYTES: usize = EVENT_TYPE.len() + PAYLOAD.len();
    const NUMBER_BYTES: usize = RECORDED_AT.len() + APPEND_FIRST.len() + APPEND_LAST.len() + 3 * WIDEST_NUMBER_BYTES;
    const PRIVATE_BYTES: usize = IS_PRIVATE.len() + 1 + ENTRY_FIRST.len() + ENTRY_AT.len() + 2 * WIDEST_NUMBER_BYTES;
    let fixed_bytes = KEY_BYTES + ID_BYTES + NAME_BYTES + NUMBER_BYTES;
    let text_bytes = stream.as_str().len() + event.event_type().len() + event.payload_text().len();
    let metadata_bytes = event.metadata().stored().map_or(0, |text| METADATA.len() + text.len());
    let private_bytes = if event.is_private() { PRIVATE_BYTES } else { 0 };
    fixed_bytes + text_bytes + metadata_bytes + private_bytes
}

pub(super) fn event_attributes(event: &Recording<'_>) -> Item {
    let mut attributes = Item::from([
        (EVENT_ID.to_owned(), text(event.event_id)),
        (EVENT_TYPE.to_owned(), text(event.new.event_type())),
        (PAYLOAD.to_owned(), event.payload.value()),
    ]);
    if let Some(encoding) = event.payload.encoding() {
        attributes.insert(PAYLOAD_ENCODING.to_owned(), text(encoding));
    }
    if let Some(metadata) = event.new.metadata().stored() {
        attributes.insert(METADATA.to_owned(), text(metadata));
    }
    attributes
}

/// The event entity.
pub(crate) fn event_item(
    event: &Recording<'_>,
    range: &AppendRange,
    recorded_at_ms: i64,
    newest_entry: Option<Previous>,
) -> Item {
    let mut item = key(event.stream.as_str(), event_key(event.version));
    item.extend(event_attributes(event));
    item.extend([
        (RECORDED_AT.to_owned(), number(recorded_at_ms)),
        (APPEND_ID.to_owned(), text(range.id)),
        (APPEND_FIRST.to_owned(), number(range.first)),
        (APPEND_LAST.to_owned(), number(range.last)),
    ]);
    if event.new.is_private() {
        item.insert(IS_PRIVATE.to_owned(), AttributeValue::Bool(true));
        if let Some(entry) = newest_entry {
            item.insert(ENTRY_FIRST.to_owned(), number(entry.first));
            item.insert(ENTRY_AT.to_owned(), number(entry.recorded_at_ms));
        }
    }
    item
}

/// Reads an event entity.
pub(crate) fn read_event(item: Item) -> Result<RecordedEvent, Corrupt> {
    read_event_beside(None, item)
}

/// Reads an event entity that mostly is of the same stream as its neighbour, and then shares its stream id.
pub(crate) fn read_event_beside(neighbour: Option<&RecordedEvent>, item: Item) -> Result<RecordedEvent, Corrupt> {
    let mut fields = Fields::beside(neighbour.map(|event| &event.stream_id), item);
    let version = fields.version_in_key(EVENT_PREFIX)?;
    let append = AppendRange {
        id: fields.uuid(APPEND_ID)?,
        first: fields.version(APPEND_FIRST)?,
        last: fields.version(APPEND_LAST)?,
    };
    fields.check_append(append.first, append.last)?;
    if !(append.first..=append.last).contains(&version) {
        return Err(fields.wrong(format!("{APPEND_FIRST} {} and {APPEND_LAST} {}", append.first, append.last)));
    }
    let recorded_at_ms = fields.number(RECORDED_AT)?;
    let is_private = fields.flag(IS_PRIVATE)?;
    let newest_entry = if is_private {
        fields.previous(ENTRY_FIRST, ENTRY_AT, version + 1)?
    } else {
        Some(Previous { first: append.first, recorded_at_ms })
    };
    Ok(RecordedEvent {
        version,
        event_id: fields.uuid(EVENT_ID)?,
        event_type: fields.text(EVENT_TYPE)?,
        payload: fields.payload()?,
        metadata: fields.metadata()?,
        recorded_at_ms,
        is_private,
        append,
        newest_entry,
        stream_id: fields.stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metadata::Metadata, schema::item_bytes};

    fn range() -> AppendRange {
        AppendRange { id: Uuid::from_u128(1), first: 3, last: 3 }
    }

    fn recording<'a>(stream: &'a StreamId, new: &'a NewEvent) -> Recording<'a> {
        Recording::new(stream, 3, Uuid::from_u128(2), new, Compression::Off)
    }

    fn stream() -> StreamId {
        StreamId::new("order-1").unwrap()
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{\"a\": 1.0}").unwrap());
        let new = new.with_metadata(Metadata::new().with(Metadata::CORRELATION_ID, "c-1"));
        let item = event_item(&recording(&stream, &new), &range(), 1_700_000_000_123, None);
        let event = read_event(item).unwrap();
        assert_eq!((event.version, event.recorded_at_ms), (3, 1_700_000_000_123));
        assert_eq!((event.event_type.as_str(), event.payload.as_str()), ("Placed", "{\"a\": 1.0}"));
        assert_eq!((event.metadata, event.append), (new.metadata().clone(), range()));
    }

    #[test]
    fn the_bytes_of_an_event_are_those_of_its_widest_item() {
        let stream = stream();
        let plain = NewEvent::from_json_text("Placed", "{}").unwrap();
        let full = plain.clone().with_metadata(Metadata::new().with("by", "ann")).private();
        let widest = AppendRange { id: Uuid::max(), first: u64::MAX, last: u64::MAX };
        let entry = Some(Previous { first: u64::MAX, recorded_at_ms: i64::MAX });
        for new in [plain, full] {
            let recording = Recording::new(&stream, u64::MAX, Uuid::max(), &new, Compression::Off);
            let item = event_item(&recording, &widest, i64::MAX, entry);
            assert_eq!(event_bytes(&stream, &new), item_bytes(&item));
        }
    }

    #[test]
    fn a_damaged_item_is_reported_with_its_place_and_its_fault() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{}").unwrap());
        let damage = |name: &str, value: Option<AttributeValue>| {
            let mut item = event_item(&recording(&stream, &new), &range(), 1, None);
            item.remove(name);
            item.extend(value.map(|value| (name.to_owned(), value)));
            read_event(item).expect_err(name).to_string()
        };
        assert!(damage(PAYLOAD, None).ends_with("event#00000000000000000003: payload is missing"));
        assert!(damage(EVENT_ID, Some(text("x"))).contains("event_id is not a UUID: x"));
        assert!(damage(APPEND_LAST, Some(number(2))).contains("ends at version 2, before it begins at 3"));
        assert!(damage(RECORDED_AT, Some(text("1"))).contains("recorded_at is not a number"));
        assert!(damage(ENTITY, Some(text("event#3"))).contains("20 digits"));
        assert!(damage(METADATA, Some(text("[]"))).contains("JSON object"));
    }
}
