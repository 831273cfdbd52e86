//! The events of all streams.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::StreamExt as _;

use super::{
    ScanOptions, ScanToken,
    merge::{Merged, Row, Rows, Source},
    page::{ScanRows, Segment},
    scanned::Scanned,
    token::Progress,
};
use crate::{
    error::Error,
    event::RecordedEvent,
    read::EventReader,
    schema::{self, EVENT_PREFIX, Item},
    stream::StreamId,
    table::Table,
};

/// The events of all streams, or of a category: one stream after the other, each in order. See
/// [`EventStore::scan_events`](crate::EventStore::scan_events).
///
/// [`Error::Corrupt`] is about one stream: what came of it before is all of it that is handed out, and the scan continues with the
/// next stream. Any other error is the last item; [`token`](Self::token) says where to resume.
#[derive(Debug)]
pub struct EventScan {
    merged: Merged<Scanned<RecordedEvent>>,
    category: Option<String>,
}

impl EventScan {
    pub(crate) fn new(table: &Table, options: &ScanOptions) -> Result<Self, Error> {
        options.check()?;
        let category = options.category.clone();
        let (turn, stream) = match &options.token {
            Some(token) => (token.turn, token.stream.as_deref().map(StreamId::stored)),
            None => (0, None),
        };
        let sources = (0..options.segments).map(|number| {
            let segment = Segment::new(table.clone(), options.clone(), number, ScanRows::Events);
            let taken = segment.progress.clone();
            (EventSource::new(segment), taken)
        });
        Ok(Self { merged: Merged::new(sources, turn, stream), category })
    }

    /// Where the scan is: behind the event that was handed out last, or behind the stream that was reported as damaged, whatever
    /// has been fetched beyond it.
    #[must_use]
    pub fn token(&self) -> ScanToken {
        let stream = self.merged.stream().map(|stream| stream.as_str().to_owned());
        ScanToken::new(self.category.clone(), self.merged.turn(), stream, self.merged.taken())
    }

    /// The capacity units consumed so far, those of pages that were fetched ahead included.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.merged.read_units()
    }
}

impl Stream for EventScan {
    type Item = Result<RecordedEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.merged.poll_next_unpin(context).map(|next| next.map(|row| row?.into_result()))
    }
}

impl Row for RecordedEvent {
    fn stream(&self) -> &StreamId {
        &self.stream_id
    }

    fn progress(&self) -> Progress {
        Progress::behind(self)
    }
}

/// The event that was seen last in a segment.
#[derive(Clone, Debug)]
struct Tail {
    stream: StreamId,
    version: u64,
    append_last: u64,
}

#[derive(Debug)]
struct EventSource {
    segment: Segment,
    tail: Option<Tail>,
    /// What the page has brought so far.
    rows: VecDeque<Scanned<RecordedEvent>>,
    read_units: f64,
}

impl EventSource {
    fn new(segment: Segment) -> Self {
        let tail = match &segment.progress {
            Progress::After { stream, entity, append_last } => schema::event_version(entity).map(|version| Tail {
                stream: StreamId::stored(stream),
                version,
                append_last: *append_last,
            }),
            Progress::Start | Progress::End => None,
        };
        Self { segment, tail, rows: VecDeque::new(), read_units: 0.0 }
    }

    /// Takes the next item of a stream. What the scan has not shown of the stream up to there is read first.
    async fn take(&mut self, item: Item) -> Result<(), Error> {
        let event = schema::read_event(item)?;
        self.fill_up_to(&event.stream_id, event.version - 1).await?;
        // Else it has come by a Query already.
        if self.tail.as_ref().is_none_or(|tail| tail.version < event.version) {
            self.push(event);
        }
        Ok(())
    }

    /// The stream that was seen last, if it is another, has ended: so must its last append.
    async fn close(&mut self, next: Option<&str>) -> Result<(), Error> {
        let ended = self.tail.take_if(|tail| next != Some(tail.stream.as_str()));
        if let Some(Tail { stream, version, append_last }) = ended
            && version < append_last
        {
            let filled = self.fill(&stream, version + 1, append_last).await;
            self.tail = None;
            self.is_damaged(filled)?;
        }
        Ok(())
    }

    /// Where the scan has come to version `to` of a stream: reads what it has not shown up to there.
    async fn fill_up_to(&mut self, stream: &StreamId, to: u64) -> Result<(), Error> {
        let from = self.tail.as_ref().map_or(1, |tail| tail.version + 1);
        if from <= to { self.fill(stream, from, to).await } else { Ok(()) }
    }

    /// What was not visible to the scan, by a Query that waits for it.
    async fn fill(&mut self, stream: &StreamId, from: u64, to: u64) -> Result<(), Error> {
        let mut reader = EventReader::beginning_with(self.segment.table.clone(), stream.clone(), from).reaching(to);
        while let Some(page) = reader.fetch().await? {
            for event in page {
                self.push(event);
            }
        }
        self.read_units += reader.read_units();
        Ok(())
    }

    fn push(&mut self, event: RecordedEvent) {
        let (stream, version) = (event.stream_id.clone(), event.version);
        self.tail = Some(Tail { stream, version, append_last: event.append.last });
        self.rows.push_back(Scanned::Row(event));
    }

    /// Hands out what is wrong with a stream, if that is what has come. Any other error ends the scan.
    fn is_damaged(&mut self, outcome: Result<(), Error>) -> Result<bool, Error> {
        match outcome {
            Ok(()) => Ok(false),
            Err(Error::Corrupt(corrupt)) => {
                self.tail = None;
                self.rows.push_back(Scanned::Damaged(*corrupt));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

impl Source for EventSource {
    type Row = Scanned<RecordedEvent>;

    async fn next_page(&mut self) -> Result<Rows<Self::Row>, Error> {
        let watch = self.segment.watch();
        watch.over(self.fetch()).await
    }
}

impl EventSource {
    async fn fetch(&mut self) -> Result<Rows<Scanned<RecordedEvent>>, Error> {
        let page = self.segment.next_page().await?;
        self.read_units = page.read_units;
        let mut damaged: Option<StreamId> = None;
        for item in page.items {
            let stream = schema::stream_text(&item);
            if damaged.as_ref().is_some_and(|damaged| damaged.as_str() == stream) {
                continue;
            }
            self.close(Some(stream)).await?;
            let stream = schema::read_stream_id(&item);
            let taken = self.take(item).await;
            if self.is_damaged(taken)? {
                damaged = Some(stream);
            }
        }
        if let (Some(damaged), Progress::After { stream, entity, .. }) = (&damaged, &self.segment.progress)
            && damaged.as_str() == stream
            && entity.starts_with(EVENT_PREFIX)
        {
            self.segment.progress = Progress::behind_events(damaged);
        }
        let end = self.segment.event_at_end();
        self.close(end.as_ref().map(|(stream, _)| stream.as_str())).await?;
        if let Some((stream, version)) = end {
            // The page may have ended in the middle of an append.
            let filled = self.fill_up_to(&stream, version).await;
            if self.is_damaged(filled)? {
                self.segment.progress = Progress::behind_events(&stream);
            } else if let (Progress::After { append_last, .. }, Some(tail)) = (&mut self.segment.progress, &self.tail) {
                *append_last = tail.append_last;
            }
        }
        Ok(Rows {
            queue: std::mem::take(&mut self.rows),
            end: self.segment.progress.clone(),
            read_units: self.read_units,
        })
    }
}
