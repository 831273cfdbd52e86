//! A read as a `futures::Stream`.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use futures_core::{FusedStream, Stream, stream::BoxStream};
use futures_util::{StreamExt as _, stream};

use super::{Direction, EventReader, ReadOptions, backward::BackwardReader};
use crate::{error::Error, event::RecordedEvent, stream::StreamId, table::Table};

/// The events of one stream, read page by page as they are asked for. See [`EventStore::read_stream`](crate::EventStore::read_stream).
///
/// An error is the last item.
pub struct EventStream {
    pages: BoxStream<'static, Fetched>,
    page: vec::IntoIter<RecordedEvent>,
    read_units: f64,
    /// Whether no page follows.
    is_last: bool,
}

/// The events of a page, none at the end; and the read units of all pages so far.
type Fetched = (Result<Option<Vec<RecordedEvent>>, Error>, f64);

enum Reader {
    Forward(EventReader),
    Backward(BackwardReader),
}

impl Reader {
    async fn fetch(&mut self) -> Fetched {
        match self {
            Self::Forward(reader) => (reader.next_page().await, reader.read_units()),
            Self::Backward(reader) => (reader.next_page().await, reader.read_units),
        }
    }
}

impl EventStream {
    pub(crate) fn new(table: Table, stream: StreamId, options: ReadOptions) -> Self {
        let limit = options.limit.unwrap_or(u64::MAX);
        let reader = match options.direction {
            Direction::Forward => {
                let from = options.from.unwrap_or_default().max(1);
                let to = if limit == 0 { from - 1 } else { from.saturating_add(limit - 1) };
                Reader::Forward(EventReader::beginning_with(table, stream, from).up_to(to))
            }
            Direction::Backward => {
                Reader::Backward(BackwardReader::new(table, stream, options.from.unwrap_or(u64::MAX), limit))
            }
        };
        let pages = stream::unfold(reader, |mut reader| async move { Some((reader.fetch().await, reader)) });
        Self { pages: pages.boxed(), page: Vec::new().into_iter(), read_units: 0.0, is_last: false }
    }

    /// The capacity units consumed so far.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.read_units
    }
}

impl Stream for EventStream {
    type Item = Result<RecordedEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.page.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.is_last {
                return Poll::Ready(None);
            }
            let Some((events, read_units)) = ready!(self.pages.poll_next_unpin(context)) else {
                return Poll::Ready(None);
            };
            self.read_units = read_units;
            self.is_last = !matches!(events, Ok(Some(_)));
            match events {
                Ok(events) => self.page = events.unwrap_or_default().into_iter(),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl FusedStream for EventStream {
    fn is_terminated(&self) -> bool {
        self.is_last && self.page.len() == 0
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("read_units", &self.read_units).finish_non_exhaustive()
    }
}
