//! The marker entity: that a command was carried out, for as long as the stream is there.

use uuid::Uuid;

use super::{
    APPEND_FIRST, APPEND_LAST, COMMAND_PREFIX, IS_PRIVATE, Item, RECORDED_AT, command_key, event::insert_private,
    fields::Fields, key, number,
};
use crate::{
    error::Corrupt,
    event::AppendRange,
    stream::{Previous, StreamId},
};

/// The append of a command: all that is needed to report it once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) append: AppendRange,
    pub(crate) recorded_at_ms: i64,
    /// The last public version up to the append's end.
    pub(crate) newest_public: Option<Previous>,
}

/// At most so many bytes has a marker beside its stream id.
const WIDEST_BYTES: usize = 200;

/// No marker of the stream has more bytes.
pub(crate) fn marker_bytes(stream: &StreamId) -> usize {
    stream.as_str().len() + WIDEST_BYTES
}

/// The marker entity.
pub(crate) fn marker_item(stream: &StreamId, marker: &Marker) -> Item {
    let Marker { append, recorded_at_ms, newest_public } = marker;
    let mut item = key(stream.as_str(), command_key(append.id));
    item.extend([
        (APPEND_FIRST.to_owned(), number(append.first)),
        (APPEND_LAST.to_owned(), number(append.last)),
        (RECORDED_AT.to_owned(), number(*recorded_at_ms)),
    ]);
    // As the append's last event has it.
    if newest_public.is_none_or(|newest| newest.version != append.last) {
        insert_private(&mut item, *newest_public);
    }
    item
}

/// Reads a marker entity.
pub(crate) fn read_marker(item: Item) -> Result<Marker, Corrupt> {
    let mut fields = Fields::new(item);
    let id = fields.entity.strip_prefix(COMMAND_PREFIX).and_then(|id| Uuid::parse_str(id).ok());
    let Some(id) = id.filter(|id| command_key(*id) == fields.entity) else {
        return Err(fields.wrong(format!("the key is not `{COMMAND_PREFIX}` and a UUID")));
    };
    let append = AppendRange { id, first: fields.version(APPEND_FIRST)?, last: fields.version(APPEND_LAST)? };
    fields.check_append(append.first, append.last)?;
    let recorded_at_ms = fields.number(RECORDED_AT)?;
    let newest_public = if fields.flag(IS_PRIVATE)? {
        fields.previous(append.last)?
    } else {
        Some(Previous { version: append.last, recorded_at_ms })
    };
    Ok(Marker { append, recorded_at_ms, newest_public })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ENTITY, item_bytes, text};

    fn marker(newest_public: Option<Previous>) -> Marker {
        let append = AppendRange { id: Uuid::from_u128(7), first: 3, last: 4 };
        Marker { append, recorded_at_ms: 5, newest_public }
    }

    fn item(marker: &Marker) -> Item {
        marker_item(&StreamId::new("order-1").unwrap(), marker)
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let [last, first, before] = [4, 3, 1].map(|version| Some(Previous { version, recorded_at_ms: 5 }));
        for (newest_public, attributes) in [(last, 5), (first, 8), (before, 8), (None, 6)] {
            let item = item(&marker(newest_public));
            assert_eq!(item.len(), attributes);
            assert_eq!(read_marker(item), Ok(marker(newest_public)));
        }
    }

    #[test]
    fn no_marker_has_more_bytes_than_are_counted_for_it() {
        let stream = StreamId::new("order-1").unwrap();
        let append = AppendRange { id: Uuid::max(), first: u64::MAX, last: u64::MAX };
        let newest_public = Some(Previous { version: u64::MAX - 1, recorded_at_ms: i64::MAX });
        let widest = Marker { append, recorded_at_ms: i64::MAX, newest_public };
        let bytes = item_bytes(&marker_item(&stream, &widest));
        assert!((1..=marker_bytes(&stream)).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_damaged_marker_is_reported_with_its_place_and_its_fault() {
        let [simple, upper] = [Uuid::from_u128(7).simple().to_string(), "A".repeat(32)];
        for (name, value, fault) in [
            (ENTITY, text("command#7"), "command#7: the key is not `command#` and a UUID"),
            (ENTITY, text(format!("command#{simple}")), "a UUID"),
            (ENTITY, text(format!("command#{upper}")), "a UUID"),
            (APPEND_LAST, number(2), "ends at version 2, before it begins at 3"),
            (APPEND_LAST, number(200), "at most 99"),
            (RECORDED_AT, text("1"), "recorded_at is not a number"),
            (IS_PRIVATE, text("1"), "is_private is not true or false"),
        ] {
            let mut item = item(&marker(None));
            item.insert(name.to_owned(), value);
            let error = read_marker(item).expect_err(name).to_string();
            assert!(error.contains(fault), "{name}: {error}");
        }
    }
}
