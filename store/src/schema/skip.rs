//! The record of a skip: how it is written and read.

use uuid::Uuid;

use super::{
    GAVE_UP_PREVIOUS, Item, SKIP_REASON, SKIPPED_AT, SKIPPED_BY, SKIPPED_FIRST, SKIPPED_KEY, SKIPPED_LAST,
    SKIPPED_STREAM, SKIPS_PARTITION, fields::Fields, key, number, skip_key, text,
};
use crate::{outbox::skip::Skip, stream::StreamId};

/// The record. Its key begins with the time, so that the newest are found first; the id distinguishes skips of the
/// same millisecond.
pub(crate) fn skip_item(skip: &Skip, id: Uuid) -> Item {
    let mut item = key(SKIPS_PARTITION, skip_key(skip.at_ms, id));
    item.extend([
        (SKIPPED_STREAM.to_owned(), text(skip.stream_id.as_str())),
        (SKIPPED_LAST.to_owned(), number(skip.last)),
        (SKIPPED_AT.to_owned(), number(skip.at_ms)),
        (SKIPPED_BY.to_owned(), text(&skip.by)),
        (SKIP_REASON.to_owned(), text(&skip.reason)),
    ]);
    item.extend(skip.first.map(|first| (SKIPPED_FIRST.to_owned(), number(first))));
    item.extend(skip.key.as_ref().map(|key| (SKIPPED_KEY.to_owned(), text(key))));
    item.extend(skip.gave_up_previous.map(|version| (GAVE_UP_PREVIOUS.to_owned(), number(version))));
    item
}

/// What can't be read is empty or 0: a newer version may have written it otherwise.
pub(crate) fn read_skip(item: Item) -> Skip {
    let mut fields = Fields::new(item);
    Skip {
        stream_id: StreamId::stored(&fields.text(SKIPPED_STREAM).unwrap_or_default()),
        first: fields.number(SKIPPED_FIRST).ok(),
        last: fields.number(SKIPPED_LAST).unwrap_or_default(),
        key: fields.has(SKIPPED_KEY).then(|| fields.text(SKIPPED_KEY).unwrap_or_default()),
        gave_up_previous: fields.number(GAVE_UP_PREVIOUS).ok(),
        at_ms: fields.number(SKIPPED_AT).unwrap_or_default(),
        by: fields.text(SKIPPED_BY).unwrap_or_default(),
        reason: fields.text(SKIP_REASON).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ENTITY, PENDING_PREFIX, SKIP_PREFIX, arbitrary, pending_key};

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let stream_id = StreamId::new("order-1").unwrap();
        let (by, reason) = ("ada@desk".to_owned(), "a test order".to_owned());
        let (key, gave_up_previous) = (None, Some(1));
        let at_ms = 1_780_000_000_000;
        let skip = Skip { stream_id, first: Some(3), last: 5, key, gave_up_previous, at_ms, by, reason };
        let item = skip_item(&skip, Uuid::from_u128(1));
        assert_eq!(read_skip(item.clone()), skip);
        let key = item[ENTITY].as_s().unwrap();
        assert_eq!(key, "skip#00000001780000000000#00000000-0000-0000-0000-000000000001");
        let unreadable = Skip { first: None, gave_up_previous: None, ..skip };
        assert_eq!(read_skip(skip_item(&unreadable, Uuid::nil())), unreadable);
        let without_version = Skip { last: 0, key: Some("pending#abc".to_owned()), ..unreadable };
        assert_eq!(read_skip(skip_item(&without_version, Uuid::nil())), without_version);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_recorded_can_be_looked_at(
            pending in arbitrary::damaged(key("order-1", pending_key(3)), PENDING_PREFIX),
            skipped in arbitrary::damaged(key(SKIPS_PARTITION, skip_key(1, Uuid::nil())), SKIP_PREFIX)
        ) {
            read_skip(pending);
            read_skip(skipped);
        }
    }
}
