//! The pending entry: how it is written and read.

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use super::{
    APPEND_ID, EVENTS, FIRST_VERSION, Item, PAYLOAD, PENDING_PREFIX, PENDING_SINCE, PREVIOUS_VERSION, PUBLIC_VERSIONS,
    bytes,
    event::{Recording, insert_event, insert_previous},
    fields::Fields,
    key, number, payload, pending_key,
    size::item_bytes,
};
use crate::{
    error::Corrupt,
    limits::{MAX_INLINE_ENTRY_BYTES, MAX_INLINE_PAYLOAD_BYTES},
    outbox::entry::PendingEntry,
};

/// The pending entry of one append: with a copy of its events if that costs nothing. None if all of them are private.
pub(crate) fn pending_item(events: &[Recording<'_>], append_id: Uuid, recorded_at_ms: i64) -> Option<Item> {
    let public: Vec<_> = events.iter().filter(|event| !event.new.is_private()).collect();
    let (first, last) = (public.first()?, public.last()?);
    let mut item = key(last.stream.as_str(), pending_key(last.version));
    item.insert(PENDING_SINCE.to_owned(), number(recorded_at_ms));
    if first.version < last.version {
        item.insert(FIRST_VERSION.to_owned(), number(first.version));
    }
    if (public.len() as u64) < last.version - first.version + 1 {
        let versions = public.iter().map(|event| number(event.version)).collect();
        item.insert(PUBLIC_VERSIONS.to_owned(), AttributeValue::L(versions));
    }
    insert_previous(&mut item, first.previous);
    let payload_bytes: usize = public.iter().map(|event| event.payload.len()).sum();
    let unpacked_bytes: usize = public.iter().map(|event| event.new.payload_text().len()).sum();
    if payload_bytes < MAX_INLINE_ENTRY_BYTES && unpacked_bytes <= MAX_INLINE_PAYLOAD_BYTES {
        let copy = |event| {
            let mut copy = Item::new();
            insert_event(&mut copy, event);
            AttributeValue::M(copy)
        };
        let copies = public.into_iter().map(copy).collect();
        item.insert(APPEND_ID.to_owned(), bytes(append_id));
        item.insert(EVENTS.to_owned(), AttributeValue::L(copies));
        if item_bytes(&item) > MAX_INLINE_ENTRY_BYTES {
            item.remove(APPEND_ID);
            item.remove(EVENTS);
        }
    }
    Some(item)
}

/// Reads a pending entry.
pub(crate) fn read_pending(item: Item) -> Result<PendingEntry, Corrupt> {
    let mut fields = Fields::new(item);
    let last = fields.version_in_key(PENDING_PREFIX)?;
    let first = if fields.has(FIRST_VERSION) { fields.version(FIRST_VERSION)? } else { last };
    fields.check_append(first, last)?;
    let pending_since_ms = fields.number(PENDING_SINCE)?;
    let previous = fields.previous(first)?;
    let public = fields.versions(PUBLIC_VERSIONS, first..=last)?;
    let copies = fields.take(EVENTS);
    let stream_id = fields.stream.clone();
    let mut entry = PendingEntry { stream_id, first, last, public, pending_since_ms, previous, events: None };
    match copies {
        None => {}
        Some(AttributeValue::L(copies)) => {
            let versions = entry.versions();
            if copies.len() != versions.len() {
                return Err(fields.wrong(format!("{EVENTS} has {} of {} events", copies.len(), versions.len())));
            }
            if copies.iter().map(copied_bytes).fold(0, usize::saturating_add) <= MAX_INLINE_PAYLOAD_BYTES {
                let append_id = fields.uuid(APPEND_ID)?;
                let copies = copies.into_iter().zip(versions);
                let events = copies.map(|(copy, version)| {
                    let place = (version, entry.public_before(version));
                    fields.copied_event(copy, append_id, place, pending_since_ms)
                });
                entry.events = Some(events.collect::<Result<_, _>>()?);
            }
        }
        Some(_) => return Err(fields.wrong(format!("{EVENTS} is not a list"))),
    }
    Ok(entry)
}

/// What has to be known of a pending entry to remove it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntryOutline {
    /// Unknown if the entry is damaged. That one above all has to be skippable.
    pub(crate) first: Option<u64>,
    pub(crate) last: u64,
    /// The last public version before it.
    pub(crate) previous: Option<u64>,
}

impl EntryOutline {
    /// Whether a version is one of those that it stands for.
    pub(crate) fn holds(&self, version: u64) -> bool {
        (self.first.unwrap_or(self.last)..=self.last).contains(&version)
    }

    pub(crate) fn versions(&self) -> (Option<u64>, u64) {
        (self.first, self.last)
    }
}

