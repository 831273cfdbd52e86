//! The items of a transaction, built without I/O: for each stream its events in order, its pending entry and its command's marker,
//! then the caller's own.

use std::fmt;

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use uuid::Uuid;

use super::{Appended, Part};
use crate::{
    event::{AppendRange, NewEvent},
    schema::{self, Compression, ENTITY, Item, Marker, Recording},
    stream::{Previous, StreamPosition},
    table::Table,
};

/// What one item of a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// The event at a place of an append.
    Event { part: usize, index: usize },
    /// The pending entry of an append.
    Entry { part: usize },
    /// The marker of a command.
    Marker { part: usize },
    /// An item of the caller's own.
    Own { position: usize },
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { index, .. } => write!(f, "event {index} of the append"),
            Self::Entry { .. } => f.write_str("the pending entry"),
            Self::Marker { .. } => f.write_str("the command's marker"),
            Self::Own { position } => write!(f, "item {position} of the caller's own"),
        }
    }
}

/// The request of a call at the positions where its appends go. The same each time that it is sent.
pub(super) struct Request<'a> {
    table: &'a Table,
    append_id: Uuid,
    appends: Vec<Prepared<'a>>,
    own: &'a [TransactWriteItem],
    slots: Vec<Slot>,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        table: &'a Table,
        append_id: Uuid,
        parts: &'a [Part],
        own: &'a [TransactWriteItem],
        positions: &'a [StreamPosition],
    ) -> Self {
        let recorded_at_ms = table.now_ms();
        let (mut appends, mut slots) = (Vec::with_capacity(parts.len()), Vec::new());
        for (part, (append, at)) in parts.iter().zip(positions).enumerate() {
            slots.extend((0..append.events.len()).map(|index| Slot::Event { part, index }));
            slots.extend(append.has_entry().then_some(Slot::Entry { part }));
            slots.extend(append.is_marked.then_some(Slot::Marker { part }));
            appends.push(Prepared::new(append_id, append, at, recorded_at_ms, table.compression()));
        }
        slots.extend((0..own.len()).map(|position| Slot::Own { position }));
        Self { table, append_id, appends, own, slots }
    }

    /// What each item is.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn items(&self) -> Vec<TransactWriteItem> {
        let nothing_there = format!("attribute_not_exists({ENTITY})");
        let put = |item| put(self.table.name(), &nothing_there, item);
        let mut items = Vec::with_capacity(self.slots.len());
        items.extend(self.appends.iter().flat_map(Prepared::items).map(put));
        items.extend_from_slice(self.own);
        items
    }

    /// The results, if it is stored.
    pub(super) fn results(self, write_units: f64) -> Vec<Appended> {
        let Self { table, append_id, appends, .. } = self;
        let result = |append: Prepared<'_>| {
            let Prepared { at, range, recorded_at_ms, newest_public, .. } = append;
            let stream = at.stream().clone();
            Appended {
                append_id,
                first_version: range.first,
                position: StreamPosition::after(table.full_name(), stream, range.last, append_id, newest_public),
                recorded_at_ms,
                already_stored: false,
                write_units,
            }
        };
        appends.into_iter().map(result).collect()
    }
}

/// One append of a transaction.
struct Prepared<'a> {
    /// The position behind which it goes.
    at: &'a StreamPosition,
    recordings: Vec<Recording<'a>>,
    range: AppendRange,
    recorded_at_ms: i64,
    is_marked: bool,
    /// The last public version up to its end: what the next pending entry names.
    newest_public: Option<Previous>,
}

impl<'a> Prepared<'a> {
    fn new(
        append_id: Uuid,
        part: &'a Part,
        at: &'a StreamPosition,
        recorded_at_ms: i64,
        compression: Compression,
    ) -> Self {
        let first = at.version() + 1;
        let range = AppendRange { id: append_id, first, last: at.version() + part.events.len() as u64 };
        let mut newest_public = at.newest_public();
        let recording = |(new, version): (&'a NewEvent, u64)| {
            let recording = Recording::new(&part.stream, version, new, newest_public, compression);
            if !new.is_private() {
                newest_public = Some(Previous { version, recorded_at_ms });
            }
            recording
        };
        let recordings = part.events.iter().zip(first..).map(recording).collect();
        Self { at, recordings, range, recorded_at_ms, is_marked: part.is_marked, newest_public }
    }

    /// The events in order, then the pending entry and the marker, if there are any.
    fn items(&self) -> Vec<Item> {
        let Self { at, recordings, range, recorded_at_ms, is_marked, newest_public } = self;
        let mut items = Vec::with_capacity(recordings.len() + 2);
        items.extend(recordings.iter().map(|event| schema::event_item(event, range, *recorded_at_ms)));
        items.extend(schema::pending_item(recordings, range.id, *recorded_at_ms));
        if *is_marked {
            let marker = Marker { append: *range, recorded_at_ms: *recorded_at_ms, newest_public: *newest_public };
            items.push(schema::marker_item(at.stream(), &marker));
        }
        items
    }
}

/// A put whose condition is that nothing is there yet. If it fails, DynamoDB is to return what is there.
fn put(table: &str, nothing_there: &str, item: Item) -> TransactWriteItem {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(nothing_there)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("a put has a table and an item");
    TransactWriteItem::builder().put(put).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{ExpectedVersion, StreamId};

    #[test]
    fn an_append_is_its_events_in_order_one_pending_entry_and_its_commands_marker() {
        let stream = StreamId::new("order-1").unwrap();
        let events = ["A", "B"].map(|event_type| NewEvent::from_json_text(event_type, "{}").unwrap());
        let part = Part::new(&stream, ExpectedVersion::Any, events).marked(true);
        let at = StreamPosition::after(
            &"events".into(),
            stream,
            3,
            Uuid::max(),
            Some(Previous { version: 3, recorded_at_ms: 6 }),
        );

        let prepared = Prepared::new(Uuid::from_u128(1), &part, &at, 7, Compression::default());

        let items = prepared.items();
        let keys: Vec<_> = items.iter().map(|item| item[ENTITY].as_s().unwrap().as_str()).collect();
        let expected = [
            "event#00000000000000000004",
            "event#00000000000000000005",
            "pending#00000000000000000005",
            "command#00000000-0000-0000-0000-000000000001",
        ];
        assert_eq!(keys, expected);
        let marker = schema::read_marker(items[3].clone()).unwrap();
        assert_eq!((marker.append, marker.newest_public), (prepared.range, prepared.newest_public));
        let entry = schema::read_pending(items[2].clone()).unwrap();
        assert_eq!((entry.first, entry.last), (4, 5));
        assert_eq!(entry.previous, Some(Previous { version: 3, recorded_at_ms: 6 }));
        assert_eq!(prepared.newest_public, Some(Previous { version: 5, recorded_at_ms: 7 }));
    }
}
