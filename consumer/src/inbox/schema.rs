//! The stored format of the inbox: every key and attribute name of its table, and how its items are written and read.
//!
//! | `stream_id` (S) | `consumer` (S) | attributes | is |
//! |---|---|---|---|
//! | a stream | `NAME@GENERATION` | `last_version`, `last_event_id` | the position: absent before the first event is applied |
//! | | | `parked_since`, `retry_at`, `attempts`, `reason`, `latest_version` | beside it, or alone, while the stream is parked |
//! | `$consumers` | `NAME` | `generation` | the current generation, if it is not 1 |
//! | `$consumers` | `rebuild#NAME@GENERATION` | `scan_token`, `events`, `streams`, `is_complete` | how far the generation is rebuilt |
//! | `$skips` | `NAME@GENERATION#` + time in 20 digits + `#` + UUID | `skipped_stream`, `skipped_first`, `skipped_last`, `skipped_at`, `skipped_by`, `reason` | the record of a skip |
//!
//! | attribute | type | is |
//! |---|---|---|
//! | `last_version` | N | the version of the last event whose effect is stored |
//! | `last_event_id` | B, 16 bytes | the id of that event; absent if it was skipped unseen |
//! | `parked_since` | N, ms | when the stream was parked, by the clock of who did it |
//! | `retry_at` | N, ms | when it is tried again; only parked items have it, so that only they are in the index |
//! | `attempts` | N | how often the event was tried |
//! | `reason` | S | why the last attempt failed, or why a skip was made |
//! | `latest_version` | N | the highest version of which a message may have been acknowledged: the stream stays parked until `last_version` is there |
//! | `generation` | N | the generation that readers use |
//! | `scan_token` | S | where the scan of a rebuild resumes; absent before its first page |
//! | `events`, `streams` | N | how many were applied by it |
//! | `is_complete` | BOOL | whether the scan is at its end |
//! | `skipped_stream` | S | the stream |
//! | `skipped_first`, `skipped_last` | N | from the version behind the position to the skipped one |
//! | `skipped_at` | N, ms | when, by the clock of who did it |
//! | `skipped_by` | S | who |
//!
//! The sparse index **`parked`** has the partition key `consumer`, the sort key `retry_at`, and keys alone. A copy of all attributes would
//! cost a write unit more for each message of a parked stream (`latest_version` changes), so that what is parked is read from the table
//! itself: a read unit for each stream that is shown.
//!
//! All other names are free: none of these is reserved in DynamoDB's expressions but `events` is not used in one.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use streambox::{Corrupt, IndexDefinition, StreamId, TableDefinition, Uuid};

use crate::Position;

/// Partition key (S): the stream id, or `$consumers`, or `$skips`.
pub(super) const STREAM_ID: &str = "stream_id";
/// Sort key (S): the consumer and its generation. Partition key of the index.
pub(super) const CONSUMER: &str = "consumer";
/// The index over the parked streams.
pub(super) const PARKED_INDEX: &str = "parked";

pub(super) const LAST_VERSION: &str = "last_version";
pub(super) const LAST_EVENT_ID: &str = "last_event_id";
pub(super) const PARKED_SINCE: &str = "parked_since";
pub(super) const RETRY_AT: &str = "retry_at";
pub(super) const ATTEMPTS: &str = "attempts";
pub(super) const REASON: &str = "reason";
pub(super) const LATEST_VERSION: &str = "latest_version";

/// Partition key of what is known of a consumer as a whole.
pub(super) const CONSUMERS_PARTITION: &str = "$consumers";
pub(super) const GENERATION: &str = "generation";
pub(super) const SCAN_TOKEN: &str = "scan_token";
pub(super) const EVENTS: &str = "events";
pub(super) const STREAMS: &str = "streams";
pub(super) const IS_COMPLETE: &str = "is_complete";

/// Partition key of the skips' records, as in the events table: IAM knows partition keys alone.
pub(super) const SKIPS_PARTITION: &str = "$skips";
pub(super) const SKIPPED_STREAM: &str = "skipped_stream";
pub(super) const SKIPPED_FIRST: &str = "skipped_first";
pub(super) const SKIPPED_LAST: &str = "skipped_last";
pub(super) const SKIPPED_AT: &str = "skipped_at";
pub(super) const SKIPPED_BY: &str = "skipped_by";

/// The inbox's table.
pub(super) const TABLE: TableDefinition = TableDefinition {
    keys: [STREAM_ID, CONSUMER],
    index: IndexDefinition {
        name: PARKED_INDEX,
        title: "the index `parked`",
        keys: [CONSUMER, RETRY_AT],
        without: "no parked stream is tried again",
    },
    times: &[PARKED_SINCE, RETRY_AT, SKIPPED_AT],
};

/// More than the widest item of a position has beside its keys: names and values.
pub(super) const POSITION_BYTES: usize = 2_048;

pub(super) type Item = HashMap<String, AttributeValue>;

/// The sort key of a consumer's generation.
pub(super) fn consumer_key(name: &str, generation: u32) -> String {
    format!("{name}@{generation}")
}

/// The sort key of a rebuild. No name of a consumer has a `#`.
pub(super) fn rebuild_key(consumer_key: &str) -> String {
    format!("rebuild#{consumer_key}")
}

/// What the sort keys of a consumer's rebuilds begin with; the generation follows.
pub(super) fn rebuild_prefix(name: &str) -> String {
    rebuild_key(&format!("{name}@"))
}

