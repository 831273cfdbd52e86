//! The event entity: how it is written and read.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    APPEND_FIRST, APPEND_ID, APPEND_LAST, DIGITS, ENTITY, EVENT_PREFIX, EVENT_TYPE, IS_PRIVATE, Item, METADATA,
    PAYLOAD, PAYLOAD_ENCODING, PREVIOUS_AT, PREVIOUS_VERSION, RECORDED_AT, STREAM_ID, bytes, event_key,
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
    pub(crate) new: &'a NewEvent,
    pub(crate) payload: StoredPayload<'a>,
    /// The last public version before it.
    pub(crate) previous: Option<Previous>,
}

impl<'a> Recording<'a> {
    pub(crate) fn new(
        stream: &'a StreamId,
        version: u64,
        new: &'a NewEvent,
        previous: Option<Previous>,
        compression: Compression,
    ) -> Self {
        let payload = compression.store(new.payload_text(), event_bytes(stream, new));
        Self { stream, version, new, payload, previous }
    }
}

/// The bytes of an event's item with the payload as text, and with numbers at their widest: the place is not known yet, and
/// what was accepted must fit wherever it goes.
pub(crate) fn event_bytes(stream: &StreamId, event: &NewEvent) -> usize {
    const UUID_BYTES: usize = 16;
    const KEY_BYTES: usize = STREAM_ID.len() + ENTITY.len() + EVENT_PREFIX.len() + DIGITS;
    const ID_BYTES: usize = APPEND_ID.len() + UUID_BYTES;
    const NAME_BYTES: usize = EVENT_TYPE.len() + PAYLOAD.len();
    const NUMBER_BYTES: usize = RECORDED_AT.len() + APPEND_FIRST.len() + APPEND_LAST.len() + 3 * WIDEST_NUMBER_BYTES;
    const PRIVATE_BYTES: usize =
        IS_PRIVATE.len() + 1 + PREVIOUS_VERSION.len() + PREVIOUS_AT.len() + 2 * WIDEST_NUMBER_BYTES;
    let fixed_bytes = KEY_BYTES + ID_BYTES + NAME_BYTES + NUMBER_BYTES;
    let text_bytes = stream.as_str().len() + event.event_type().len() + event.payload_text().len();
    let metadata_bytes = event.metadata().stored().map_or(0, |text| METADATA.len() + text.len());
    let private_bytes = if event.is_private() { PRIVATE_BYTES } else { 0 };
    fixed_bytes + text_bytes + metadata_bytes + private_bytes
}

/// What an event and its copy have in common.
pub(super) fn insert_event(attributes: &mut Item, event: &Recording<'_>) {
    attributes.insert(EVENT_TYPE.to_owned(), text(event.new.event_type()));
    attributes.insert(PAYLOAD.to_owned(), event.payload.value());
    if let Some(encoding) = event.payload.encoding() {
        attributes.insert(PAYLOAD_ENCODING.to_owned(), text(encoding));
    }
    if let Some(metadata) = event.new.metadata().stored() {
        attributes.insert(METADATA.to_owned(), text(metadata));
    }
}

/// The event entity.
pub(crate) fn event_item(event: &Recording<'_>, append: &AppendRange, recorded_at_ms: i64) -> Item {
    let mut item = key(event.stream.as_str(), event_key(event.version));
    insert_event(&mut item, event);
    item.insert(RECORDED_AT.to_owned(), number(recorded_at_ms));
    item.insert(APPEND_ID.to_owned(), bytes(append.id));
    if append.first < append.last {
        item.insert(APPEND_FIRST.to_owned(), number(append.first));
        item.insert(APPEND_LAST.to_owned(), number(append.last));
    }
    if event.new.is_private() {
        insert_private(&mut item, event.previous);
    }
    item
}

/// What a private event says, and the marker whose last event is one.
pub(super) fn insert_private(item: &mut Item, previous: Option<Previous>) {
    item.insert(IS_PRIVATE.to_owned(), AttributeValue::Bool(true));
    insert_previous(item, previous);
}

pub(super) fn insert_previous(item: &mut Item, previous: Option<Previous>) {
    if let Some(previous) = previous {
        item.insert(PREVIOUS_VERSION.to_owned(), number(previous.version));
        item.insert(PREVIOUS_AT.to_owned(), number(previous.recorded_at_ms));
    }
}

/// The name of an attribute, if a key or an event has it.
pub(crate) fn event_attribute(name: &str) -> Option<&'static str> {
    const NAMES: [&str; 13] = [
        STREAM_ID,
        ENTITY,
        EVENT_TYPE,
        PAYLOAD,
        RECORDED_AT,
        APPEND_ID,
        APPEND_FIRST,
        APPEND_LAST,
        METADATA,
        PAYLOAD_ENCODING,
        IS_PRIVATE,
        PREVIOUS_VERSION,
        PREVIOUS_AT,
    ];
    NAMES.into_iter().find(|known| *known == name)
}

