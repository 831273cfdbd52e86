//! The row of a relay worker: how it is written and read.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    BEAT, BEAT_INTERVAL, DELETED_ENTRIES, HALTED, HALTED_ATTEMPTS, HALTED_REASON, HALTED_SINCE, HALTED_STREAMS,
    HALTED_VERSION, HOST, Item, LAST_ERROR, LIVE_WORKERS, OPEN_STREAMS, PROCESS_ID, PROGRAM_VERSION, PUBLISHED_EVENTS,
    RELAY_PARTITION, STARTED_AT, STREAM_ID, WORKER_PREFIX, fields::Fields, key, number, size::item_bytes, text,
    worker_key,
};
use crate::{
    limits::{MAX_HALTED_WORKER_ROW_BYTES, MAX_WORKER_ROW_BYTES},
    outbox::worker::{HaltedStream, WorkerId, WorkerRow},
    stream::excerpt,
};

/// Most of a last error that a row shows: enough for a sentence that names a permission, what it is for, and its policy.
const MAX_LAST_ERROR_BYTES: usize = 320;

/// Most of the reason of a halt that a row shows. What says what to do stands at the end, so the middle makes way.
const MAX_HALTED_REASON_BYTES: usize = 480;

/// The row of a relay worker.
pub(crate) fn worker_item(row: &WorkerRow) -> Item {
    let mut item = key(RELAY_PARTITION, worker_key(row.id.as_str()));
    item.extend([
        (BEAT.to_owned(), number(row.beat)),
        (BEAT_INTERVAL.to_owned(), number(row.beat_interval_ms)),
        (STARTED_AT.to_owned(), number(row.started_at_ms)),
        (HOST.to_owned(), text(excerpt(&row.host))),
        (PROCESS_ID.to_owned(), number(row.process_id)),
        (PROGRAM_VERSION.to_owned(), text(excerpt(&row.version))),
        (PUBLISHED_EVENTS.to_owned(), number(row.published)),
        (DELETED_ENTRIES.to_owned(), number(row.deleted)),
        (OPEN_STREAMS.to_owned(), number(row.open_streams)),
        (LIVE_WORKERS.to_owned(), number(row.live_workers)),
        (HALTED_STREAMS.to_owned(), number(row.halted_streams)),
    ]);
    if let Some(error) = &row.last_error {
        let room = MAX_WORKER_ROW_BYTES.saturating_sub(item_bytes(&item) + LAST_ERROR.len());
        item.insert(LAST_ERROR.to_owned(), text(beginning(error, room.min(MAX_LAST_ERROR_BYTES))));
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

/// The beginning of a text, in at most `most_bytes`.
fn beginning(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    format!("{}{MORE}", &text[..text.floor_char_boundary(most_bytes.saturating_sub(MORE.len()))])
}

/// A text without its middle, in at most `most_bytes`.
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
        (STREAM_ID.to_owned(), text(halted.stream_id.as_str())),
        (HALTED_VERSION.to_owned(), number(halted.version)),
        (HALTED_REASON.to_owned(), text(both_ends(&halted.reason, MAX_HALTED_REASON_BYTES))),
        (HALTED_SINCE.to_owned(), number(halted.since_ms)),
        (HALTED_ATTEMPTS.to_owned(), number(halted.attempts)),
    ])
}