/// What the sort keys of a consumer's skips begin with.
pub(super) fn skip_prefix(consumer_key: &str) -> String {
    format!("{consumer_key}#")
}

/// The sort key of a skip: the newest are found first.
pub(super) fn skip_key(consumer_key: &str, at_ms: i64, id: Uuid) -> String {
    format!("{}{:020}#{id}", skip_prefix(consumer_key), at_ms.max(0))
}

/// Both keys of an item.
pub(super) fn key(partition: &str, sort: &str) -> Item {
    Item::from([(STREAM_ID.to_owned(), text(partition)), (CONSUMER.to_owned(), text(sort))])
}

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(super) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

pub(super) fn bytes(id: Uuid) -> AttributeValue {
    AttributeValue::B(Blob::new(id.into_bytes()))
}

/// Reads one item attribute by attribute; an error names the item.
pub(super) struct Fields<'a> {
    item: &'a Item,
    stream: &'a StreamId,
}

impl<'a> Fields<'a> {
    pub(super) fn new(stream: &'a StreamId, item: &'a Item) -> Self {
        Self { item, stream }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.item.contains_key(name)
    }

    fn wrong(&self, name: &str, what: &str) -> Corrupt {
        let at = self.item.get(CONSUMER).and_then(|value| value.as_s().ok());
        let at = at.map_or_else(|| "an item of the inbox".to_owned(), |at| format!("{at} in the inbox"));
        Corrupt::new(self.stream.clone(), at, format!("{name} {what}"))
    }

    /// 0 if it is absent.
    pub(super) fn number<T: std::str::FromStr + Default>(&self, name: &str) -> Result<T, Corrupt> {
        match self.item.get(name) {
            None => Ok(T::default()),
            Some(AttributeValue::N(digits)) => {
                digits.parse().map_err(|_| self.wrong(name, &format!("is out of range: {digits}")))
            }
            Some(_) => Err(self.wrong(name, "is not a number")),
        }
    }

    /// Empty if it is absent.
    pub(super) fn text(&self, name: &str) -> Result<String, Corrupt> {
        match self.item.get(name) {
            None => Ok(String::new()),
            Some(AttributeValue::S(text)) => Ok(text.clone()),
            Some(_) => Err(self.wrong(name, "is not a text")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.item.get(name) == Some(&AttributeValue::Bool(true))
    }

    pub(super) fn position(&self) -> Result<Position, Corrupt> {
        let event_id = match self.item.get(LAST_EVENT_ID) {
            None => None,
            Some(AttributeValue::B(id)) => {
                let id = Uuid::from_slice(id.as_ref()).map_err(|_| self.wrong(LAST_EVENT_ID, "is not a UUID"))?;
                Some(id)
            }
            Some(_) => return Err(self.wrong(LAST_EVENT_ID, "is not binary")),
        };
        Ok(Position { version: self.number(LAST_VERSION)?, event_id })
    }
}

/// The stream id of an item of the index.
pub(super) fn read_stream(item: &Item) -> StreamId {
    StreamId::stored(item.get(STREAM_ID).and_then(|value| value.as_s().ok()).map_or("", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_table_of_the_docs() {
        let docs: String = include_str!("schema.rs").lines().take_while(|line| line.starts_with("//!")).collect();
        for name in [
            STREAM_ID,
            CONSUMER,
            PARKED_INDEX,
            LAST_VERSION,
            LAST_EVENT_ID,
            PARKED_SINCE,
            RETRY_AT,
            ATTEMPTS,
            REASON,
            LATEST_VERSION,
            CONSUMERS_PARTITION,
            GENERATION,
            SCAN_TOKEN,
            EVENTS,
            STREAMS,
            IS_COMPLETE,
            SKIPS_PARTITION,
            SKIPPED_STREAM,
            SKIPPED_FIRST,
            SKIPPED_LAST,
            SKIPPED_AT,
            SKIPPED_BY,
        ] {
            assert!(docs.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn the_records_of_skips_are_in_the_order_of_time() {
        let key = |at_ms| skip_key("free-seats@1", at_ms, Uuid::from_u128(1));
        assert_eq!(key(1_780_000_000_000), "free-seats@1#00000001780000000000#00000000-0000-0000-0000-000000000001");
        assert!(key(9) < key(10) && key(9).starts_with(&skip_prefix("free-seats@1")));
    }

    #[test]
    fn a_position_is_read_as_it_was_written_and_damage_is_named() {
        let stream = StreamId::new("order-1").unwrap();
        let id = Uuid::from_u128(7);
        let mut item = key("order-1", "free-seats@1");
        assert_eq!(Fields::new(&stream, &item).position().unwrap(), Position::default());
        item.extend([(LAST_VERSION.to_owned(), number(3_u64)), (LAST_EVENT_ID.to_owned(), bytes(id))]);
        let position = Fields::new(&stream, &item).position().unwrap();
        assert_eq!(position, Position { version: 3, event_id: Some(id) });
        for (name, value, says) in [
            (LAST_VERSION, text("3"), "last_version is not a number"),
            (LAST_VERSION, number(-1), "last_version is out of range: -1"),
            (LAST_EVENT_ID, text("7"), "last_event_id is not binary"),
            (LAST_EVENT_ID, AttributeValue::B(Blob::new([1])), "last_event_id is not a UUID"),
        ] {
            let mut item = item.clone();
            item.insert(name.to_owned(), value);
            let error = Fields::new(&stream, &item).position().unwrap_err().to_string();
            assert_eq!(error, format!("stream order-1, free-seats@1 in the inbox: {says}"));
        }
    }
}
