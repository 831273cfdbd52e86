//! The stored format: every key and attribute name of the table, the table's definition, and how each entity is
//! written and read. It is public; a change here is a breaking change.
//!
//! One partition holds a stream: `event#` + version, and `pending#` + first version for each append that is still to be
//! published. Versions have 20 digits in a key, so that their order as texts is their order as numbers.

use std::{collections::HashMap, ops::RangeInclusive};

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use crate::{
    error::Corrupt,
    event::{AppendRange, Metadata, NewEvent, RecordedEvent},
    limits::{MAX_INLINE_ENTRY_BYTES, WIDEST_NUMBER_BYTES, item_bytes},
    outbox::{OutboxEvent, PendingEntry, Previous},
    payload::{self, Compression, StoredPayload},
    scan::StreamSummary,
    snapshot::{NewSnapshot, Snapshot},
    stream::StreamId,
};

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Partition key (S): the stream id.
pub const STREAM_ID: &str = "stream_id";
/// Sort key (S): which entity of the stream an item is.
pub const ENTITY: &str = "entity";

/// Event: its own id (UUID, S).
pub const EVENT_ID: &str = "event_id";
/// Event: its type (S).
pub const EVENT_TYPE: &str = "event_type";
/// Event: its payload, JSON text (S), or compressed (B) where [`PAYLOAD_ENCODING`] says so.
pub const PAYLOAD: &str = "payload";
/// Event: how its payload is stored (S): [`ENCODING_ZSTD`]; absent where it is text.
pub const PAYLOAD_ENCODING: &str = "payload_encoding";
/// [`PAYLOAD_ENCODING`]: one zstd frame (RFC 8878).
pub const ENCODING_ZSTD: &str = "zstd";
/// Event: its metadata (JSON text, S); absent where there are none.
pub const METADATA: &str = "metadata";
/// Event: when it was recorded (milliseconds since the Unix epoch, N).
pub const RECORDED_AT: &str = "recorded_at";
/// Event: the id of the append that it came with (UUID, S).
pub const APPEND_ID: &str = "append_id";
/// Event: the first version of that append (N).
pub const APPEND_FIRST: &str = "append_first";
/// Event: the last version of that append (N).
pub const APPEND_LAST: &str = "append_last";

/// Event: present and true where it is not for publication (BOOL).
pub const IS_PRIVATE: &str = "is_private";
/// Private event: the first version of the newest append up to this one that has a pending entry (N); absent where there is
/// none.
pub const ENTRY_FIRST: &str = "entry_first";
/// Private event: when that append was recorded (milliseconds since the Unix epoch, N).
pub const ENTRY_AT: &str = "entry_at";

/// Pending entry: when its events were recorded (milliseconds since the Unix epoch, N). Sort key of the index.
pub const PENDING_SINCE: &str = "pending_since";
/// Pending entry: the last version of its append (N); the first one stands in the key.
pub const LAST_VERSION: &str = "last_version";
/// Pending entry: the versions that are to be published (L of N); absent where all are.
pub const PUBLIC_VERSIONS: &str = "public_versions";
/// Pending entry: the first version of the newest append before that has an entry, too (N); absent in a stream's first.
pub const PREVIOUS_FIRST: &str = "previous_first";
/// Pending entry: when that append was recorded (milliseconds since the Unix epoch, N).
pub const PREVIOUS_AT: &str = "previous_at";
/// Pending entry: a copy of the events that are to be published (L of M), where the whole item then still fits into 1 KB.
pub const EVENTS: &str = "events";

/// Partition key of the rows of relay workers: no stream id begins with `$`.
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
/// Worker: the last thing that went wrong (S), shortened; absent where nothing has.
pub const LAST_ERROR: &str = "last_error";
/// Snapshot: the version of the newest event in it (N).
pub const VERSION: &str = "version";
/// Snapshot: the version of the body's shape and meaning (N).
pub const SCHEMA_VERSION: &str = "schema_version";
/// Snapshot: the state (S); JSON text where an aggregate's repository has written it.
pub const BODY: &str = "body";
/// Snapshot: when it was taken (milliseconds since the Unix epoch, N).
pub const TAKEN_AT: &str = "taken_at";

