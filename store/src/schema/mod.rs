//! The stored format: every key and attribute name of the table, the table's definition, and how each entity is
//! written and read. The format is public; a change of it is a breaking change. The module is **for tools** that read the table without
//! the library, and may change in a minor version.
//!
//! One partition holds a stream: `event#` + version, `pending#` + last public version for each append that is still to be
//! published, and `command#` + append id for each command that is recognised for ever. Versions have 20 digits in a key, so that their order as texts is their order as numbers.

#[cfg(test)]
pub(crate) mod arbitrary;
mod entry;
mod event;
mod fields;
mod marker;
mod payload;
mod size;
mod skip;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod worker;

use std::{collections::HashMap, ops::RangeInclusive, str::FromStr};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use uuid::Uuid;

pub use self::payload::{Compression, DEFAULT_COMPRESSION_LEVEL, DEFAULT_COMPRESSION_THRESHOLD_BYTES};
pub(crate) use self::{
    entry::{EntryOutline, copies, pending_item, read_outline, read_pending},
    event::{Recording, event_attribute, event_bytes, event_item, read_event, read_event_beside},
    fields::Fields,
    marker::{Marker, marker_bytes, marker_item, read_marker},
    size::item_bytes,
    skip::{read_skip, skip_item},
    snapshot::{read_snapshot, snapshot_item},
    worker::{read_worker, worker_item},
};
use crate::{error::Corrupt, limits::MAX_VERSION, stream::StreamId};

/// As many as an event with metadata has, and one of several.
const USUAL_ATTRIBUTES: usize = 9;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Partition key (S): the stream id.
pub const STREAM_ID: &str = "stream_id";
/// Sort key (S): which entity of the stream an item is.
pub const ENTITY: &str = "entity";

/// Event: its type (S).
pub const EVENT_TYPE: &str = "event_type";
/// Event: its payload, JSON text (S), or compressed (B) if [`PAYLOAD_ENCODING`] says so.
pub const PAYLOAD: &str = "payload";
/// Event: how its payload is stored (S): [`ENCODING_ZSTD`]; absent if it is text.
pub const PAYLOAD_ENCODING: &str = "payload_encoding";
/// [`PAYLOAD_ENCODING`]: one zstd frame (RFC 8878).
pub const ENCODING_ZSTD: &str = "zstd";
/// Event: its metadata (JSON text, S); absent if there are none.
pub const METADATA: &str = "metadata";
/// Event, and the marker of a command: when it was recorded (milliseconds since the Unix epoch, N).
pub const RECORDED_AT: &str = "recorded_at";
/// Event: the id of the append that it came with (the 16 bytes of a UUID, B). Snapshot: that of the event at its version. Pending entry:
/// that of its append, if it has copies of events. With stream and version it gives an event's own id.
pub const APPEND_ID: &str = "append_id";
/// Event: the first version of that append (N); absent if the append is this event alone. Marker: that of the command's append.
pub const APPEND_FIRST: &str = "append_first";
/// Event: the last version of that append (N); absent if the append is this event alone. Marker: that of the command's append.
pub const APPEND_LAST: &str = "append_last";

/// Event: present and true if it is not for publication (BOOL). Marker: if the last of the command's events is not.
pub const IS_PRIVATE: &str = "is_private";
/// Pending entry: the last public version of the stream before its append (N); absent in a stream's first. Private event, and marker
/// whose last event is private: the last public version before it.
pub const PREVIOUS_VERSION: &str = "previous_version";
/// Beside [`PREVIOUS_VERSION`]: when that event was recorded (milliseconds since the Unix epoch, N).
pub const PREVIOUS_AT: &str = "previous_at";

/// Pending entry: when its events were recorded (milliseconds since the Unix epoch, N). Sort key of the index.
pub const PENDING_SINCE: &str = "pending_since";
/// Pending entry: the first version that is to be published (N); the last one stands in the key. Absent if it is the only one.
pub const FIRST_VERSION: &str = "first_version";
/// Pending entry: the versions from the first to the last that are to be published (L of N); absent if all are.
pub const PUBLIC_VERSIONS: &str = "public_versions";
/// Pending entry: a copy of the events that are to be published (L of M), if the whole item then still fits into 1 KB.
pub const EVENTS: &str = "events";

