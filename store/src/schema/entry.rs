//! The pending entry: how it is written and read.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    EVENTS, Item, LAST_VERSION, PAYLOAD, PENDING_PREFIX, PENDING_SINCE, PREVIOUS_AT, PREVIOUS_FIRST, PUBLIC_VERSIONS,
    event::{Recording, event_attributes},
    fields::Fields,
    key, number, payload, pending_key,
    size::item_bytes,
};
use crate::{
    error::Corrupt,
    event::AppendRange,
    limits::{MAX_INLINE_ENTRY_BYTES, MAX_INLINE_PAYLOAD_BYTES},
    outbox::entry::PendingEntry,
    stream::Previous,
};

/// The pending entry of one append: with a copy of its events if that costs nothing.
pub(crate) fn pending_item(
    events: &[Recording<'_>],
    range: &AppendRange,
    recorded_at_ms: i64,
    previous: Option<Previous>,
) -> Item {
    let stream = events.first().map_or("", |event| event.stream.as_str());
    let mut item = key(stream, pending_key(range.first));
    item.insert(PENDING_SINCE.to_owned(), number(recorded_at_ms));
    item.insert(LAST_VERSION.to_owned(), number(range.last));
    if let Some(previous) = previous {
        item.insert(PREVIOUS_FIRST.to_owned(), number(previous.first));
        item.insert(PREVIOUS_AT.to_owned(), number(previous.recorded_at_ms));
    }
    let public: Vec<_> = events.iter().filter(|event| !event.new.is_private()).collect();
    if public.len() < events.len() {
        let versions = public.iter().map(|event| number(event.version)).collect();
        item.insert(PUBLIC_VERSIONS.to_owned(), AttributeValue::L(versions));
    }
    let payload_bytes: usize = public.iter().map(|event| event.payload.len()).sum();
    let unpacked_bytes: usize = public.iter().map(|event| event.new.payload_text().len()).sum();
    if payload_bytes < MAX_INLINE_ENTRY_BYTES && unpacked_bytes <= MAX_INLINE_PAYLOAD_BYTES {
        let copies = public.into_iter().map(|event| AttributeValue::M(event_attributes(event))).collect();
        item.insert(EVENTS.to_owned(), AttributeValue::L(copies));
        if item_bytes(&item) > MAX_INLINE_ENTRY_BYTES {
            item.remove(EVENTS);
        }
    }
    item
}

/// Reads a pending entry.
pub(crate) fn read_pending(item: Item) -> Result<PendingEntry, Corrupt> {
    let mut fields = Fields::new(item);
    let first = fields.version_in_key(PENDING_PREFIX)?;
    let last = fields.version(LAST_VERSION)?;
    fields.check_append(first, last)?;
    let pending_since_ms = fields.number(PENDING_SINCE)?;
    let previous = fields.previous(PREVIOUS_FIRST, PREVIOUS_AT, first)?;
    let public = fields.versions(PUBLIC_VERSIONS, first..=last)?;
    let events = match fields.take(EVENTS) {
        None => None,
        Some(AttributeValue::L(copies)) => {
            let versions = public.clone().unwrap_or_else(|| (first..=last).collect());
            if copies.len() != versions.len() {
                return Err(fields.wrong(format!("{EVENTS} has {} of {} events", copies.len(), versions.len())));
            }
            if copies.iter().map(copied_bytes).fold(0, usize::saturating_add) > MAX_INLINE_PAYLOAD_BYTES {
                None
            } else {
                let copies = copies.into_iter().zip(versions);
                let events = copies.map(|(copy, version)| fields.copied_event(copy, version, pending_since_ms));
                Some(events.collect::<Result<_, _>>()?)
            }
        }
        Some(_) => return Err(fields.wrong(format!("{EVENTS} is not a list"))),
    };
    Ok(PendingEntry { first, last, public, pending_since_ms, previous, events, stream_id: fields.stream })
}

/// What has to be known of a pending entry to remove it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntryOutline {
    pub(crate) first: u64,
    /// Unknown if the entry is damaged. That one above all has to be skippable.
    pub(crate) last: Option<u64>,
    /// The first version of the previous entry.
    pub(crate) previous: Option<u64>,
}

/// Reads what can be read of a pending entry. `None` if its sort key has no version.
pub(crate) fn read_outline(item: Item) -> Option<EntryOutline> {
    let mut fields = Fields::new(item);
    let first = fields.version_in_key(PENDING_PREFIX).ok()?;
    let last = fields.number(LAST_VERSION).ok().filter(|last| fields.check_append(first, *last).is_ok());
    // Nothing can be proved of an append that can't be one before.
    let previous = fields.number(PREVIOUS_FIRST).ok().filter(|previous| (1..first).contains(previous));
    Some(EntryOutline { first, last, previous })
}

/// The copies that a pending entry has, as far as writing limits them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copies {
    item_bytes: usize,
}

/// The copies of an item that is a pending entry, if it has any.
pub(crate) fn copies(item: &Item) -> Option<Copies> {
    item.contains_key(EVENTS).then(|| Copies { item_bytes: item_bytes(item) })
}

impl Copies {
    /// The limit that they are beyond. They are read all the same, or the events are.
    pub(crate) fn broken_rule(self, entry: &PendingEntry) -> Option<String> {
        let Self { item_bytes } = self;
        if item_bytes > MAX_INLINE_ENTRY_BYTES {
            return Some(format!(
                "an entry with copies of its events has at most {MAX_INLINE_ENTRY_BYTES} bytes, this one {item_bytes}"
            ));
        }
        entry
            .events
            .is_none()
            .then(|| format!("its copies of events unpack to more than {MAX_INLINE_PAYLOAD_BYTES} bytes"))
    }
}