/// Reads an event entity that mostly is of the same stream as its neighbour, and then shares its stream id.
pub(crate) fn read_event_beside(neighbour: Option<&RecordedEvent>, item: Item) -> Result<RecordedEvent, Corrupt> {
    read_event(Fields::beside(neighbour.map(|event| &event.stream_id), item))
}

/// Reads an event entity.
pub(crate) fn read_event(item: impl Into<Fields>) -> Result<RecordedEvent, Corrupt> {
    let mut fields: Fields = item.into();
    let version = fields.version_in_key(EVENT_PREFIX)?;
    let append = fields.append(version)?;
    let recorded_at_ms = fields.number(RECORDED_AT)?;
    let is_private = fields.flag(IS_PRIVATE)?;
    let newest_public = if is_private { fields.previous(version)? } else { Some(Previous { version, recorded_at_ms }) };
    Ok(RecordedEvent {
        version,
        event_type: fields.text(EVENT_TYPE)?,
        payload: fields.payload()?,
        metadata: fields.metadata()?,
        recorded_at_ms,
        is_private,
        append,
        newest_public,
        stream_id: fields.stream,
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;
    use uuid::Uuid;

    use super::*;
    use crate::{metadata::Metadata, schema::item_bytes};

    fn range() -> AppendRange {
        AppendRange { id: Uuid::from_u128(1), first: 3, last: 3 }
    }

    fn recording<'a>(stream: &'a StreamId, new: &'a NewEvent) -> Recording<'a> {
        Recording::new(stream, 3, new, None, Compression::Off)
    }

    fn stream() -> StreamId {
        StreamId::new("order-1").unwrap()
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{\"a\": 1.0}").unwrap());
        let new = new.with_metadata(Metadata::new().with(Metadata::CORRELATION_ID, "c-1"));
        let item = event_item(&recording(&stream, &new), &range(), 1_700_000_000_123);
        let event = read_event(item).unwrap();
        assert_eq!((event.version, event.recorded_at_ms), (3, 1_700_000_000_123));
        assert_eq!((event.event_type.as_str(), event.payload.as_str()), ("Placed", "{\"a\": 1.0}"));
        assert_eq!((event.metadata, event.append), (new.metadata().clone(), range()));
    }

    #[test]
    fn what_is_the_usual_case_is_not_stored() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{}").unwrap());
        let attributes = |append: AppendRange| {
            let item = event_item(&recording(&stream, &new), &append, 1);
            assert_eq!(read_event(item.clone()).unwrap().append, append);
            let mut names: Vec<_> = item.into_keys().filter(|name| name != STREAM_ID && name != ENTITY).collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(attributes(range()), "append_id event_type payload recorded_at");
        let several = AppendRange { first: 2, ..range() };
        assert_eq!(attributes(several), "append_first append_id append_last event_type payload recorded_at");
    }

    #[test]
    fn the_bytes_of_an_event_are_those_of_its_widest_item() {
        let stream = stream();
        let plain = NewEvent::from_json_text("Placed", "{}").unwrap();
        let full = plain.clone().with_metadata(Metadata::new().with("by", "ann")).private();
        let widest = AppendRange { id: Uuid::max(), first: u64::MAX - 1, last: u64::MAX };
        let previous = Some(Previous { version: u64::MAX, recorded_at_ms: i64::MAX });
        for new in [plain, full] {
            let recording = Recording::new(&stream, u64::MAX, &new, previous, Compression::Off);
            let item = event_item(&recording, &widest, i64::MAX);
            assert_eq!(event_bytes(&stream, &new), item_bytes(&item));
        }
    }

    #[test]
    fn a_damaged_item_is_reported_with_its_place_and_its_fault() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{}").unwrap());
        let damage = |name: &str, value: Option<AttributeValue>| {
            let mut item = event_item(&recording(&stream, &new), &range(), 1);
            item.remove(name);
            item.extend(value.map(|value| (name.to_owned(), value)));
            read_event(item).expect_err(name).to_string()
        };
        assert!(damage(PAYLOAD, None).ends_with("event#00000000000000000003: payload is missing"));
        assert!(damage(APPEND_ID, Some(text("x"))).contains("append_id is not binary"));
        assert!(
            damage(APPEND_ID, Some(AttributeValue::B(Blob::new([1; 15]))))
                .contains("append_id is not a UUID: 15 bytes")
        );
        assert!(damage(APPEND_LAST, Some(number(2))).contains("append_first is missing"));
        assert!(damage(APPEND_FIRST, Some(number(2))).contains("append_last is missing"));
        assert!(damage(RECORDED_AT, Some(text("1"))).contains("recorded_at is not a number"));
        assert!(damage(ENTITY, Some(text("event#3"))).contains("20 digits"));
        assert!(damage(METADATA, Some(text("[]"))).contains("JSON object"));
    }
}