/// The sparse index over the pending entries: partition key [`STREAM_ID`], sort key [`PENDING_SINCE`], keys only.
pub const OUTBOX_INDEX: &str = "outbox";

pub(crate) const EVENT_PREFIX: &str = "event#";
pub(crate) const PENDING_PREFIX: &str = "pending#";
/// The sort key of a stream's snapshot: behind all events and pending entries.
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const WORKER_PREFIX: &str = "worker#";
/// As many as the largest version has.
const DIGITS: usize = 20;

/// The sort key of the event at `version`.
pub(crate) fn event_key(version: u64) -> String {
    format!("{EVENT_PREFIX}{version:020}")
}

/// The sort key of the pending entry of the append that begins at `first`.
pub(crate) fn pending_key(first: u64) -> String {
    format!("{PENDING_PREFIX}{first:020}")
}

/// The version in an event's sort key; `None` if it is none.
pub(crate) fn event_version(entity: &str) -> Option<u64> {
    version_behind(EVENT_PREFIX, entity)
}

fn version_behind(prefix: &str, entity: &str) -> Option<u64> {
    let digits = entity.strip_prefix(prefix).filter(|digits| digits.len() == DIGITS)?;
    digits.parse().ok().filter(|&version| version > 0)
}

/// The sort key of a relay worker's row.
pub(crate) fn worker_key(id: &str) -> String {
    format!("{WORKER_PREFIX}{id}")
}

/// Both keys of one item.
pub(crate) fn key(stream: &str, entity: String) -> Item {
    Item::from([(STREAM_ID.to_owned(), text(stream)), (ENTITY.to_owned(), text(entity))])
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// The event entity.
pub(crate) fn event_item(
    event: &Recording<'_>,
    range: &AppendRange,
    recorded_at_ms: i64,
    newest_entry: Option<Previous>,
) -> Item {
    let mut item = key(event.stream.as_str(), event_key(event.version));
    item.extend(event_attributes(event));
    item.extend([
        (RECORDED_AT.to_owned(), number(recorded_at_ms)),
        (APPEND_ID.to_owned(), text(range.id)),
        (APPEND_FIRST.to_owned(), number(range.first)),
        (APPEND_LAST.to_owned(), number(range.last)),
    ]);
    if event.new.is_private() {
        item.insert(IS_PRIVATE.to_owned(), AttributeValue::Bool(true));
        if let Some(entry) = newest_entry {
            item.insert(ENTRY_FIRST.to_owned(), number(entry.first));
            item.insert(ENTRY_AT.to_owned(), number(entry.recorded_at_ms));
        }
    }
    item
}

/// The pending entry of one append: with a copy of its events where that costs nothing.
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
    if payload_bytes < MAX_INLINE_ENTRY_BYTES {
        let copies = public.into_iter().map(|event| AttributeValue::M(event_attributes(event))).collect();
        item.insert(EVENTS.to_owned(), AttributeValue::L(copies));
        if item_bytes(&item) > MAX_INLINE_ENTRY_BYTES {
            item.remove(EVENTS);
        }
    }
    item
}

/// An event on its way into the table.
pub(crate) struct Recording<'a> {
    pub(crate) stream: &'a StreamId,
    pub(crate) version: u64,
    pub(crate) event_id: Uuid,
    pub(crate) new: &'a NewEvent,
    pub(crate) payload: StoredPayload<'a>,
}

impl<'a> Recording<'a> {
    pub(crate) fn new(
        stream: &'a StreamId,
        version: u64,
        event_id: Uuid,
        new: &'a NewEvent,
        compression: Compression,
    ) -> Self {
        let payload = compression.store(new.payload_text(), event_bytes(stream, new));
        Self { stream, version, event_id, new, payload }
    }
}

