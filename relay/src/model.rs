//! What is known of a relay and its table, as plain data: the core and the table's rows fill it; the status page, JSON, text and
//! both formats of metrics render it.

use serde::Serialize;
use tokio::time::Instant;

/// A kind of request to DynamoDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Request {
    /// A page of the index.
    Scan,
    /// Pending entries, events, or the proof that an append was published.
    Read,
    /// Deleting confirmed entries.
    Delete,
    /// Writing the heartbeat.
    Heartbeat,
    /// Reading the rows of the group.
    Workers,
}

impl Request {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Scan, Self::Read, Self::Delete, Self::Heartbeat, Self::Workers];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Read => "read",
            Self::Delete => "delete",
            Self::Heartbeat => "heartbeat",
            Self::Workers => "workers",
        }
    }
}

/// A request to DynamoDB that failed and will be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RequestFailure {
    /// Which request.
    pub request: Request,
    /// What went wrong.
    pub text: String,
    /// When.
    #[serde(rename = "seconds_ago", serialize_with = "json::seconds_since")]
    pub at: Instant,
}

impl RequestFailure {
    /// A failure at this moment.
    #[must_use]
    pub fn new(request: Request, text: String) -> Self {
        Self { request, text, at: Instant::now() }
    }
}

/// A stream that can't be published any further.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HaltedStream {
    /// The stream.
    pub stream: String,
    /// The version that can't be published; 0 if it is not known. For an entry that can't be read, its first.
    pub version: u64,
    /// Why, for the operator.
    pub reason: String,
    /// Since when, by its worker's clock: milliseconds since the Unix epoch.
    #[serde(rename = "since", serialize_with = "json::iso")]
    pub since_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, at the earliest; only its own worker knows.
    #[serde(rename = "retry_at", serialize_with = "json::iso", skip_serializing_if = "Option::is_none")]
    pub retry_at_ms: Option<i64>,
    /// The worker that reports it; none in what a worker reports of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// What a pass over the index has shown. The index lags a little behind the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Backlog {
    /// Pending entries of all streams.
    pub entries: u64,
    /// Those of this worker's streams.
    pub own_entries: u64,
    /// Those of this worker's halted streams.
    pub halted_entries: u64,
    /// This worker's streams that have any and are not halted.
    pub workable_streams: u64,
    /// When the oldest of all was recorded, by its appender's clock: milliseconds since the Unix epoch.
    #[serde(rename = "oldest_age_seconds", serialize_with = "json::age_seconds")]
    pub oldest_pending_since_ms: Option<i64>,
    /// The same for this worker's streams that are not halted: what the relay could publish now.
    #[serde(rename = "oldest_workable_age_seconds", serialize_with = "json::age_seconds")]
    pub oldest_workable_since_ms: Option<i64>,
    /// Whether there may be more, and older ones: the pass has not reached the end of the index.
    pub at_least: bool,
    /// When the last page was read.
    #[serde(rename = "read_seconds_ago", serialize_with = "json::seconds_since")]
    pub at: Instant,
    /// Whether that is recent enough for the rest to be true still.
    pub is_current: bool,
}

impl Backlog {
    /// Nothing was seen yet.
    #[must_use]
    pub fn empty(at: Instant) -> Self {
        Self {
            entries: 0,
            own_entries: 0,
            halted_entries: 0,
            workable_streams: 0,
            oldest_pending_since_ms: None,
            oldest_workable_since_ms: None,
            at_least: true,
            at,
            is_current: true,
        }
    }
}

/// How times are written in JSON: as a moment, or as a number of seconds since then.
pub(crate) mod json {
    use serde::{Serialize as _, Serializer};
    use streambox_programs::{iso_8601, now_ms};
    use tokio::time::Instant;

    pub(crate) fn seconds_since<S: Serializer>(
        at: &(impl Copy + Into<Option<Instant>>),
        to: S,
    ) -> Result<S::Ok, S::Error> {
        (*at).into().map(|at| at.elapsed().as_secs_f64()).serialize(to)
    }

    #[expect(clippy::cast_precision_loss, reason = "an age for people")]
    pub(super) fn age_seconds<S: Serializer>(ms: &(impl Copy + Into<Option<i64>>), to: S) -> Result<S::Ok, S::Error> {
        (*ms).into().map(|since| now_ms().saturating_sub(since).max(0) as f64 / 1_000.0).serialize(to)
    }

    pub(super) fn iso<S: Serializer>(ms: &(impl Copy + Into<Option<i64>>), to: S) -> Result<S::Ok, S::Error> {
        (*ms).into().map(iso_8601).serialize(to)
    }
}

/// A moment that was some seconds ago.
#[cfg(test)]
pub(crate) fn ago(seconds: u64) -> Instant {
    Instant::now().checked_sub(std::time::Duration::from_secs(seconds)).expect("a machine that runs for a while")
}