/// `None` for an item whose key is not a worker's. What can't be read is empty or 0: a newer version may have written it otherwise.
pub(crate) fn read_worker(item: Item) -> Option<WorkerRow> {
    let mut fields = Fields::new(item);
    let id = fields.entity.strip_prefix(WORKER_PREFIX).and_then(|id| WorkerId::new(id).ok())?;
    let halted = match fields.take(HALTED) {
        Some(AttributeValue::L(list)) => list.into_iter().filter_map(read_halted).collect(),
        _ => Vec::new(),
    };
    Some(WorkerRow {
        id,
        beat: fields.number(BEAT).unwrap_or_default(),
        beat_interval_ms: fields.number(BEAT_INTERVAL).unwrap_or_default(),
        started_at_ms: fields.number(STARTED_AT).unwrap_or_default(),
        host: fields.text(HOST).unwrap_or_default(),
        process_id: fields.number(PROCESS_ID).unwrap_or_default(),
        version: fields.text(PROGRAM_VERSION).unwrap_or_default(),
        published: fields.number(PUBLISHED_EVENTS).unwrap_or_default(),
        deleted: fields.number(DELETED_ENTRIES).unwrap_or_default(),
        open_streams: fields.number(OPEN_STREAMS).unwrap_or_default(),
        live_workers: fields.number(LIVE_WORKERS).unwrap_or_default(),
        halted_streams: fields.number(HALTED_STREAMS).unwrap_or_default(),
        halted,
        last_error: fields.has(LAST_ERROR).then(|| fields.text(LAST_ERROR).unwrap_or_default()),
    })
}

fn read_halted(value: AttributeValue) -> Option<HaltedStream> {
    let AttributeValue::M(item) = value else { return None };
    let mut fields = Fields::new(item);
    Some(HaltedStream {
        version: fields.number(HALTED_VERSION).unwrap_or_default(),
        reason: fields.text(HALTED_REASON).unwrap_or_default(),
        since_ms: fields.number(HALTED_SINCE).unwrap_or_default(),
        attempts: fields.number(HALTED_ATTEMPTS).unwrap_or_default(),
        stream_id: fields.stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::MAX_WORKER_ID_BYTES,
        schema::{ENTITY, arbitrary, read_entity},
        stream::StreamId,
    };

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
        assert_eq!(read_worker(worker_item(&row)), Some(row));
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_in_a_row_it_is_read(
            item in arbitrary::damaged(worker_item(&row()), WORKER_PREFIX)
        ) {
            let id = read_entity(&item).strip_prefix(WORKER_PREFIX).unwrap_or_default().to_owned();
            assert_eq!(read_worker(item.clone()).map(|row| row.id), WorkerId::new(&id).ok());
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
        let read = read_worker(item.clone()).unwrap();
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
        let error_bytes = |row: &WorkerRow| read_worker(worker_item(row)).unwrap().last_error.unwrap().len();
        assert!(error_bytes(&row) <= MAX_LAST_ERROR_BYTES && error_bytes(&row) > 200, "{}", error_bytes(&row));
        let longest = format!("order-{}", "x".repeat(2_000));
        row.halted = (0..100).map(|id| halted(&format!("order-{id}"), "no queue")).collect();
        row.halted.insert(0, halted(&longest, "no queue"));
        row.halted_streams = 101;
        let item = worker_item(&row);
        assert!(item_bytes(&item) <= MAX_HALTED_WORKER_ROW_BYTES, "{} bytes", item_bytes(&item));
        let read = read_worker(item.clone()).unwrap();
        assert_eq!(read.halted_streams, 101, "the number is told in any case");
        assert!(read.halted.len() > 10 && read.halted[1].stream_id.as_str() == "order-0", "{:?}", read.halted);
    }

    #[test]
    fn a_row_that_another_version_wrote_is_still_a_heartbeat() {
        let item = Item::from([
            (ENTITY.to_owned(), text("worker#relay-1")),
            (BEAT.to_owned(), number(5)),
            (HALTED.to_owned(), text("many")),
        ]);
        assert_eq!(read_worker(item.clone()), Some(WorkerRow::new(WorkerId::new("relay-1").unwrap(), 5)));
        assert_eq!(read_worker(Item::from([(ENTITY.to_owned(), text("skip#1"))])), None);
    }

    #[test]
    fn a_worker_id_that_breaks_a_rule_is_refused() {
        assert!(WorkerId::new("").unwrap_err().to_string().contains("empty"));
        assert!(WorkerId::new("a\nb").unwrap_err().to_string().contains("control"));
        assert!(WorkerId::new("w".repeat(129)).unwrap_err().to_string().contains("at most 128 bytes, got 129"));
    }
}
