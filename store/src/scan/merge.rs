//! The segments of a scan, read at the same time and merged: one stream after the other.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::{Stream, stream::BoxStream};
use futures_util::{StreamExt as _, stream};

use super::token::Progress;
use crate::{error::Error, stream::StreamId};

/// Pages of a segment that are fetched before they are asked for, the one being handed out included.
const PAGES_AHEAD: usize = 2;

/// The longest that requests under way are left alone while rows are handed out. Otherwise a consumer that takes long for the rows of a
/// long stream would find them expired, and their pages would be fetched, and paid for, again.
const FETCH_INTERVAL: Duration = Duration::from_millis(50);

/// Something that a scan hands out.
pub(crate) trait Row: Unpin + Send + 'static {
    /// The stream that it is of.
    fn stream(&self) -> &StreamId;

    /// How far its segment is read behind it.
    fn progress(&self) -> Progress;
}

/// Makes rows of one segment.
pub(crate) trait Source: Send + 'static {
    type Row: Row;

    /// The rows of the next page, which may be none.
    fn next_page(&mut self) -> impl Future<Output = Result<Rows<Self::Row>, Error>> + Send;
}

pub(crate) struct Rows<R> {
    pub(crate) queue: VecDeque<R>,
    /// How far the segment is read behind them.
    pub(crate) end: Progress,
    pub(crate) read_units: f64,
}

struct Segment<R> {
    fetched: BoxStream<'static, Result<Rows<R>, Error>>,
    pages: VecDeque<Rows<R>>,
    error: Option<Error>,
    /// Behind what the consumer has taken.
    taken: Progress,
}

impl<R: Row> Segment<R> {
    fn new(source: impl Source<Row = R>, taken: Progress) -> Self {
        let source = (taken != Progress::End).then_some(source);
        let fetched = stream::unfold(source, |source| async {
            let mut source = source?;
            let page = source.next_page().await;
            let goes_on = page.as_ref().is_ok_and(|page| page.end != Progress::End);
            Some((page, goes_on.then_some(source)))
        });
        Self { fetched: fetched.fuse().boxed(), pages: VecDeque::new(), error: None, taken }
    }

    /// Fetches pages ahead. Returns the read units of those that have come.
    fn fetch(&mut self, context: &mut Context<'_>) -> f64 {
        let mut read_units = 0.0;
        while self.pages.len() < PAGES_AHEAD && self.error.is_none() {
            match self.fetched.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(page))) => {
                    read_units += page.read_units;
                    self.pages.push_back(page);
                }
                Poll::Ready(Some(Err(error))) => self.error = Some(error),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        read_units
    }

    /// The next row. Drops pages that have no row left.
    fn front(&mut self) -> Option<&R> {
        while self.pages.front().is_some_and(|page| page.queue.is_empty()) {
            self.taken = self.pages.pop_front().map_or(Progress::End, |page| page.end);
        }
        self.pages.front().and_then(|page| page.queue.front())
    }

    fn take(&mut self) -> Option<R> {
        let row = self.pages.front_mut()?.queue.pop_front()?;
        self.taken = row.progress();
        Some(row)
    }
}

pub(crate) struct Merged<R> {
    segments: Vec<Segment<R>>,
    /// The segment whose turn it is.
    turn: usize,
    /// The stream of it that is being handed out.
    stream: Option<StreamId>,
    has_failed: bool,
    read_units: f64,
    /// When all segments were polled last.
    fetched_at: Instant,
}

impl<R: Row> Merged<R> {
    pub(crate) fn new<S: Source<Row = R>>(
        sources: impl IntoIterator<Item = (S, Progress)>,
        turn: usize,
        stream: Option<StreamId>,
    ) -> Self {
        let segments = sources.into_iter().map(|(source, taken)| Segment::new(source, taken)).collect();
        Self { segments, turn, stream, has_failed: false, read_units: 0.0, fetched_at: Instant::now() }
    }

    pub(crate) fn read_units(&self) -> f64 {
        self.read_units
    }

    pub(super) fn turn(&self) -> usize {
        self.turn
    }

    pub(super) fn stream(&self) -> Option<&StreamId> {
        self.stream.as_ref()
    }

    pub(super) fn taken(&self) -> Vec<Progress> {
        self.segments.iter().map(|segment| segment.taken.clone()).collect()
    }

    fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.segments.len();
        self.stream = None;
    }

    fn fetch(&mut self, context: &mut Context<'_>) {
        self.fetched_at = Instant::now();
        self.read_units += self.segments.iter_mut().map(|segment| segment.fetch(context)).sum::<f64>();
    }
}

impl<R: Row> Stream for Merged<R> {
    type Item = Result<R, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // All segments are polled once for each stream and page, and now and then, not for each row.
        loop {
            if this.has_failed || this.segments.is_empty() {
                return Poll::Ready(None);
            }
            let segment = &mut this.segments[this.turn];
            let next = segment.front().map(|row| row.stream().clone());
            match next {
                Some(next) if this.stream.get_or_insert_with(|| next.clone()) == &next => {
                    let row = segment.take();
                    if this.fetched_at.elapsed() >= FETCH_INTERVAL {
                        this.fetch(context);
                    }
                    return Poll::Ready(row.map(Ok));
                }
                Some(_) => this.pass_on(),
                None if segment.taken == Progress::End => {
                    if this.segments.iter().all(|segment| segment.taken == Progress::End) {
                        return Poll::Ready(None);
                    }
                    this.pass_on();
                }
                None if segment.error.is_some() => {
                    this.has_failed = true;
                    return Poll::Ready(segment.error.take().map(Err));
                }
                None => {
                    this.fetch(context);
                    let segment = &this.segments[this.turn];
                    if segment.pages.is_empty() && segment.error.is_none() {
                        return Poll::Pending;
                    }
                    continue;
                }
            }
            this.fetch(context);
        }
    }
}

impl<R> fmt::Debug for Merged<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged")
            .field("segments", &self.segments.len())
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}
