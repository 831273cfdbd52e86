//! Watches an operation from its beginning to its end, or until its future is dropped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tracing::Span;

use super::{
    Failure, Observation, Observer, Operation, Outcome,
    count::{Counts, Tally},
    spans,
};

/// An operation that begins. Nothing, if nothing listens.
#[must_use = "it watches a future"]
pub(crate) struct Watch(Option<Watched>);

struct Watched {
    operation: Operation,
    span: Span,
    tally: Arc<Tally>,
    /// For the outermost operation.
    report: Option<(Observer, String)>,
    begun: Instant,
    outcome: Outcome,
}

impl Watch {
    /// `stream`: its id, or several.
    pub(crate) fn new(operation: Operation, stream: &str, observer: Option<&Observer>) -> Self {
        let span = spans::begin(operation, stream);
        if span.is_disabled() && observer.is_none() {
            return Self(None);
        }
        let tally = Tally::new();
        let category = || stream.split_once('-').map_or(stream, |(category, _)| category).to_owned();
        let observer = observer.filter(|_| tally.outer.is_none());
        let report = observer.map(|observer| (Arc::clone(observer), category()));
        // What is not ended is dropped.
        Self(Some(Watched { operation, span, tally, report, begun: Instant::now(), outcome: Outcome::Dropped }))
    }

    /// Of what is no operation of its own.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// Watches the future that is the operation. It is boxed, and copied for that: it holds the SDK's large ones in boxes of their own.
    pub(crate) fn over<F>(self, future: F) -> Running<F> {
        Running { future: Box::pin(future), watch: self }
    }
}

/// An operation that is watched.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Running<F> {
    // Dropped before the watch, so that what is inside ends first.
    future: Pin<Box<F>>,
    watch: Watch,
}

impl<F, T, E> Future for Running<F>
where
    F: Future<Output = Result<T, E>>,
    E: Failure,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future, watch: Watch(watched) } = &mut *self;
        let Some(running) = watched else { return future.as_mut().poll(context) };
        let polled = running.span.in_scope(|| running.tally.current(|| future.as_mut().poll(context)));
        if let Poll::Ready(result) = &polled {
            running.outcome = result.as_ref().err().map_or(Outcome::Ok, Failure::outcome);
            *watched = None;
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let counts = self.tally.counts();
        spans::end(&self.span, self.outcome, &counts);
        let Some((observer, category)) = self.report.take() else { return };
        let Counts { requests, attempts, conflicts, read_units, write_units, events_read, events_written } = counts;
        let observation = Observation {
            operation: self.operation,
            category,
            outcome: self.outcome,
            requests,
            attempts,
            conflicts,
            latency: self.begun.elapsed(),
            read_units,
            write_units,
            events_read,
            events_written,
        };
        // What was stored stays stored, and its caller is to know it.
        if catch_unwind(AssertUnwindSafe(|| observer(&observation))).is_err() {
            tracing::error!(operation = observation.operation.as_str(), "the observer of the store has panicked");
        }
    }
}
