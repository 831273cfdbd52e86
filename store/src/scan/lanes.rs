//! The segments of a scan, read at the same time and merged: one stream after the other.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::token::Place;
use crate::{error::Error, stream::StreamId};

/// Pages of a segment that are fetched before they are asked for, the one being handed out included.
const PAGES_AHEAD: usize = 2;

/// Something that a scan hands out.
pub(crate) trait Row: Unpin + Send + 'static {
    /// The stream that it is of.
    fn stream(&self) -> &StreamId;

    /// Where its segment is behind it.
    fn place(&self) -> Place;
}

/// Makes rows of one segment.
pub(crate) trait Source: Unpin + Send + 'static {
    type Row: Row;

    /// The rows of the next page, which may be none, and where the segment is behind them.
    fn next_page(&mut self) -> impl Future<Output = Result<Rows<Self::Row>, Error>> + Send;
}

pub(crate) struct Rows<R> {
    pub(crate) queue: VecDeque<R>,
    pub(crate) end: Place,
    pub(crate) read_units: f64,
}

type Fetching<S> = Pin<Box<dyn Future<Output = (S, Result<Rows<<S as Source>::Row>, Error>)> + Send>>;

struct Lane<S: Source> {
    /// Away while a page is being fetched, gone behind the last one.
    source: Option<S>,
    fetching: Option<Fetching<S>>,
    pages: VecDeque<Rows<S::Row>>,
    error: Option<Error>,
    /// Behind what the consumer has taken.
    taken: Place,
}

impl<S: Source> Lane<S> {
    fn new(source: S, taken: Place) -> Self {
        let source = (taken != Place::End).then_some(source);
        Self { source, fetching: None, pages: VecDeque::new(), error: None, taken }
    }

    /// Starts and drives the fetching of the next page. Returns the units of one that has come.
    fn fetch(&mut self, context: &mut Context<'_>) -> f64 {
        let mut read_units = 0.0;
        while self.error.is_none() {
            if self.fetching.is_none() && self.pages.len() < PAGES_AHEAD {
                self.fetching = self.source.take().map(|mut source| {
                    let fetch = async move {
                        let page = source.next_page().await;
                        (source, page)
                    };
                    Box::pin(fetch) as Fetching<S>
                });
            }
            let Some(fetching) = &mut self.fetching else { break };
            let Poll::Ready((source, page)) = fetching.as_mut().poll(context) else { break };
            self.fetching = None;
            match page {
                Ok(page) => {
                    read_units += page.read_units;
                    self.source = (page.end != Place::End).then_some(source);
                    self.pages.push_back(page);
                }
                Err(error) => self.error = Some(error),
            }
        }
        read_units
    }

    /// The next row; pages that have none left are put away.
    fn front(&mut self) -> Option<&S::Row> {
        while self.pages.front().is_some_and(|page| page.queue.is_empty()) {
            self.taken = self.pages.pop_front().map_or(Place::End, |page| page.end);
        }
        self.pages.front().and_then(|page| page.queue.front())
    }

    fn take(&mut self) -> Option<S::Row> {
        let row = self.pages.front_mut()?.queue.pop_front()?;
        self.taken = row.place();
        Some(row)
    }
}

pub(crate) struct Lanes<S: Source> {
    all: Vec<Lane<S>>,
    /// The lane whose turn it is.
    turn: usize,
    /// The stream of it that is being handed out.
    stream: Option<StreamId>,
    has_failed: bool,
    read_units: f64,
}

impl<S: Source> Lanes<S> {
    pub(crate) fn new(sources: impl IntoIterator<Item = (S, Place)>, turn: usize, stream: Option<StreamId>) -> Self {
        let all = sources.into_iter().map(|(source, taken)| Lane::new(source, taken)).collect();
        Self { all, turn, stream, has_failed: false, read_units: 0.0 }
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

    pub(super) fn taken(&self) -> Vec<Place> {
        self.all.iter().map(|lane| lane.taken.clone()).collect()
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<S::Row, Error>>> {
        // All lanes are looked after once for each stream and page, not for each row.
        loop {
            if self.has_failed || self.all.is_empty() {
                return Poll::Ready(None);
            }
            let lane = &mut self.all[self.turn];
            let next = lane.front().map(|row| row.stream().clone());
            match next {
                Some(next) if self.stream.get_or_insert_with(|| next.clone()) == &next => {
                    return Poll::Ready(lane.take().map(Ok));
                }
                Some(_) => self.pass_on(),
                None if lane.taken == Place::End => {
                    if self.all.iter().all(|lane| lane.taken == Place::End) {
                        return Poll::Ready(None);
                    }
                    self.pass_on();
                }
                None if lane.error.is_some() => {
                    self.has_failed = true;
                    return Poll::Ready(lane.error.take().map(Err));
                }
                None => {
                    self.fetch(context);
                    let lane = &self.all[self.turn];
                    if lane.pages.is_empty() && lane.error.is_none() {
                        return Poll::Pending;
                    }
                    continue;
                }
            }
            self.fetch(context);
        }
    }

    fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.all.len();
        self.stream = None;
    }

    fn fetch(&mut self, context: &mut Context<'_>) {
        self.read_units += self.all.iter_mut().map(|lane| lane.fetch(context)).sum::<f64>();
    }
}

impl<S: Source> fmt::Debug for Lanes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("segments", &self.all.len()).field("turn", &self.turn).finish_non_exhaustive()
    }
}
