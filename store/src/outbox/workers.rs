//! The rows of a relay group: one for each worker, which it alone writes, in a partition of their own.
//!
//! A row is a heartbeat, and what `status` shows of the worker. It is put without a condition and has at most 1 KB, one write
//! unit, or 4 KB while streams are halted; no write of a group is ever refused. Who is alive is not decided here but by whoever reads the rows.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::Outbox;
use crate::{
    error::{Error, Invalid},
    failure::Operation,
    limits::{MAX_HALTED_WORKER_ROW_BYTES, MAX_WORKER_ID_BYTES, MAX_WORKER_ROW_BYTES},
    schema::{
        self, BEAT, BEAT_INTERVAL, DELETED_ENTRIES, ENTITY, HALTED, HALTED_ATTEMPTS, HALTED_REASON, HALTED_SINCE,
        HALTED_STREAMS, HALTED_VERSION, HOST, Item, LAST_ERROR, LIVE_WORKERS, OPEN_STREAMS, PROCESS_ID,
        PROGRAM_VERSION, PUBLISHED_EVENTS, RELAY_PARTITION, STARTED_AT, STREAM_ID, WORKER_PREFIX, item_bytes,
    },
    stream::{StreamId, excerpt},
};

/// Most of a last error that a row shows: enough for a sentence that names a permission, what it is for, and its policy.
const MAX_LAST_ERROR_BYTES: usize = 320;

/// Most of the reason of a halt that a row shows. What says what to do stands at the end, so the middle makes way.
const MAX_HALTED_REASON_BYTES: usize = 480;

/// The name of a relay worker: no two workers that run at the same time may have the same one.
///
/// It is not empty, has no control characters, and at most 128 bytes. What exists is valid; a clone is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// Checks `id` and makes a worker's id of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the rule that `id` breaks.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        let refuse = |why| Err(Invalid::WorkerId { id: excerpt(id), why }.into());
        if id.is_empty() {
            return refuse("it is empty");
        }
        if id.chars().any(char::is_control) {
            return refuse("it has a control character");
        }
        if id.len() > MAX_WORKER_ID_BYTES {
            let (what, limit_bytes) = ("worker id", MAX_WORKER_ID_BYTES);
            return Err(Invalid::TooLong { what, limit_bytes, bytes: id.len() }.into());
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({})", self.0)
    }
}

impl FromStr for WorkerId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self, Error> {
        Self::new(id)
    }
}

/// A worker's row. Its times are by the worker's own clock and for people only.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerRow {
    /// Whose row it is.
    pub id: WorkerId,
    /// Changes with each heartbeat. A worker whose beat stands still for long enough is gone.
    pub beat: u64,
    /// The time from one heartbeat to the next, in milliseconds.
    pub beat_interval_ms: u64,
    /// When it started: milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// The machine that it runs on.
    pub host: String,
    /// Its process id there.
    pub process_id: u32,
    /// The program's version.
    pub version: String,
    /// Events that the broker has confirmed since it started.
    pub published: u64,
    /// Pending entries that it has deleted since it started.
    pub deleted: u64,
    /// Streams that it works on at the moment.
    pub open_streams: u64,
    /// How many live workers it sees, itself included: its share of the streams is one of so many.
    pub live_workers: u64,
    /// How many of its streams are halted.
    pub halted_streams: u64,
    /// Some of them: the row keeps as many as fit into 4 KB, in this order.
    pub halted: Vec<HaltedStream>,
    /// The last thing that went wrong; it is shortened.
    pub last_error: Option<String>,
}

impl WorkerRow {
    /// A row that says nothing but that the worker is there.
    #[must_use]
    pub fn new(id: WorkerId, beat: u64) -> Self {
        Self {
            id,
            beat,
            beat_interval_ms: 0,
            started_at_ms: 0,
            host: String::new(),
            process_id: 0,
            version: String::new(),
            published: 0,
            deleted: 0,
            open_streams: 0,
            live_workers: 0,
            halted_streams: 0,
            halted: Vec::new(),
            last_error: None,
        }
    }
}

