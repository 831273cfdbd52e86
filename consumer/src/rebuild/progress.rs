//! What a rebuild has done.

use streambox::ScanToken;

use super::StreamProblem;

/// Most streams with a problem that a report names; [`RebuildReport::problem_streams`] counts all of them.
pub const MAX_REPORTED_PROBLEMS: usize = 1_000;

/// How far a rebuild is. The counts are of this run: those of the run that it resumes are not in them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RebuildStatus {
    /// Events that were read, of the categories that are rebuilt: those that are private, applied, left out, and waiting.
    pub events: u64,
    /// Events that this run has applied.
    pub applied: u64,
    /// Events that were applied already.
    pub already_applied: u64,
    /// Streams that were begun.
    pub streams: u64,
    /// Streams that are left parked: the token passes them, and consumers retry them.
    pub parked_streams: u64,
    /// How many of the [expected events](super::Rebuild::expected_events) are done with, 0 to 100; none if that number is not known.
    pub percent: Option<f64>,
    /// The capacity units that the scan has consumed.
    pub read_units: f64,
    /// Everything up to here is applied.
    pub token: ScanToken,
}

/// What a rebuild has done, in this run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RebuildReport {
    /// Events that were read, of the categories that are rebuilt.
    pub events: u64,
    /// Those of them that are private, and so have no effect.
    pub private: u64,
    /// Those of them that this run has applied.
    pub applied: u64,
    /// Those of them that were applied already.
    pub already_applied: u64,
    /// Streams that were read.
    pub streams: u64,
    /// The capacity units that the scan has consumed.
    pub read_units: f64,
    /// The streams that are not complete in the projection, and why: the first [`MAX_REPORTED_PROBLEMS`] of them. Everything else is
    /// applied.
    pub problems: Vec<StreamProblem>,
    /// How many streams are not complete, those that are parked included.
    pub problem_streams: u64,
    /// How many of them are parked. One that a consumer has brought up to date meanwhile counts.
    pub parked_streams: u64,
}

impl RebuildReport {
    pub(super) fn note(&mut self, problem: StreamProblem) {
        tracing::warn!(%problem, "a stream is not rebuilt");
        self.problem_streams += 1;
        if self.problems.len() < MAX_REPORTED_PROBLEMS {
            self.problems.push(problem);
        }
    }

    pub(super) fn status(&self, expected_events: Option<u64>, waiting: u64, token: ScanToken) -> RebuildStatus {
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = |expected: u64| (self.events.saturating_sub(waiting) as f64 * 100.0 / expected as f64).min(100.0);
        RebuildStatus {
            events: self.events,
            applied: self.applied,
            already_applied: self.already_applied,
            streams: self.streams,
            parked_streams: self.parked_streams,
            percent: expected_events.filter(|expected| *expected > 0).map(percent),
            read_units: self.read_units,
            token,
        }
    }
}