/// The bytes of an event's item with the payload as text, and with numbers at their widest: the place is not known yet, and
/// what was accepted must fit wherever it goes.
pub(crate) fn event_bytes(stream: &StreamId, event: &NewEvent) -> usize {
    const UUID_BYTES: usize = 36;
    const KEY_BYTES: usize = STREAM_ID.len() + ENTITY.len() + EVENT_PREFIX.len() + DIGITS;
    const ID_BYTES: usize = EVENT_ID.len() + APPEND_ID.len() + 2 * UUID_BYTES;
    const NAME_BYTES: usize = EVENT_TYPE.len() + PAYLOAD.len();
    const NUMBER_BYTES: usize = RECORDED_AT.len() + APPEND_FIRST.len() + APPEND_LAST.len() + 3 * WIDEST_NUMBER_BYTES;
    const PRIVATE_BYTES: usize = IS_PRIVATE.len() + 1 + ENTRY_FIRST.len() + ENTRY_AT.len() + 2 * WIDEST_NUMBER_BYTES;
    let fixed_bytes = KEY_BYTES + ID_BYTES + NAME_BYTES + NUMBER_BYTES;
    let text_bytes = stream.as_str().len() + event.event_type().len() + event.payload_text().len();
    let metadata_bytes = event.metadata_text().map_or(0, |text| METADATA.len() + text.len());
    let private_bytes = if event.is_private() { PRIVATE_BYTES } else { 0 };
    fixed_bytes + text_bytes + metadata_bytes + private_bytes
}

fn event_attributes(event: &Recording<'_>) -> Item {
    let mut attributes = Item::from([
        (EVENT_ID.to_owned(), text(event.event_id)),
        (EVENT_TYPE.to_owned(), text(event.new.event_type())),
        (PAYLOAD.to_owned(), event.payload.value()),
    ]);
    if let Some(encoding) = event.payload.encoding() {
        attributes.insert(PAYLOAD_ENCODING.to_owned(), text(encoding));
    }
    if let Some(metadata) = event.new.metadata_text() {
        attributes.insert(METADATA.to_owned(), text(metadata));
    }
    attributes
}

/// Reads an event entity.
pub(crate) fn read_event(item: Item) -> Result<RecordedEvent, Corrupt> {
    let mut fields = Fields::new(item);
    let version = fields.version_in_key(EVENT_PREFIX)?;
    let append = AppendRange {
        id: fields.uuid(APPEND_ID)?,
        first: fields.number(APPEND_FIRST)?,
        last: fields.number(APPEND_LAST)?,
    };
    if !(append.first..=append.last).contains(&version) {
        return Err(fields.wrong(format!("{APPEND_FIRST} {} and {APPEND_LAST} {}", append.first, append.last)));
    }
    let recorded_at_ms = fields.number(RECORDED_AT)?;
    let is_private = fields.flag(IS_PRIVATE)?;
    let newest_entry = if is_private {
        fields.previous(ENTRY_FIRST, ENTRY_AT)?
    } else {
        Some(Previous { first: append.first, recorded_at_ms })
    };
    Ok(RecordedEvent {
        version,
        event_id: fields.uuid(EVENT_ID)?,
        event_type: fields.text(EVENT_TYPE)?,
        payload: fields.payload()?,
        metadata: fields.metadata()?,
        recorded_at_ms,
        is_private,
        append,
        newest_entry,
        stream_id: fields.stream,
    })
}

/// What [`read_event_summary`] needs of an event.
pub(crate) const EVENT_SUMMARY: &str = "stream_id, entity, event_type, recorded_at";

/// Reads of an event what a list of streams shows: as if it were its stream's only one.
pub(crate) fn read_event_summary(item: Item) -> Result<StreamSummary, Corrupt> {
    let mut fields = Fields::new(item);
    Ok(StreamSummary {
        version: fields.version_in_key(EVENT_PREFIX)?,
        events: 1,
        last_type: fields.text(EVENT_TYPE)?,
        last_recorded_at_ms: fields.number(RECORDED_AT)?,
        stream_id: fields.stream,
    })
}

