//! One stream's part of an import: its lines in order, compared with what is there, the rest appended.

use std::collections::VecDeque;

use streambox::{
    Error, EventStore, ExpectedVersion, RecordedEvent, StreamPosition,
    limits::{MAX_INLINE_ENTRY_BYTES, MAX_STREAM_ID_BYTES, MAX_TRANSACTION_BYTES},
};

use crate::line::Line;

/// Most bytes of an append's events: a transaction's less the pending entry's, whose key may be as long as an id.
const MAX_BATCH_BYTES: usize = MAX_TRANSACTION_BYTES - 2 * MAX_STREAM_ID_BYTES - MAX_INLINE_ENTRY_BYTES;

/// How far a stream has been imported.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Behind the last line that is in the table.
    pub(super) position: StreamPosition,
    /// Whether the stream ended there when it was last looked at, so that nothing is left to compare.
    pub(super) is_end: bool,
}

/// What one batch of lines came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) appended: u64,
    pub(super) already_there: u64,
    pub(super) appends: u64,
    pub(super) write_units: f64,
}

#[derive(Debug)]
pub(super) enum Stopped {
    /// The table has another event where a line belongs.
    Differs {
        line: u64,
        stream: String,
        version: u64,
        what: &'static str,
    },
    Store {
        line: u64,
        error: Error,
    },
}

/// Takes the next lines that go into one append.
pub(super) fn take_batch(waiting: &mut VecDeque<Line>, max_events: usize) -> Vec<Line> {
    let mut bytes = 0;
    let fits = |line: &&Line| {
        bytes += line.bytes;
        bytes <= MAX_BATCH_BYTES
    };
    let count = waiting.iter().take(max_events).take_while(fits).count();
    waiting.drain(..count).collect()
}

/// Imports one batch: compares with the stream as long as there is something to compare with, appends the rest. Where
/// another writer is quicker, what it has written is compared, too.
pub(super) async fn import(
    store: &EventStore,
    progress: &mut Progress,
    batch: &[Line],
    tally: &mut Tally,
) -> Result<(), Stopped> {
    let mut left = batch;
    while let Some(next) = left.first() {
        let failed = |error| Stopped::Store { line: next.number, error };
        if !progress.is_end {
            let mut reader = store.reader_from(progress.position.clone());
            reader = reader.up_to(progress.position.version() + left.len() as u64);
            while let Some(page) = reader.next_page().await.map_err(failed)? {
                for (event, line) in page.iter().zip(left) {
                    compare(event, line)?;
                }
                left = &left[page.len()..];
                tally.already_there += page.len() as u64;
                progress.position = reader.position().clone();
            }
            progress.is_end = !left.is_empty();
            continue;
        }
        let expected = ExpectedVersion::At(progress.position.clone());
        match store.append(&next.stream, expected, left.iter().map(|line| line.event.clone())).await {
            Ok(appended) => {
                tally.appended += left.len() as u64;
                tally.appends += 1;
                tally.write_units += appended.write_units;
                progress.position = appended.position;
                left = &[];
            }
            Err(Error::Conflict(_)) => progress.is_end = false,
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn compare(event: &RecordedEvent, line: &Line) -> Result<(), Stopped> {
    let new = &line.event;
    let what = if event.event_type != new.event_type() {
        "type"
    } else if event.payload != new.payload_text() {
        "data"
    } else if event.metadata != *new.metadata() {
        "metadata"
    } else if event.is_private != new.is_private() {
        "private mark"
    } else {
        return Ok(());
    };
    Err(Stopped::Differs { line: line.number, stream: line.stream.to_string(), version: event.version, what })
}

#[cfg(test)]
mod tests {
    use streambox::{NewEvent, StreamId};

    use super::*;

    fn lines(bytes: &[usize]) -> VecDeque<Line> {
        let line = |(&bytes, number)| Line {
            number,
            stream: StreamId::new("order-1").unwrap(),
            event: NewEvent::from_json_text("A", "1").unwrap(),
            bytes,
        };
        bytes.iter().zip(1..).map(line).collect()
    }

    fn batches(bytes: &[usize], max_events: usize) -> Vec<Vec<u64>> {
        let mut waiting = lines(bytes);
        std::iter::from_fn(|| (!waiting.is_empty()).then(|| take_batch(&mut waiting, max_events)))
            .map(|batch| batch.iter().map(|line| line.number).collect())
            .collect()
    }

    #[test]
    fn a_batch_has_no_more_events_than_asked_for() {
        assert_eq!(batches(&[500; 5], 2), [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn a_batch_fits_into_a_transaction() {
        let large = 400 * 1024;
        assert_eq!(batches(&[large; 12], 25), [(1..=10).collect::<Vec<_>>(), vec![11, 12]]);
    }
}
