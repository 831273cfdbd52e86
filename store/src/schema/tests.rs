//! Items of other clients: reading them does not panic, allocates nothing by what they claim, and an error names the item.

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    COMMAND_PREFIX, EVENT_PREFIX, Item, Marker, PENDING_PREFIX, Recording,
    arbitrary::{damaged, entity},
    command_key, event_item, event_key, event_version, marker_item, pending_item, pending_key, pending_last,
    read_entity, read_event, read_marker, read_pending, read_snapshot, read_stream_id, snapshot_item, stray,
};
use crate::{
    error::Corrupt,
    event::{AppendRange, NewEvent},
    limits::{MAX_EVENTS_PER_APPEND, MAX_INLINE_PAYLOAD_BYTES, MAX_VERSION},
    schema::Compression,
    snapshot::NewSnapshot,
    stream::{Previous, StreamId},
};

pub(crate) fn names_the_item(item: &Item, corrupt: &Corrupt) {
    assert_eq!((corrupt.stream.clone(), corrupt.at.as_str()), (read_stream_id(item), read_entity(item)));
    assert!(!corrupt.what.is_empty());
}

/// An event and its entry, of an append of two of which the second is private.
pub(crate) fn sound() -> (Item, Item) {
    let stream = StreamId::new("order-1").expect("a sound id");
    let events = [("Placed", false), ("Paid", true)].map(|(name, is_private)| {
        let new = NewEvent::from_json_text(name, "{}").expect("a sound event");
        if is_private { new.private() } else { new }
    });
    let range = AppendRange { id: Uuid::from_u128(1), first: 3, last: 4 };
    let [before, first] = [(1, 1), (3, 2)].map(|(version, recorded_at_ms)| Some(Previous { version, recorded_at_ms }));
    let [placed, paid] = &events;
    let recordings = [(3, placed, before), (4, paid, first)]
        .map(|(version, new, previous)| Recording::new(&stream, version, new, previous, Compression::Off));
    (event_item(&recordings[1], &range, 2), pending_item(&recordings, range.id, 2).expect("one is public"))
}

fn marker() -> Marker {
    let append = AppendRange { id: Uuid::from_u128(1), first: 3, last: 4 };
    Marker { append, recorded_at_ms: 2, newest_public: Some(Previous { version: 1, recorded_at_ms: 1 }) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_pending_entry_that_is_read_is_no_larger_than_an_append_and_any_other_is_named(
        item in damaged(sound().1, PENDING_PREFIX)
    ) {
        match read_pending(item.clone()) {
            Ok(entry) => {
                prop_assert_eq!(&pending_key(entry.last), read_entity(&item));
                let all = MAX_EVENTS_PER_APPEND as u64;
                prop_assert!(entry.first >= 1 && entry.last <= MAX_VERSION && entry.last - entry.first < all);
                prop_assert!(entry.previous.is_none_or(|previous| (1..entry.first).contains(&previous.version)));
                let mut after = 0;
                let mut published = 0;
                while let Some(next) = entry.next_public(after) {
                    prop_assert!(next > after && next <= entry.last);
                    (after, published) = (next, published + 1);
                }
                prop_assert!(published <= all);
                if let Some(copies) = entry.events {
                    let bytes: usize = copies.iter().map(|copy| copy.payload.len()).sum();
                    prop_assert!(copies.len() as u64 == published && bytes <= MAX_INLINE_PAYLOAD_BYTES);
                }
            }
            Err(corrupt) => names_the_item(&item, &corrupt),
        }
    }

    #[test]
    fn an_event_that_is_read_is_of_an_append_that_can_be_and_any_other_is_named(
        item in damaged(sound().0, EVENT_PREFIX)
    ) {
        match read_event(item.clone()) {
            Ok(event) => {
                prop_assert_eq!(&event_key(event.version), read_entity(&item));
                let append = event.append;
                prop_assert!((append.first..=append.last).contains(&event.version) && append.last <= MAX_VERSION);
                prop_assert!(append.last - append.first < MAX_EVENTS_PER_APPEND as u64);
            }
            Err(corrupt) => names_the_item(&item, &corrupt),
        }
        if let Some(corrupt) = stray(&item) {
            names_the_item(&item, &corrupt);
        }
    }

    #[test]
    fn a_marker_that_is_read_is_of_an_append_that_can_be_and_any_other_is_named(
        item in damaged(marker_item(&StreamId::stored("order-1"), &marker()), COMMAND_PREFIX)
    ) {
        match read_marker(item.clone()) {
            Ok(Marker { append, newest_public, .. }) => {
                prop_assert_eq!(&command_key(append.id), read_entity(&item));
                prop_assert!(append.first >= 1 && append.first <= append.last && append.last <= MAX_VERSION);
                prop_assert!(append.last - append.first < MAX_EVENTS_PER_APPEND as u64);
                prop_assert!(newest_public.is_none_or(|newest| (1..=append.last).contains(&newest.version)));
            }
            Err(corrupt) => names_the_item(&item, &corrupt),
        }
    }

    #[test]
    fn a_snapshot_that_is_read_is_of_a_version_that_can_be_and_any_other_is_named(
        item in damaged(snapshot_item(&StreamId::stored("order-1"), &NewSnapshot::new(7, Uuid::from_u128(1), 1, "{}"), 1), "snapshot")
    ) {
        match read_snapshot(item.clone()) {
            Ok(snapshot) => prop_assert!((1..=MAX_VERSION).contains(&snapshot.version)),
            Err(corrupt) => names_the_item(&item, &corrupt),
        }
    }

    #[test]
    fn a_sort_key_is_the_one_of_its_version_or_of_none(
        event in entity(EVENT_PREFIX), entry in entity(PENDING_PREFIX)
    ) {
        prop_assert!(event_version(&event).is_none_or(|version| event_key(version) == event));
        prop_assert!(pending_last(&entry).is_none_or(|version| pending_key(version) == entry));
    }
}