/// Reads a pending entry.
pub(crate) fn read_pending(item: Item) -> Result<PendingEntry, Corrupt> {
    let mut fields = Fields::new(item);
    let first = fields.version_in_key(PENDING_PREFIX)?;
    let last: u64 = fields.number(LAST_VERSION)?;
    let pending_since_ms = fields.number(PENDING_SINCE)?;
    if last < first {
        return Err(fields.wrong(format!("{LAST_VERSION} {last} is less than the first")));
    }
    let previous = fields.previous(PREVIOUS_FIRST, PREVIOUS_AT)?;
    let public = fields.versions(PUBLIC_VERSIONS, first..=last)?;
    let events = match fields.item.remove(EVENTS) {
        None => None,
        Some(AttributeValue::L(copies)) => {
            let versions = public.clone().unwrap_or_else(|| (first..=last).collect());
            if copies.len() != versions.len() {
                return Err(fields.wrong(format!("{EVENTS} has {} of {} events", copies.len(), versions.len())));
            }
            let copies = copies.into_iter().zip(versions);
            Some(
                copies
                    .map(|(copy, version)| fields.copied_event(copy, version, pending_since_ms))
                    .collect::<Result<_, _>>()?,
            )
        }
        Some(_) => return Err(fields.wrong(format!("{EVENTS} is not a list"))),
    };
    Ok(PendingEntry { first, last, public, pending_since_ms, previous, events, stream_id: fields.stream })
}

/// The snapshot entity.
pub(crate) fn snapshot_item(stream: &StreamId, new: &NewSnapshot, taken_at_ms: i64) -> Item {
    let mut item = key(stream.as_str(), SNAPSHOT.to_owned());
    item.extend([
        (VERSION.to_owned(), number(new.version)),
        (SCHEMA_VERSION.to_owned(), number(new.schema_version)),
        (BODY.to_owned(), text(&new.body)),
        (TAKEN_AT.to_owned(), number(taken_at_ms)),
    ]);
    item
}

/// Reads a snapshot entity.
pub(crate) fn read_snapshot(item: Item) -> Result<Snapshot, Corrupt> {
    let mut fields = Fields::new(item);
    let version = fields.number(VERSION)?;
    if version == 0 {
        return Err(fields.wrong(format!("{VERSION} is 0")));
    }
    Ok(Snapshot {
        version,
        schema_version: fields.number(SCHEMA_VERSION)?,
        body: fields.text(BODY)?,
        taken_at_ms: fields.number(TAKEN_AT)?,
        stream_id: fields.stream,
    })
}

/// What an item of a stream's partition is.
pub(crate) enum Entity {
    Event,
    Snapshot,
    Other,
}

pub(crate) fn entity(item: &Item) -> Entity {
    match item.get(ENTITY).and_then(|key| key.as_s().ok()) {
        Some(key) if key.starts_with(EVENT_PREFIX) => Entity::Event,
        Some(key) if key == SNAPSHOT => Entity::Snapshot,
        _ => Entity::Other,
    }
}

/// The stream id of any item of the table or the index.
pub(crate) fn read_stream_id(item: &Item) -> StreamId {
    StreamId::stored(item.get(STREAM_ID).and_then(|value| value.as_s().ok()).map_or("", String::as_str))
}