/// What the payload of a copy takes when it is unpacked, by what it says of itself.
fn copied_bytes(copy: &AttributeValue) -> usize {
    copy.as_m().ok().and_then(|copy| copy.get(PAYLOAD)).map_or(0, payload::claimed_bytes)
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;
    use uuid::Uuid;

    use super::*;
    use crate::{
        event::NewEvent,
        limits::MAX_EVENTS_PER_APPEND,
        schema::{Compression, arbitrary, text},
        stream::StreamId,
    };

    #[test]
    fn a_pending_entry_copies_its_events_up_to_one_kilobyte_and_not_beyond() {
        let stream = StreamId::new("order-1").unwrap();
        let range = AppendRange { id: Uuid::from_u128(1), first: 3, last: 3 };
        let entry = |payload_bytes: usize| {
            let payload = format!("\"{}\"", "x".repeat(payload_bytes - 2));
            let new = NewEvent::from_json_text("Placed", payload).unwrap();
            let recording = Recording::new(&stream, 3, Uuid::from_u128(2), &new, Compression::Off);
            pending_item(&[recording], &range, 1_700_000_000_123, None)
        };
        let fixed = item_bytes(&entry(2)) - 2;
        let most = MAX_INLINE_ENTRY_BYTES - fixed;
        assert_eq!(item_bytes(&entry(most)), MAX_INLINE_ENTRY_BYTES);
        assert!(read_pending(entry(most)).unwrap().events.is_some());
        assert!(read_pending(entry(most + 1)).unwrap().events.is_none());
    }

    #[test]
    fn copies_that_would_unpack_to_more_than_a_relay_can_hold_are_neither_written_nor_unpacked() {
        let stream = StreamId::new("order-1").unwrap();
        let range = AppendRange { id: Uuid::from_u128(1), first: 3, last: 3 };
        let entry = |payload_bytes: usize| {
            let new = NewEvent::from_json_text("Placed", format!("\"{}\"", "x".repeat(payload_bytes - 2))).unwrap();
            let recording = Recording::new(&stream, 3, Uuid::from_u128(2), &new, Compression::default());
            pending_item(&[recording], &range, 1, None)
        };
        let largest = entry(MAX_INLINE_PAYLOAD_BYTES);
        let copied = read_pending(largest.clone()).unwrap().events.expect("it is compressed, and copied");
        assert_eq!(copied[0].payload.len(), MAX_INLINE_PAYLOAD_BYTES);
        assert!(!entry(MAX_INLINE_PAYLOAD_BYTES + 1).contains_key(EVENTS));

        // Another client's: a few bytes that claim to be many.
        let mut bomb = largest;
        let frame = zstd::bulk::compress(&vec![b'0'; 400_000], 1).unwrap();
        let copy =
            |bytes: Vec<u8>| AttributeValue::M(Item::from([(PAYLOAD.to_owned(), AttributeValue::B(Blob::new(bytes)))]));
        bomb.insert(EVENTS.to_owned(), AttributeValue::L(vec![copy(frame)]));
        assert_eq!(read_pending(bomb).unwrap().events, None, "the relay reads the event itself");
    }

    #[test]
    fn versions_that_are_no_part_of_the_append_in_order_are_reported() {
        let stream = StreamId::new("order-1").unwrap();
        let range = AppendRange { id: Uuid::from_u128(1), first: 3, last: 5 };
        let item = |versions: &[u64]| {
            let mut item = pending_item(&[], &range, 1, None);
            item.extend(key(stream.as_str(), pending_key(3)));
            item.remove(EVENTS);
            item.insert(PUBLIC_VERSIONS.to_owned(), AttributeValue::L(versions.iter().map(|v| number(*v)).collect()));
            item
        };
        assert_eq!(read_pending(item(&[3, 5])).unwrap().public, Some(vec![3, 5]));
        for wrong in [&[][..], &[2, 3], &[5, 3], &[3, 3], &[6]] {
            let error = read_pending(item(wrong)).unwrap_err().to_string();
            assert!(error.contains("public_versions is not a list of versions from 3 to 5"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_damaged_entry_has_a_first_version_at_least() {
        let entry = |last: &str| {
            let mut item = key("order-1", pending_key(3));
            item.insert(LAST_VERSION.to_owned(), text(last));
            item
        };
        let read = |item: &Item| read_outline(item.clone()).map(|entry| (entry.first, entry.last, entry.previous));
        assert_eq!(read(&entry("x")), Some((3, None, None)));
        let mut whole = entry("");
        whole.insert(LAST_VERSION.to_owned(), number(5));
        whole.insert(PREVIOUS_FIRST.to_owned(), number(2));
        assert_eq!(read(&whole), Some((3, Some(5), Some(2))));
        whole.insert(LAST_VERSION.to_owned(), number(2));
        assert_eq!(read(&whole), Some((3, None, Some(2))), "less than the first is damage, too");
        whole.insert(LAST_VERSION.to_owned(), number(u64::MAX));
        assert_eq!(read(&whole), Some((3, None, Some(2))), "so is more than an append can have");
        whole.insert(PREVIOUS_FIRST.to_owned(), number(3));
        assert_eq!(read(&whole), Some((3, None, None)), "it is not before itself");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_pending_can_be_looked_at(
            item in arbitrary::damaged(key("order-1", pending_key(3)), PENDING_PREFIX)
        ) {
            if let Some(entry) = read_outline(item) {
                let versions = entry.first..entry.first + MAX_EVENTS_PER_APPEND as u64;
                assert!(entry.last.is_none_or(|last| versions.contains(&last)));
                assert!(entry.previous.is_none_or(|previous| previous < entry.first));
            }
        }
    }
}