/// A stream that can't go on, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HaltedStream {
    /// The stream.
    pub stream_id: StreamId,
    /// The version that can't be published; 0 where it is not known.
    pub version: u64,
    /// Why; it is shortened.
    pub reason: String,
    /// Since when: milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
}

impl HaltedStream {
    /// Puts one together.
    #[must_use]
    pub fn new(stream_id: StreamId, version: u64, reason: impl Into<String>, since_ms: i64, attempts: u32) -> Self {
        Self { stream_id, version, reason: reason.into(), since_ms, attempts }
    }
}

impl Outbox {
    /// Writes a worker's row, whatever stood there before: one write unit.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn put_worker(&self, row: &WorkerRow) -> Result<(), Error> {
        let operation = Operation::one(self.store.request_context(), "write the heartbeat", row.id.as_str());
        self.store
            .client()
            .put_item()
            .table_name(self.store.table())
            .set_item(Some(worker_item(row)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        Ok(())
    }

    /// The rows of all workers, strongly consistent, by their ids: one read unit for each 4 KB, at least one.
    ///
    /// A row says what its worker has written last, not that it is alive. What can't be read of a row (a newer version
    /// may write it otherwise) is empty or 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, Error> {
        let operation = Operation::one(self.store.request_context(), "read the workers", self.store.table());
        let query = self
            .store
            .client()
            .query()
            .table_name(self.store.table())
            .consistent_read(true)
            .key_condition_expression(format!("{STREAM_ID} = :relay AND begins_with({ENTITY}, :worker)"))
            .expression_attribute_values(":relay", schema::text(RELAY_PARTITION))
            .expression_attribute_values(":worker", schema::text(WORKER_PREFIX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let (mut rows, mut from) = (Vec::new(), None);
        loop {
            let page = match query.clone().set_exclusive_start_key(from).send().await {
                Ok(page) => page,
                Err(error) => return Err(self.unless_being_built(&operation, error).await),
            };
            rows.extend(page.items.unwrap_or_default().iter().filter_map(read_worker));
            match page.last_evaluated_key {
                Some(key) if !key.is_empty() => from = Some(key),
                _ => return Ok(rows),
            }
        }
    }

    /// Removes a worker's row. One that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers; the row may be gone then.
    pub async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error> {
        let operation = Operation::one(self.store.request_context(), "remove the worker", id.as_str());
        self.store
            .client()
            .delete_item()
            .table_name(self.store.table())
            .set_key(Some(schema::key(RELAY_PARTITION, schema::worker_key(id.as_str()))))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        Ok(())
    }
}

fn worker_item(row: &WorkerRow) -> Item {
    let mut item = schema::key(RELAY_PARTITION, schema::worker_key(row.id.as_str()));
    item.extend([
        (BEAT.to_owned(), schema::number(row.beat)),
        (BEAT_INTERVAL.to_owned(), schema::number(row.beat_interval_ms)),
        (STARTED_AT.to_owned(), schema::number(row.started_at_ms)),
        (HOST.to_owned(), schema::text(excerpt(&row.host))),
        (PROCESS_ID.to_owned(), schema::number(row.process_id)),
        (PROGRAM_VERSION.to_owned(), schema::text(excerpt(&row.version))),
        (PUBLISHED_EVENTS.to_owned(), schema::number(row.published)),
        (DELETED_ENTRIES.to_owned(), schema::number(row.deleted)),
        (OPEN_STREAMS.to_owned(), schema::number(row.open_streams)),
        (LIVE_WORKERS.to_owned(), schema::number(row.live_workers)),
        (HALTED_STREAMS.to_owned(), schema::number(row.halted_streams)),
    ]);
    if let Some(error) = &row.last_error {
        let room = MAX_WORKER_ROW_BYTES.saturating_sub(item_bytes(&item) + LAST_ERROR.len());
        item.insert(LAST_ERROR.to_owned(), schema::text(beginning(error, room.min(MAX_LAST_ERROR_BYTES))));
    }
    if !row.halted.is_empty() {
        item.insert(HALTED.to_owned(), AttributeValue::L(Vec::new()));
        let mut room = MAX_HALTED_WORKER_ROW_BYTES.saturating_sub(item_bytes(&item));
        let mut halted = Vec::new();
        for stream in &row.halted {
            let entry = halted_item(stream);
            // A list costs one byte for each element, a map three and one for each attribute.
            let bytes = 1 + 3 + entry.len() + item_bytes(&entry);
            // The first fits, whatever its length. One that does not makes way for those behind it.
            if bytes <= room {
                room -= bytes;
                halted.push(AttributeValue::M(entry));
            }
        }
        item.insert(HALTED.to_owned(), AttributeValue::L(halted));
    }
    item
}

const MORE: &str = "…";

/// The beginning of a text, in at most so many bytes.
fn beginning(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    format!("{}{MORE}", &text[..text.floor_char_boundary(most_bytes.saturating_sub(MORE.len()))])
}

/// A text without its middle, in at most so many bytes.
fn both_ends(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    let half = most_bytes.saturating_sub(MORE.len()) / 2;
    let (end, begin) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    format!("{}{MORE}{}", &text[..end], &text[begin..])
}

fn halted_item(halted: &HaltedStream) -> Item {
    Item::from([
        (STREAM_ID.to_owned(), schema::text(halted.stream_id.as_str())),
        (HALTED_VERSION.to_owned(), schema::number(halted.version)),
        (HALTED_REASON.to_owned(), schema::text(both_ends(&halted.reason, MAX_HALTED_REASON_BYTES))),
        (HALTED_SINCE.to_owned(), schema::number(halted.since_ms)),
        (HALTED_ATTEMPTS.to_owned(), schema::number(halted.attempts)),
    ])
}

/// `None` for an item whose key is no worker's.
fn read_worker(item: &Item) -> Option<WorkerRow> {
    let id = text(item, ENTITY).strip_prefix(WORKER_PREFIX).and_then(|id| WorkerId::new(id).ok())?;
    let halted = match item.get(HALTED) {
        Some(AttributeValue::L(list)) => list.iter().filter_map(|value| value.as_m().ok()).map(read_halted).collect(),
        _ => Vec::new(),
    };
    Some(WorkerRow {
        id,
        beat: number(item, BEAT),
        beat_interval_ms: number(item, BEAT_INTERVAL),
        started_at_ms: number(item, STARTED_AT),
        host: text(item, HOST).to_owned(),
        process_id: number(item, PROCESS_ID),
        version: text(item, PROGRAM_VERSION).to_owned(),
        published: number(item, PUBLISHED_EVENTS),
        deleted: number(item, DELETED_ENTRIES),
        open_streams: number(item, OPEN_STREAMS),
        live_workers: number(item, LIVE_WORKERS),
        halted_streams: number(item, HALTED_STREAMS),
        halted,
        last_error: item.contains_key(LAST_ERROR).then(|| text(item, LAST_ERROR).to_owned()),
    })
}

fn read_halted(item: &Item) -> HaltedStream {
    HaltedStream {
        stream_id: schema::read_stream_id(item),
        version: number(item, HALTED_VERSION),
        reason: text(item, HALTED_REASON).to_owned(),
        since_ms: number(item, HALTED_SINCE),
        attempts: number(item, HALTED_ATTEMPTS),
    }
}

fn text<'a>(item: &'a HashMap<String, AttributeValue>, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

fn number<T: FromStr + Default>(item: &Item, name: &str) -> T {
    schema::read_number(item, name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> WorkerRow {
        let mut row = WorkerRow::new(WorkerId::new("relay-1").unwrap(), 42);
        (row.beat_interval_ms, row.started_at_ms, row.process_id) = (5_000, 1_780_000_000_000, 77);
        (row.host, row.version) = ("a-host".to_owned(), "0.1.0".to_owned());
        (row.published, row.deleted, row.open_streams, row.live_workers) = (1_000, 900, 12, 3);
        row
    }

    fn halted(stream: &str, reason: &str) -> HaltedStream {
        HaltedStream::new(StreamId::new(stream).unwrap(), 7, reason, 1_780_000_000_000, 3)
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let mut row = row();
        (row.halted_streams, row.halted) = (1, vec![halted("order-1", "no queue is bound")]);
        row.last_error = Some("no connection to the broker".to_owned());
        assert_eq!(read_worker(&worker_item(&row)), Some(row));
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_in_a_row_it_is_read(
            item in schema::arbitrary::damaged(worker_item(&row()), WORKER_PREFIX)
        ) {
            let id = text(&item, ENTITY).strip_prefix(WORKER_PREFIX).unwrap_or_default().to_owned();
            assert_eq!(read_worker(&item).map(|row| row.id), WorkerId::new(&id).ok());
        }
    }

    #[test]
    fn a_reason_keeps_what_is_to_be_done_at_its_end_and_the_first_stream_is_named_whatever_its_length() {
        let mut row = row();
        let remedy = ": bind one, or run with --unroutable accept";
        let long = format!("no queue takes routing key \"{}\"{remedy}", "kü".repeat(700));
        let longest = format!("order-{}", "x".repeat(2_042));
        (row.halted_streams, row.halted) = (1, vec![halted(&longest, &long)]);
        row.last_error = Some("e".repeat(500));
        let item = worker_item(&row);
        assert!(item_bytes(&item) <= MAX_HALTED_WORKER_ROW_BYTES, "{} bytes", item_bytes(&item));
        let read = read_worker(&item).unwrap();
        assert_eq!(read.halted[0].stream_id.as_str(), longest);
        let reason = &read.halted[0].reason;
        assert!(reason.starts_with("no queue takes routing key") && reason.ends_with(remedy), "{reason}");
    }

    #[test]
    fn a_row_keeps_within_its_write_units_however_much_is_halted() {
        let mut row = row();
        row.id = WorkerId::new("w".repeat(MAX_WORKER_ID_BYTES)).unwrap();
        (row.host, row.version) = ("ü".repeat(500), "1".repeat(500));
        row.last_error = Some("é".repeat(500));
        assert!(item_bytes(&worker_item(&row)) <= MAX_WORKER_ROW_BYTES);
        let error_bytes = |row: &WorkerRow| read_worker(&worker_item(row)).unwrap().last_error.unwrap().len();
        assert!(error_bytes(&row) <= MAX_LAST_ERROR_BYTES && error_bytes(&row) > 200, "{}", error_bytes(&row));
        let longest = format!("order-{}", "x".repeat(2_000));
        row.halted = (0..100).map(|id| halted(&format!("order-{id}"), "no queue")).collect();
        row.halted.insert(0, halted(&longest, "no queue"));
        row.halted_streams = 101;
        let item = worker_item(&row);
        assert!(item_bytes(&item) <= MAX_HALTED_WORKER_ROW_BYTES, "{} bytes", item_bytes(&item));
        let read = read_worker(&item).unwrap();
        assert_eq!(read.halted_streams, 101, "the number is told in any case");
        assert!(read.halted.len() > 10 && read.halted[1].stream_id.as_str() == "order-0", "{:?}", read.halted);
    }

    #[test]
    fn a_row_that_another_version_wrote_is_still_a_heartbeat() {
        let item = Item::from([
            (ENTITY.to_owned(), schema::text("worker#relay-1")),
            (BEAT.to_owned(), schema::number(5)),
            (HALTED.to_owned(), schema::text("many")),
        ]);
        assert_eq!(read_worker(&item), Some(WorkerRow::new(WorkerId::new("relay-1").unwrap(), 5)));
        assert_eq!(read_worker(&Item::from([(ENTITY.to_owned(), schema::text("skip#1"))])), None);
    }

    #[test]
    fn a_worker_id_that_breaks_a_rule_is_refused() {
        assert!(WorkerId::new("").unwrap_err().to_string().contains("empty"));
        assert!(WorkerId::new("a\nb").unwrap_err().to_string().contains("control"));
        assert!(WorkerId::new("w".repeat(129)).unwrap_err().to_string().contains("at most 128 bytes, got 129"));
    }
}
