//! One batch of a stream's lines: compared with what is in the table, the rest appended.

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

/// Why a batch could not be imported.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The stream's lines can't be imported, those of others can.
    Stream { line: u64, why: String },
    /// No line can be at the moment.
    All { line: u64, error: Error },
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

/// Imports one batch: compares it with the stream up to the stream's end, and appends the rest. If another writer is faster, its events
/// are compared, too.
pub(super) async fn import(
    store: &EventStore,
    progress: &mut Progress,
    batch: &[Line],
    tally: &mut Tally,
) -> Result<(), Stopped> {
    let mut left = batch;
    let mut most = batch.len();
    while let Some(next) = left.first() {
        let failed = |error| stopped(next.number, error);
        if !progress.is_end {
            let mut reader = store.reader_from(progress.position.clone());
            reader = reader.up_to(progress.position.version() + left.len() as u64);
            while let Some(page) = reader.next_page().await.map_err(failed)? {
                for (event, line) in page.iter().zip(left) {
                    compare(event, line)?;
                    tally.already_there += 1;
                }
                left = &left[page.len()..];
                progress.position = reader.position().clone();
            }
            progress.is_end = !left.is_empty();
            continue;
        }
        let expected = ExpectedVersion::At(progress.position.clone());
        let (now, later) = left.split_at(most.min(left.len()));
        match store.append(&next.stream, expected, now.iter().map(|line| line.event.clone())).await {
            Ok(appended) => {
                tally.appended += now.len() as u64;
                tally.appends += 1;
                tally.write_units += appended.write_units;
                progress.position = appended.position;
                left = later;
            }
            Err(Error::Conflict(_)) => progress.is_end = false,
            // On a slow link fewer events get through in time. What of them was stored all the same is compared.
            Err(Error::Unavailable { .. }) if now.len() > 1 => {
                most = now.len() / 2;
                progress.is_end = false;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn stopped(line: u64, error: Error) -> Stopped {
    match error {
        Error::Corrupt(corrupt) => Stopped::Stream { line, why: corrupt.to_string() },
        mut error => {
            // Appends of an import have no ids that could be given again: the next import finds what was stored.
            if let Error::Unavailable { outcome_unknown, .. } = &mut error {
                *outcome_unknown = false;
            }
            Stopped::All { line, error }
        }
    }
}

fn compare(event: &RecordedEvent, line: &Line) -> Result<(), Stopped> {
    let new = &line.event;
    let differences = [
        ("type", event.event_type != new.event_type()),
        ("data", event.payload != new.payload_text()),
        ("metadata", event.metadata != *new.metadata()),
        ("private mark", event.is_private != new.is_private()),
    ];
    let Some((what, _)) = differences.into_iter().find(|(_, differs)| *differs) else { return Ok(()) };
    let (stream, version) = (&line.stream, event.version);
    let why = format!("the table has another event as version {version} of {stream}: its {what} differs");
    Err(Stopped::Stream { line: line.number, why })
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