/// The sort key of any item of the table.
pub(crate) fn read_entity(item: &Item) -> &str {
    item.get(ENTITY).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// The attributes of one item, taken out one by one; says which item it is where one is missing.
struct Fields {
    stream: StreamId,
    entity: String,
    item: Item,
}

impl Fields {
    fn new(mut item: Item) -> Self {
        let stream = read_stream_id(&item);
        let entity = match item.remove(ENTITY) {
            Some(AttributeValue::S(entity)) => entity,
            _ => String::new(),
        };
        Self { stream, entity, item }
    }

    fn wrong(&self, what: impl Into<String>) -> Corrupt {
        Corrupt { stream: self.stream.clone(), at: self.entity.clone(), what: what.into() }
    }

    fn version_in_key(&self, prefix: &str) -> Result<u64, Corrupt> {
        version_behind(prefix, &self.entity)
            .ok_or_else(|| self.wrong(format!("the key is not `{prefix}` and a version of 20 digits")))
    }

    fn has(&self, name: &str) -> bool {
        self.item.contains_key(name)
    }

    fn text(&mut self, name: &str) -> Result<String, Corrupt> {
        match self.item.remove(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            Some(_) => Err(self.wrong(format!("{name} is not a text"))),
            None => Err(self.wrong(format!("{name} is missing"))),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, Corrupt> {
        match self.item.remove(name) {
            Some(AttributeValue::N(digits)) => {
                digits.parse().map_err(|_| self.wrong(format!("{name} is out of range: {digits}")))
            }
            Some(_) => Err(self.wrong(format!("{name} is not a number"))),
            None => Err(self.wrong(format!("{name} is missing"))),
        }
    }

    /// A flag that is absent where it is not set.
    fn flag(&mut self, name: &str) -> Result<bool, Corrupt> {
        match self.item.remove(name) {
            None => Ok(false),
            Some(AttributeValue::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(format!("{name} is not true or false"))),
        }
    }

    fn previous(&mut self, first: &str, at: &str) -> Result<Option<Previous>, Corrupt> {
        if !self.has(first) {
            return Ok(None);
        }
        Ok(Some(Previous { first: self.number(first)?, recorded_at_ms: self.number(at)? }))
    }

    /// Some of the versions of a range, in order, at least one; absent where it is all of them.
    fn versions(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<Vec<u64>>, Corrupt> {
        let Some(value) = self.item.remove(name) else { return Ok(None) };
        let numbers = value.as_l().map(Vec::as_slice).unwrap_or_default();
        let version = |value: &AttributeValue| value.as_n().ok().and_then(|digits| digits.parse::<u64>().ok());
        let versions: Vec<_> = numbers.iter().filter_map(version).filter(|version| range.contains(version)).collect();
        if versions.is_empty() || versions.len() != numbers.len() || !versions.is_sorted_by(|a, b| a < b) {
            return Err(self.wrong(format!(
                "{name} is not a list of versions from {} to {}",
                range.start(),
                range.end()
            )));
        }
        Ok(Some(versions))
    }

    fn uuid(&mut self, name: &str) -> Result<Uuid, Corrupt> {
        let text = self.text(name)?;
        text.parse().map_err(|_| self.wrong(format!("{name} is not a UUID: {text}")))
    }

    fn payload(&mut self) -> Result<String, Corrupt> {
        let encoding = if self.has(PAYLOAD_ENCODING) { Some(self.text(PAYLOAD_ENCODING)?) } else { None };
        let value = self.item.remove(PAYLOAD).ok_or_else(|| self.wrong(format!("{PAYLOAD} is missing")))?;
        payload::read(value, encoding.as_deref()).map_err(|fault| self.wrong(format!("{PAYLOAD} {fault}")))
    }

    fn metadata(&mut self) -> Result<Metadata, Corrupt> {
        if !self.has(METADATA) {
            return Ok(Metadata::default());
        }
        let text = self.text(METADATA)?;
        Metadata::from_json_text(&text).map_err(|error| self.wrong(error.to_string()))
    }

    fn copied_event(&self, copy: AttributeValue, version: u64, recorded_at_ms: i64) -> Result<OutboxEvent, Corrupt> {
        let AttributeValue::M(item) = copy else {
            return Err(self.wrong(format!("{EVENTS}: the copy of version {version} is not a map")));
        };
        let mut copy = Self { stream: self.stream.clone(), entity: self.entity.clone(), item };
        Ok(OutboxEvent {
            version,
            event_id: copy.uuid(EVENT_ID)?,
            event_type: copy.text(EVENT_TYPE)?,
            payload: copy.payload()?,
            metadata: copy.metadata()?,
            recorded_at_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> AppendRange {
        AppendRange { id: Uuid::from_u128(1), first: 3, last: 3 }
    }

    fn recording<'a>(stream: &'a StreamId, new: &'a NewEvent) -> Recording<'a> {
        Recording::new(stream, 3, Uuid::from_u128(2), new, Compression::Off)
    }

    fn stream() -> StreamId {
        StreamId::new("order-1").unwrap()
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{\"a\": 1.0}").unwrap());
        let new = new.with_metadata(Metadata::new().with(Metadata::CORRELATION_ID, "c-1"));
        let item = event_item(&recording(&stream, &new), &range(), 1_700_000_000_123, None);
        let event = read_event(item).unwrap();
        assert_eq!((event.version, event.recorded_at_ms), (3, 1_700_000_000_123));
        assert_eq!((event.event_type.as_str(), event.payload.as_str()), ("Placed", "{\"a\": 1.0}"));
        assert_eq!((event.metadata, event.append), (new.metadata().clone(), range()));
    }

    #[test]
    fn a_pending_entry_copies_its_events_up_to_one_kilobyte_and_not_beyond() {
        let stream = stream();
        let entry = |payload_bytes: usize| {
            let payload = format!("\"{}\"", "x".repeat(payload_bytes - 2));
            let new = NewEvent::from_json_text("Placed", payload).unwrap();
            pending_item(&[recording(&stream, &new)], &range(), 1_700_000_000_123, None)
        };
        let fixed = item_bytes(&entry(2)) - 2;
        let most = MAX_INLINE_ENTRY_BYTES - fixed;
        assert_eq!(item_bytes(&entry(most)), MAX_INLINE_ENTRY_BYTES);
        assert!(read_pending(entry(most)).unwrap().events.is_some());
        assert!(read_pending(entry(most + 1)).unwrap().events.is_none());
    }

    #[test]
    fn the_bytes_of_an_event_are_those_of_its_widest_item() {
        let stream = stream();
        let plain = NewEvent::from_json_text("Placed", "{}").unwrap();
        let full = plain.clone().with_metadata(Metadata::new().with("by", "ann")).private();
        let widest = AppendRange { id: Uuid::max(), first: u64::MAX, last: u64::MAX };
        let entry = Some(Previous { first: u64::MAX, recorded_at_ms: i64::MAX });
        for new in [plain, full] {
            let recording = Recording::new(&stream, u64::MAX, Uuid::max(), &new, Compression::Off);
            let item = event_item(&recording, &widest, i64::MAX, entry);
            assert_eq!(event_bytes(&stream, &new), item_bytes(&item));
        }
    }

    #[test]
    fn a_damaged_item_is_reported_with_its_place_and_its_fault() {
        let (stream, new) = (stream(), NewEvent::from_json_text("Placed", "{}").unwrap());
        let damage = |name: &str, value: Option<AttributeValue>| {
            let mut item = event_item(&recording(&stream, &new), &range(), 1, None);
            item.remove(name);
            item.extend(value.map(|value| (name.to_owned(), value)));
            read_event(item).expect_err(name).to_string()
        };
        assert!(damage(PAYLOAD, None).ends_with("event#00000000000000000003: payload is missing"));
        assert!(damage(EVENT_ID, Some(text("x"))).contains("event_id is not a UUID: x"));
        assert!(damage(APPEND_LAST, Some(number(2))).contains("append_last 2"));
        assert!(damage(RECORDED_AT, Some(text("1"))).contains("recorded_at is not a number"));
        assert!(damage(ENTITY, Some(text("event#3"))).contains("20 digits"));
        assert!(damage(METADATA, Some(text("[]"))).contains("JSON object"));
    }
}
