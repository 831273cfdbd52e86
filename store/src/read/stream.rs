//! A read as a `futures::Stream`.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use futures_core::{FusedStream, Stream};

use super::{Direction, EventReader, ReadOptions, backward::BackwardReader};
use crate::{EventStore, error::Error, event::RecordedEvent, stream::StreamId};

/// The events of one stream, read page by page as they are asked for. See [`EventStore::read_stream`].
///
/// An error is the last item.
pub struct EventStream {
    state: State,
    page: vec::IntoIter<RecordedEvent>,
    read_units: f64,
}

enum State {
    Idle(Reader),
    Reading(Pin<Box<dyn Future<Output = (Reader, Read)> + Send>>),
    Ended,
}

type Read = Result<Option<Vec<RecordedEvent>>, Error>;

enum Reader {
    Forward(EventReader),
    Backward(BackwardReader),
}

impl Reader {
    async fn next_page(mut self) -> (Self, Read) {
        let page = match &mut self {
            Self::Forward(reader) => reader.next_page().await,
            Self::Backward(reader) => reader.next_page().await,
        };
        (self, page)
    }

    fn read_units(&self) -> f64 {
        match self {
            Self::Forward(reader) => reader.read_units(),
            Self::Backward(reader) => reader.read_units,
        }
    }
}

impl EventStream {
    pub(crate) fn new(store: EventStore, stream: StreamId, options: ReadOptions) -> Self {
        let limit = options.limit.unwrap_or(u64::MAX);
        let reader = match options.direction {
            Direction::Forward => {
                let from = options.from.unwrap_or_default().max(1);
                let to = if limit == 0 { from - 1 } else { from.saturating_add(limit - 1) };
                Reader::Forward(EventReader::beginning_with(store, stream, from).up_to(to))
            }
            Direction::Backward => {
                Reader::Backward(BackwardReader::new(store, stream, options.from.unwrap_or(u64::MAX), limit))
            }
        };
        Self { state: State::Idle(reader), page: Vec::new().into_iter(), read_units: 0.0 }
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
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(reader) => State::Reading(Box::pin(reader.next_page())),
                State::Reading(mut reading) => {
                    let Poll::Ready((reader, read)) = reading.as_mut().poll(context) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    self.read_units = reader.read_units();
                    match read {
                        Err(error) => return Poll::Ready(Some(Err(error))),
                        Ok(None) => State::Ended,
                        Ok(Some(page)) => {
                            self.page = page.into_iter();
                            State::Idle(reader)
                        }
                    }
                }
            };
        }
    }
}

impl FusedStream for EventStream {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Ended) && self.page.len() == 0
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("read_units", &self.read_units).finish_non_exhaustive()
    }
}
