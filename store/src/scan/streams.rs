//! The streams of the table, without their events.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_core::Stream;
use futures_util::StreamExt as _;

use super::{
    ScanOptions,
    merge::{Merged, Row, Rows, Source},
    page::{ScanRows, Segment},
    scanned::Scanned,
    token::Progress,
};
use crate::{
    error::{Corrupt, Error},
    event::time_of,
    schema::{self, EVENT_PREFIX, EVENT_TYPE, Fields, Item, RECORDED_AT},
    stream::StreamId,
    table::Table,
};

/// A stream, as a scan of the table has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSummary {
    /// The stream.
    pub stream_id: StreamId,
    /// The version of its newest event.
    pub version: u64,
    /// How many events were seen. Differs from `version` if one is missing, or was not visible yet.
    pub events: u64,
    /// The type of its newest event.
    pub last_type: String,
    /// When its newest event was recorded: milliseconds since the Unix epoch.
    pub last_recorded_at_ms: i64,
}

impl StreamSummary {
    /// When its newest event was recorded, by its appender's clock, in whole milliseconds.
    #[must_use]
    pub fn last_recorded_at(&self) -> SystemTime {
        time_of(self.last_recorded_at_ms)
    }
}

/// The streams of the table, or of a category. See [`EventStore::scan_streams`](crate::EventStore::scan_streams).
///
/// [`Error::Corrupt`] stands in the place of one stream, and the scan continues with the next. Any other error is the last item.
#[derive(Debug)]
pub struct StreamScan {
    merged: Merged<Scanned<StreamSummary>>,
}

impl StreamScan {
    pub(crate) fn new(table: &Table, options: &ScanOptions) -> Result<Self, Error> {
        options.check_from_start("a list of streams")?;
        let sources = (0..options.segments).map(|number| {
            let rows = ScanRows::Parts(SUMMARY_ATTRIBUTES);
            let segment = Segment::new(table.clone(), options.clone(), number, rows);
            (StreamSource { segment, last: None, damaged: None }, Progress::Start)
        });
        Ok(Self { merged: Merged::new(sources, 0, None) })
    }

    /// The capacity units consumed so far, those of pages that were fetched ahead included.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.merged.read_units()
    }
}

impl Stream for StreamScan {
    type Item = Result<StreamSummary, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.merged.poll_next_unpin(context).map(|next| next.map(|row| row?.into_result()))
    }
}

impl Row for StreamSummary {
    fn stream(&self) -> &StreamId {
        &self.stream_id
    }

    fn progress(&self) -> Progress {
        // Nothing resumes behind it: there is no token of a list of streams.
        Progress::Start
    }
}

#[derive(Debug)]
struct StreamSource {
    segment: Segment,
    /// The stream that was seen last and may continue.
    last: Option<StreamSummary>,
    /// The stream that was found damaged last, of which more events may come.
    damaged: Option<StreamId>,
}

impl Source for StreamSource {
    type Row = Scanned<StreamSummary>;

    async fn next_page(&mut self) -> Result<Rows<Self::Row>, Error> {
        let watch = self.segment.watch();
        let page = watch.over(self.segment.next_page()).await?;
        let mut rows = VecDeque::new();
        for item in page.items {
            if self.damaged.as_ref().is_some_and(|damaged| damaged.as_str() == schema::stream_text(&item)) {
                continue;
            }
            match (read_event_summary(item), &mut self.last) {
                (Ok(seen), Some(last)) if last.stream_id == seen.stream_id => {
                    *last = StreamSummary { events: last.events + 1, ..seen };
                }
                (Ok(seen), last) => rows.extend(last.replace(seen).map(Scanned::Row)),
                (Err(corrupt), last) => {
                    rows.extend(last.take_if(|last| last.stream_id != corrupt.stream).map(Scanned::Row));
                    *last = None;
                    self.damaged = Some(corrupt.stream.clone());
                    rows.push_back(Scanned::Damaged(corrupt));
                }
            }
        }
        let end = self.segment.progress.clone();
        if end == Progress::End {
            rows.extend(self.last.take().map(Scanned::Row));
        }
        Ok(Rows { queue: rows, end, read_units: page.read_units })
    }
}

/// What [`read_event_summary`] needs of an event.
const SUMMARY_ATTRIBUTES: &str = "stream_id, entity, event_type, recorded_at";

/// Reads of an event what a list of streams shows: as if it were its stream's only one.
fn read_event_summary(item: Item) -> Result<StreamSummary, Corrupt> {
    let mut fields = Fields::new(item);
    Ok(StreamSummary {
        version: fields.version_in_key(EVENT_PREFIX)?,
        events: 1,
        last_type: fields.text(EVENT_TYPE)?,
        last_recorded_at_ms: fields.number(RECORDED_AT)?,
        stream_id: fields.stream,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{
        arbitrary::damaged,
        tests::{names_the_item, sound},
    };

    proptest! {
        #[test]
        fn an_event_that_a_list_of_streams_can_not_read_is_named(item in damaged(sound().0, EVENT_PREFIX)) {
            if let Err(corrupt) = read_event_summary(item.clone()) {
                names_the_item(&item, &corrupt);
            }
        }
    }
}