/// Reads what can be read of a pending entry. `None` if its sort key has no version.
pub(crate) fn read_outline(item: Item) -> Option<EntryOutline> {
    let mut fields = Fields::new(item);
    let last = fields.version_in_key(PENDING_PREFIX).ok()?;
    let first = if fields.has(FIRST_VERSION) { fields.version(FIRST_VERSION).ok() } else { Some(last) };
    let first = first.filter(|first| fields.check_append(*first, last).is_ok());
    // Nothing can be proved of a version that can't be one before.
    let before = 1..first.unwrap_or(last);
    let previous = fields.number(PREVIOUS_VERSION).ok().filter(|previous| before.contains(previous));
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

    use super::*;
    use crate::{
        event::NewEvent,
        limits::MAX_EVENTS_PER_APPEND,
        schema::{Compression, arbitrary, text},
        stream::{Previous, StreamId},
    };

    #[test]
    fn a_pending_entry_copies_its_events_up_to_one_kilobyte_and_not_beyond() {
        let stream = StreamId::new("order-1").unwrap();
        let entry = |payload_bytes: usize| {
            let payload = format!("\"{}\"", "x".repeat(payload_bytes - 2));
            let new = NewEvent::from_json_text("Placed", payload).unwrap();
            let recording = Recording::new(&stream, 3, &new, None, Compression::Off);
            pending_item(&[recording], Uuid::from_u128(1), 1_700_000_000_123).unwrap()
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
        let entry = |payload_bytes: usize| {
            let new = NewEvent::from_json_text("Placed", format!("\"{}\"", "x".repeat(payload_bytes - 2))).unwrap();
            let recording = Recording::new(&stream, 3, &new, None, Compression::default());
            pending_item(&[recording], Uuid::from_u128(1), 1).unwrap()
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
    fn an_entry_says_which_versions_are_to_be_published_and_which_one_was_before_each() {
        let stream = StreamId::new("order-1").unwrap();
        let entry = |publics: &[bool]| {
            let news: Vec<_> = publics
                .iter()
                .map(|is_public| {
                    let new = NewEvent::from_json_text("Placed", "{}").unwrap();
                    if *is_public { new } else { new.private() }
                })
                .collect();
            let mut previous = Some(Previous { version: 2, recorded_at_ms: 5 });
            let recordings: Vec<_> = (4..)
                .zip(&news)
                .map(|(version, new)| {
                    let recording = Recording::new(&stream, version, new, previous, Compression::Off);
                    if !new.is_private() {
                        previous = Some(Previous { version, recorded_at_ms: 6 });
                    }
                    recording
                })
                .collect();
            pending_item(&recordings, Uuid::from_u128(1), 6)
        };
        for (publics, attributes, versions) in [
            (&[true][..], 7, &[(4, 2)][..]),
            (&[true, true], 8, &[(4, 2), (5, 4)]),
            (&[false, true, false], 7, &[(5, 2)]),
            (&[true, false, true, false], 9, &[(4, 2), (6, 4)]),
        ] {
            let item = entry(publics).unwrap();
            assert_eq!(item.len(), attributes, "{item:?}");
            let read = read_pending(item).unwrap();
            assert_eq!(read.previous, Some(Previous { version: 2, recorded_at_ms: 5 }));
            assert_eq!((read.first, read.last), (versions[0].0, versions[versions.len() - 1].0));
            let published = read.events.unwrap();
            let published: Vec<_> =
                published.iter().map(|event| (event.version, event.previous_version.unwrap())).collect();
            assert_eq!(published, versions);
        }
        assert_eq!(entry(&[false, false]), None);
    }

    #[test]
    fn versions_that_are_no_part_of_the_append_in_order_are_reported() {
        let item = |versions: &[u64]| {
            let mut item = key("order-1", pending_key(5));
            item.insert(PENDING_SINCE.to_owned(), number(1));
            item.insert(FIRST_VERSION.to_owned(), number(3));
            item.insert(PUBLIC_VERSIONS.to_owned(), AttributeValue::L(versions.iter().map(|v| number(*v)).collect()));
            item
        };
        assert_eq!(read_pending(item(&[3, 5])).unwrap().public, Some(vec![3, 5]));
        for wrong in [&[][..], &[2, 3], &[5, 3], &[3, 3], &[6], &[4, 5], &[3, 4]] {
            let error = read_pending(item(wrong)).unwrap_err().to_string();
            assert!(error.contains("public_versions is not a list of versions from 3 to 5"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_damaged_entry_has_a_last_version_at_least() {
        let entry = |first: AttributeValue| {
            let mut item = key("order-1", pending_key(5));
            item.insert(FIRST_VERSION.to_owned(), first);
            item
        };
        let read = |item: &Item| read_outline(item.clone()).map(|entry| (entry.first, entry.last, entry.previous));
        assert_eq!(read(&entry(text("x"))), Some((None, 5, None)));
        assert_eq!(read(&key("order-1", pending_key(5))), Some((Some(5), 5, None)));
        let mut whole = entry(number(3));
        whole.insert(PREVIOUS_VERSION.to_owned(), number(2));
        assert_eq!(read(&whole), Some((Some(3), 5, Some(2))));
        whole.insert(FIRST_VERSION.to_owned(), number(6));
        assert_eq!(read(&whole), Some((None, 5, Some(2))), "more than the last is damage, too");
        let mut long = key("order-1", pending_key(500));
        long.insert(FIRST_VERSION.to_owned(), number(3));
        assert_eq!(read(&long), Some((None, 500, None)), "so is less than an append can have");
        whole.insert(FIRST_VERSION.to_owned(), number(2));
        assert_eq!(read(&whole), Some((Some(2), 5, None)), "it is not before itself");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_pending_can_be_looked_at(
            item in arbitrary::damaged(key("order-1", pending_key(300)), PENDING_PREFIX)
        ) {
            if let Some(entry) = read_outline(item) {
                let longest = MAX_EVENTS_PER_APPEND as u64;
                assert!(entry.first.is_none_or(|first| first <= entry.last && entry.last - first < longest));
                assert!(entry.previous.is_none_or(|previous| previous < entry.first.unwrap_or(entry.last)));
            }
        }
    }
}