/// Partition key of the relay workers' rows: no stream id begins with `$`.
pub const RELAY_PARTITION: &str = "$relay";
/// Worker: its heartbeat (N). Whether it changes is all that matters.
pub const BEAT: &str = "beat";
/// Worker: the time from one heartbeat to the next (milliseconds, N).
pub const BEAT_INTERVAL: &str = "beat_interval";
/// Worker: when it started, by its own clock (milliseconds since the Unix epoch, N). For people.
pub const STARTED_AT: &str = "started_at";
/// Worker: the machine that it runs on (S).
pub const HOST: &str = "host";
/// Worker: its process id there (N).
pub const PROCESS_ID: &str = "process_id";
/// Worker: the program's version (S).
pub const PROGRAM_VERSION: &str = "program_version";
/// Worker: events that the broker has confirmed since it started (N).
pub const PUBLISHED_EVENTS: &str = "published_events";
/// Worker: pending entries that it has deleted since it started (N).
pub const DELETED_ENTRIES: &str = "deleted_entries";
/// Worker: streams that it works on at the moment (N).
pub const OPEN_STREAMS: &str = "open_streams";
/// Worker: how many live workers it sees, itself included (N).
pub const LIVE_WORKERS: &str = "live_workers";
/// Worker: how many of its streams are halted (N).
pub const HALTED_STREAMS: &str = "halted_streams";
/// Worker: some of them (L of M), as many as leave the row within 1 KB.
pub const HALTED: &str = "halted";
/// Halted stream: the version that can't be published (N).
pub const HALTED_VERSION: &str = "version";
/// Halted stream: why (S), shortened.
pub const HALTED_REASON: &str = "reason";
/// Halted stream: since when (milliseconds since the Unix epoch, N).
pub const HALTED_SINCE: &str = "since";
/// Halted stream: how often it was tried (N).
pub const HALTED_ATTEMPTS: &str = "attempts";
/// Worker: the last thing that went wrong (S), shortened; absent if nothing has.
pub const LAST_ERROR: &str = "last_error";

/// Partition key of the skips' records. Not [`RELAY_PARTITION`]: IAM knows partition keys alone, and a relay's role may write and
/// delete what is under that one, but no operator's record. Sort key: `skip#`, when it was done in 20 digits, `#` and a UUID.
pub const SKIPS_PARTITION: &str = "$skips";
/// Skip: the stream whose pending entry was removed (S).
pub const SKIPPED_STREAM: &str = "skipped_stream";
/// Skip: the entry's first version (N); absent if the entry could not be read.
pub const SKIPPED_FIRST: &str = "skipped_first";
/// Skip: its last version (N); 0 if its sort key has none.
pub const SKIPPED_LAST: &str = "skipped_last";
/// Skip: the entry's sort key (S), if that has no version.
pub const SKIPPED_KEY: &str = "skipped_key";
/// Skip: the last public version before the entry (N), if that was given up, too: neither its event nor its entry was
/// there.
pub const GAVE_UP_PREVIOUS: &str = "gave_up_previous";
/// Skip: when (milliseconds since the Unix epoch, N), by the clock of who did it.
pub const SKIPPED_AT: &str = "skipped_at";
/// Skip: who (S).
pub const SKIPPED_BY: &str = "skipped_by";
/// Skip: why (S).
pub const SKIP_REASON: &str = "reason";
/// Snapshot: the version of the newest event in it (N).
pub const VERSION: &str = "version";
/// Snapshot: the version of the body's shape and meaning (N).
pub const SCHEMA_VERSION: &str = "schema_version";
/// Snapshot: the state (S); JSON text if an aggregate's repository has written it.
pub const BODY: &str = "body";
/// Snapshot: XXH3 (64 bits, 16 hexadecimal digits, S) of its version, append id, schema version and body, each but the last with a
/// line break (U+000A) behind it.
pub const CHECKSUM: &str = "checksum";
/// Snapshot: when it was taken (milliseconds since the Unix epoch, N).
pub const TAKEN_AT: &str = "taken_at";

/// The sparse index over the pending entries: partition key [`STREAM_ID`], sort key [`PENDING_SINCE`], keys only.
pub const OUTBOX_INDEX: &str = "outbox";

/// Before the events, so that a page that is read from a partition's end does not hold it.
pub(crate) const COMMAND_PREFIX: &str = "command#";
pub(crate) const EVENT_PREFIX: &str = "event#";
pub(crate) const PENDING_PREFIX: &str = "pending#";
/// The sort key of a stream's snapshot: behind all events and pending entries.
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const WORKER_PREFIX: &str = "worker#";
pub(crate) const SKIP_PREFIX: &str = "skip#";
/// As many as the largest version has.
const DIGITS: usize = 20;

