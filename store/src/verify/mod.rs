//! Verify: reads everything, changes nothing, and reports unexpected and missing items.
//!
//! - `finding.rs`: what can be wrong.
//! - `items.rs`: where items come from: a segment of a scan, or one stream's partition.
//! - `stream.rs`: the checks, item by item, with one stream's state at a time.
//! - `entries.rs`: a stream's pending entries, compared with its events; `newest.rs`: which append each has to name.
//! - `markers.rs`: the markers of its commands, compared with the events.

mod entries;
mod finding;
mod items;
mod markers;
mod newest;
mod stream;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_util::StreamExt as _;

use self::{items::Items, stream::StreamCheck};
use crate::{
    error::Error,
    scan::{Merged, Progress, Row, Rows, ScanOptions, Source},
    schema,
    stream::StreamId,
    table::Table,
};

pub use finding::{Fault, Finding};

/// The findings in the streams that it reads. See [`EventStore::verify`](crate::EventStore::verify). An error is the last item.
#[derive(Debug)]
pub struct Verification {
    merged: Merged<Outcome>,
    counts: VerifiedCounts,
}

/// How many items were verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedCounts {
    /// Streams.
    pub streams: u64,
    /// Event items, unreadable ones included.
    pub events: u64,
    /// Pending entries, unreadable ones included.
    pub pending: u64,
}

impl Verification {
    pub(crate) fn of_table(table: &Table, options: &ScanOptions) -> Result<Self, Error> {
        options.check_from_start("a verification")?;
        let segments = (0..options.segments).map(|number| Items::of_segment(table, options, number));
        Ok(Self::new(table, segments))
    }

    pub(crate) fn of_stream(table: &Table, stream: &StreamId) -> Self {
        Self::new(table, [Items::of_stream(table, stream)])
    }

    fn new(table: &Table, items: impl IntoIterator<Item = Items>) -> Self {
        let checker = |items| (Checker { items, table: table.clone(), current: None }, Progress::Start);
        Self { merged: Merged::new(items.into_iter().map(checker), 0, None), counts: VerifiedCounts::default() }
    }

    /// What has been verified so far.
    #[must_use]
    pub fn counts(&self) -> VerifiedCounts {
        self.counts
    }

    /// The capacity units consumed so far, those of pages that were fetched ahead included.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.merged.read_units()
    }
}

impl Stream for Verification {
    type Item = Result<Finding, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.merged.poll_next_unpin(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(Outcome::Finding(finding))) => return Poll::Ready(Some(Ok(finding))),
                Some(Ok(Outcome::Counts { counts, .. })) => {
                    self.counts.streams += counts.streams;
                    self.counts.events += counts.events;
                    self.counts.pending += counts.pending;
                }
            }
        }
    }
}

/// The outcome of checking.
#[derive(Debug)]
enum Outcome {
    Finding(Finding),
    /// What was counted of a stream since the last time.
    Counts {
        stream: StreamId,
        counts: VerifiedCounts,
    },
}

impl Row for Outcome {
    fn stream(&self) -> &StreamId {
        match self {
            Self::Finding(finding) => &finding.stream_id,
            Self::Counts { stream, .. } => stream,
        }
    }

    fn progress(&self) -> Progress {
        // Nothing resumes behind it: there is no token of a verification.
        Progress::Start
    }
}

#[derive(Debug)]
struct Checker {
    items: Items,
    table: Table,
    /// The stream whose items are coming.
    current: Option<StreamCheck>,
}

impl Source for Checker {
    type Row = Outcome;

    async fn next_page(&mut self) -> Result<Rows<Outcome>, Error> {
        let page = self.items.next_page().await?;
        let mut findings = Findings { outcomes: VecDeque::new(), read_units: page.read_units };
        for item in page.items {
            let stream = schema::read_stream_id(&item);
            let mut check = match self.current.take() {
                Some(current) if *current.stream() == stream => current,
                before => {
                    if let Some(before) = before {
                        before.finish(&self.table, &mut findings).await?;
                    }
                    StreamCheck::new(stream, &mut findings)
                }
            };
            check.item(&self.table, item, &mut findings).await?;
            self.current = Some(check);
        }
        let end = self.items.progress();
        if end == Progress::End {
            if let Some(last) = self.current.take() {
                last.finish(&self.table, &mut findings).await?;
            }
        } else if let Some(current) = &mut self.current {
            current.report_counts(&mut findings);
        }
        Ok(Rows { queue: findings.outcomes, end, read_units: findings.read_units })
    }
}

/// The outcome of a page so far.
struct Findings {
    outcomes: VecDeque<Outcome>,
    read_units: f64,
}

impl Findings {
    fn found(&mut self, stream: &StreamId, at: impl Into<String>, fault: Fault) {
        self.outcomes.push_back(Outcome::Finding(Finding { stream_id: stream.clone(), at: at.into(), fault }));
    }
}
