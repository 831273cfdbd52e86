//! The events of all streams.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    ScanOptions, ScanToken,
    lanes::{Lanes, Row, Rows, Source},
    page::{ScanRows, Segment},
    scanned::Scanned,
    token::Place,
};
use crate::{
    EventStore,
    error::Error,
    event::RecordedEvent,
    read::EventReader,
    schema::{self, EVENT_PREFIX, Item},
    stream::StreamId,
};

/// The events of all streams, or of a category: one stream after the other, each in order. See
/// [`EventStore::scan_events`].
///
/// [`Error::Corrupt`] is about one stream: what came of it before is all of it that is handed out, and the scan goes on with the
/// next stream. Any other error is the last item; [`token`](Self::token) says where to go on afterwards.
#[derive(Debug)]
pub struct EventScan {
    lanes: Lanes<EventSource>,
    category: Option<String>,
}

impl EventScan {
    pub(crate) fn new(store: &EventStore, options: &ScanOptions) -> Result<Self, Error> {
        options.check()?;
        let category = options.category.clone();
        let (turn, stream) = match &options.token {
            Some(token) => (token.turn, token.stream.as_deref().map(StreamId::stored)),
            None => (0, None),
        };
        let sources = (0..options.segments).map(|number| {
            let segment = Segment::new(store.clone(), options.clone(), number, ScanRows::Events);
            let place = segment.place.clone();
            (EventSource::new(segment), place)
        });
        Ok(Self { lanes: Lanes::new(sources, turn, stream), category })
    }

    /// Where the scan is: behind the event that was handed out last, or behind the stream that was reported as damaged, whatever
    /// has been fetched beyond it.
    #[must_use]
    pub fn token(&self) -> ScanToken {
        let stream = self.lanes.stream().map(|stream| stream.as_str().to_owned());
        ScanToken::new(self.category.clone(), self.lanes.turn(), stream, self.lanes.taken())
    }

    /// The capacity units consumed so far, those of pages that were fetched ahead included.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.lanes.read_units()
    }
}

impl Stream for EventScan {
    type Item = Result<RecordedEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lanes.poll_next(context).map(|next| next.map(|row| row.and_then(Scanned::into_result)))
    }
}

impl Row for RecordedEvent {
    fn stream(&self) -> &StreamId {
        &self.stream_id
    }

    fn place(&self) -> Place {
        Place::behind(self)
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
}

#[derive(Default)]
struct Found {
    rows: VecDeque<Scanned<RecordedEvent>>,
    read_units: f64,
}

impl EventSource {
    fn new(segment: Segment) -> Self {
        let tail = match &segment.place {
            Place::After { stream, entity, append_last } => schema::event_version(entity).map(|version| Tail {
                stream: StreamId::stored(stream),
                version,
                append_last: *append_last,
            }),
            Place::Start | Place::End => None,
        };
        Self { segment, tail }
    }

    /// Takes the next item of a stream. What the scan has not shown of the stream up to there is read first.
    async fn take(&mut self, found: &mut Found, item: Item) -> Result<(), Error> {
        let event = schema::read_event(item)?;
        self.fill_up_to(found, &event.stream_id, event.version - 1).await?;
        // Else it has come by a Query already.
        if self.tail.as_ref().is_none_or(|tail| tail.version < event.version) {
            self.push(found, event);
        }
        Ok(())
    }

    /// The stream that was seen last, if it is another, has ended: so must its last append.
    async fn close(&mut self, found: &mut Found, next: Option<&str>) -> Result<(), Error> {
        let ended = self.tail.take_if(|tail| next != Some(tail.stream.as_str()));
        if let Some(Tail { stream, version, append_last }) = ended
            && version < append_last
        {
            let filled = self.fill(found, &stream, version + 1, append_last).await;
            self.tail = None;
            self.is_damaged(found, filled)?;
        }
        Ok(())
    }

    /// Where the scan has come to version `to` of a stream: reads what it has not shown up to there.
    async fn fill_up_to(&mut self, found: &mut Found, stream: &StreamId, to: u64) -> Result<(), Error> {
        let from = self.tail.as_ref().map_or(1, |tail| tail.version + 1);
        if from <= to { self.fill(found, stream, from, to).await } else { Ok(()) }
    }

    /// What was not visible to the scan, by a Query that waits for it.
    async fn fill(&mut self, found: &mut Found, stream: &StreamId, from: u64, to: u64) -> Result<(), Error> {
        let mut reader = EventReader::beginning_with(self.segment.store.clone(), stream.clone(), from).reaching(to);
        while let Some(page) = reader.next_page().await? {
            for event in page {
                self.push(found, event);
            }
        }
        found.read_units += reader.read_units();
        Ok(())
    }

    fn push(&mut self, found: &mut Found, event: RecordedEvent) {
        let (stream, version) = (event.stream_id.clone(), event.version);
        self.tail = Some(Tail { stream, version, append_last: event.append.last });
        found.rows.push_back(Scanned::Row(event));
    }

    /// Hands out what is wrong with a stream, if that is what has come. Any other error ends the scan.
    fn is_damaged(&mut self, found: &mut Found, outcome: Result<(), Error>) -> Result<bool, Error> {
        match outcome {
            Ok(()) => Ok(false),
            Err(Error::Corrupt(corrupt)) => {
                self.tail = None;
                found.rows.push_back(Scanned::Damaged(*corrupt));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

impl Source for EventSource {
    type Row = Scanned<RecordedEvent>;

    async fn next_page(&mut self) -> Result<Rows<Self::Row>, Error> {
        let page = self.segment.next_page().await?;
        let mut found = Found { rows: VecDeque::new(), read_units: page.read_units };
        let mut damaged: Option<StreamId> = None;
        for item in page.items {
            let stream = schema::stream_text(&item);
            if damaged.as_ref().is_some_and(|damaged| damaged.as_str() == stream) {
                continue;
            }
            self.close(&mut found, Some(stream)).await?;
            let stream = schema::read_stream_id(&item);
            let taken = self.take(&mut found, item).await;
            if self.is_damaged(&mut found, taken)? {
                damaged = Some(stream);
            }
        }
        if let (Some(damaged), Place::After { stream, entity, .. }) = (&damaged, &self.segment.place)
            && damaged.as_str() == stream
            && entity.starts_with(EVENT_PREFIX)
        {
            self.segment.place = Place::behind_events(damaged);
        }
        let end = self.segment.place_at_event();
        self.close(&mut found, end.as_ref().map(|(stream, _)| stream.as_str())).await?;
        if let Some((stream, version)) = end {
            // The page may have ended in the middle of an append.
            let filled = self.fill_up_to(&mut found, &stream, version).await;
            if self.is_damaged(&mut found, filled)? {
                self.segment.place = Place::behind_events(&stream);
            } else if let (Place::After { append_last, .. }, Some(tail)) = (&mut self.segment.place, &self.tail) {
                *append_last = tail.append_last;
            }
        }
        Ok(Rows { queue: found.rows, end: self.segment.place.clone(), read_units: found.read_units })
    }
}
