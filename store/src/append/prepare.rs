//! The items of a transaction, built without I/O: for each stream its events in order and its pending entry, then the
//! caller's own.

use std::fmt;

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use uuid::Uuid;

use super::Part;
use crate::{
    event::{AppendRange, NewEvent, event_id},
    schema::Compression,
    schema::{self, ENTITY, Item, Recording},
    stream::{Previous, StreamId, StreamPosition},
};

/// What one item of a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The event at a place of an append.
    Event { part: usize, index: usize },
    /// The pending entry of an append.
    Entry { part: usize },
    /// An item of the caller's own.
    Own { position: usize },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { index, .. } => write!(f, "event {index} of the append"),
            Self::Entry { .. } => f.write_str("the pending entry"),
            Self::Own { position } => write!(f, "item {position} of the caller's own"),
        }
    }
}

/// One append of a transaction at the place where it goes.
pub(super) struct Prepared {
    pub(super) items: Vec<Item>,
    pub(super) range: AppendRange,
    /// The newest append up to this one that has a pending entry: what the next one says of its predecessor.
    pub(super) newest_entry: Option<Previous>,
}

/// The items of one append behind `at`: the events in order, then the pending entry where there is one.
pub(super) fn prepare(
    append_id: Uuid,
    part: &Part,
    at: &StreamPosition,
    recorded_at_ms: i64,
    compression: Compression,
) -> Prepared {
    let first = at.version() + 1;
    let range = AppendRange { id: append_id, first, last: at.version() + part.events.len() as u64 };
    let recordings = recordings(append_id, &part.stream, &part.events, first, compression);
    let has_entry = part.has_entry();
    let newest_entry = if has_entry { Some(Previous { first, recorded_at_ms }) } else { at.newest_entry() };
    let mut items = Vec::with_capacity(recordings.len() + 1);
    items.extend(recordings.iter().map(|event| schema::event_item(event, &range, recorded_at_ms, newest_entry)));
    if has_entry {
        items.push(schema::pending_item(&recordings, &range, recorded_at_ms, at.newest_entry()));
    }
    Prepared { items, range, newest_entry }
}

fn recordings<'a>(
    append_id: Uuid,
    stream: &'a StreamId,
    events: &'a [NewEvent],
    first: u64,
    compression: Compression,
) -> Vec<Recording<'a>> {
    let recording =
        |(index, (new, version))| Recording::new(stream, version, event_id(append_id, stream, index), new, compression);
    events.iter().zip(first..).enumerate().map(recording).collect()
}

/// A put whose condition is that nothing is there yet. Where it fails, DynamoDB is to return what is there.
pub(super) fn put(table: &str, item: Item) -> TransactWriteItem {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(format!("attribute_not_exists({ENTITY})"))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("a put has a table and an item");
    TransactWriteItem::builder().put(put).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExpectedVersion;

    #[test]
    fn an_append_is_its_events_in_order_and_one_pending_entry() {
        let stream = StreamId::new("order-1").unwrap();
        let events = ["A", "B"].map(|event_type| NewEvent::from_json_text(event_type, "{}").unwrap());
        let part = Part { stream: stream.clone(), expected: ExpectedVersion::Any, events: events.into() };
        let at = StreamPosition::after(
            &"events".into(),
            stream,
            3,
            Uuid::max(),
            Some(Previous { first: 3, recorded_at_ms: 6 }),
        );

        let prepared = prepare(Uuid::from_u128(1), &part, &at, 7, Compression::default());

        let keys: Vec<_> = prepared.items.iter().map(|item| item[ENTITY].as_s().unwrap().as_str()).collect();
        assert_eq!(keys, ["event#00000000000000000004", "event#00000000000000000005", "pending#00000000000000000004"]);
        let entry = schema::read_pending(prepared.items[2].clone()).unwrap();
        assert_eq!((entry.first, entry.last), (4, 5));
        assert_eq!(entry.previous, Some(Previous { first: 3, recorded_at_ms: 6 }));
        assert_eq!(prepared.newest_entry, Some(Previous { first: 4, recorded_at_ms: 7 }));
    }
}