/// The sort key of a command's marker: by the command's id, which is its append's id.
pub(crate) fn command_key(id: Uuid) -> String {
    format!("{COMMAND_PREFIX}{id}")
}

/// The sort key of the event at `version`.
pub(crate) fn event_key(version: u64) -> String {
    format!("{EVENT_PREFIX}{version:020}")
}

/// The sort key of the pending entry whose last public version is `last`.
pub(crate) fn pending_key(last: u64) -> String {
    format!("{PENDING_PREFIX}{last:020}")
}

/// The sort keys of the pending entries from the one of version `from` on. From version 1 on, those are all keys that begin as
/// a pending entry's: one that is damaged has to be seen, too.
pub(crate) fn pending_keys_from(from: u64) -> RangeInclusive<String> {
    let first = if from <= 1 { PENDING_PREFIX.to_owned() } else { pending_key(from) };
    first..=format!("{PENDING_PREFIX}{}", char::MAX)
}

/// Events, pending entries and the snapshot: all of a stream but its commands' markers.
pub(crate) fn keys_from_events() -> RangeInclusive<String> {
    EVENT_PREFIX.to_owned()..=SNAPSHOT.to_owned()
}

/// Behind every sort key that begins as an event's does, damaged ones included.
pub(crate) fn behind_events() -> String {
    format!("{EVENT_PREFIX}{}", char::MAX)
}

/// The version in an event's sort key; `None` if it is none.
pub(crate) fn event_version(entity: &str) -> Option<u64> {
    version_behind(EVENT_PREFIX, entity)
}

/// A key has exactly 20 digits, and versions begin with 1.
fn version_behind(prefix: &str, entity: &str) -> Option<u64> {
    let digits = entity.strip_prefix(prefix).filter(|digits| digits.len() == DIGITS)?;
    parse_number(digits).filter(|version| (1..=MAX_VERSION).contains(version))
}

/// A number as DynamoDB writes it, without the `+` that Rust takes, too.
pub(crate) fn parse_number<T: FromStr>(digits: &str) -> Option<T> {
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

/// A number of an item, if it is one and in the range of its type.
pub(crate) fn read_number<T: FromStr>(item: &Item, name: &str) -> Option<T> {
    parse_number(item.get(name)?.as_n().ok()?)
}

/// The sort key of a relay worker's row.
pub(crate) fn worker_key(id: &str) -> String {
    format!("{WORKER_PREFIX}{id}")
}

/// The version in the sort key of a pending entry.
pub(crate) fn pending_last(entity: &str) -> Option<u64> {
    version_behind(PENDING_PREFIX, entity)
}

/// The sort key of a skip's record.
pub(crate) fn skip_key(at_ms: i64, id: Uuid) -> String {
    format!("{SKIP_PREFIX}{:020}#{id}", at_ms.max(0))
}

/// Both keys of one item.
pub(crate) fn key(stream: &str, entity: String) -> Item {
    // With room for an event's usual attributes, so that no item is hashed twice.
    let mut item = Item::with_capacity(USUAL_ATTRIBUTES);
    item.extend([(STREAM_ID.to_owned(), text(stream)), (ENTITY.to_owned(), text(entity))]);
    item
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// The 16 bytes of a UUID.
pub(crate) fn bytes(id: Uuid) -> AttributeValue {
    AttributeValue::B(Blob::new(id.into_bytes()))
}

pub(crate) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// The stream id of any item of the table or the index.
pub(crate) fn read_stream_id(item: &Item) -> StreamId {
    StreamId::stored(stream_text(item))
}

/// The stream id as it stands in an item.
pub(crate) fn stream_text(item: &Item) -> &str {
    item.get(STREAM_ID).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// The error of an item that is in the index and is not a pending entry; none for an item that may be one.
pub(crate) fn stray(item: &Item) -> Option<Corrupt> {
    let entity = read_entity(item);
    if entity.starts_with(PENDING_PREFIX) || !item.contains_key(PENDING_SINCE) {
        return None;
    }
    let what = format!(
        "the attribute `{PENDING_SINCE}` puts this item into the index `{OUTBOX_INDEX}`, but it is not a pending entry: remove the \
         attribute"
    );
    Some(Corrupt { stream: read_stream_id(item), at: entity.to_owned(), what })
}

/// The sort key of any item of the table.
pub(crate) fn read_entity(item: &Item) -> &str {
    item.get(ENTITY).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}
