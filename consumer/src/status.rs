//! What a consumer says of itself, as plain data.

use std::time::Duration;

use serde::Serialize;

/// What a consumer says of itself, at most a quarter of a second old. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// What keeps events from being applied, as sentences; empty if nothing does. A parked stream does not: it stops only itself.
    pub not_ready: Vec<String>,
    /// Events whose effect was stored.
    pub applied: u64,
    /// Of them, those that were read from the events table: their messages were missing, or their stream was parked.
    pub applied_from_store: u64,
    /// Messages of events that were applied before, and were dropped.
    pub duplicates: u64,
    /// Gaps that were noticed.
    pub gaps: u64,
    /// Attempts to apply an event that have failed.
    pub failures: u64,
    /// Streams that were parked, each time counted.
    pub parked: u64,
    /// Streams that were parked and are up to date again.
    pub recovered: u64,
    /// Messages that are not events, and went to the dead letters.
    pub rejected: u64,
    /// Connections that were given up because a message was kept too long.
    pub reopened: u64,
    /// Messages that are not acknowledged now.
    pub unacknowledged: usize,
    /// For how long the oldest of them is not.
    pub oldest_unacknowledged: Option<Duration>,
    /// How many streams wait with their messages: for a message that is missing, or for the next attempt. They hold part of the prefetch.
    pub waiting_streams: usize,
    /// The first hundred of them.
    pub waiting: Vec<WaitingStream>,
}

/// A stream that makes no progress while its messages are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitingStream {
    /// Its id.
    pub stream_id: String,
    /// Why, as a sentence.
    pub why: String,
    /// For how long.
    pub waits_for: Duration,
}

impl ConsumerStatus {
    /// Whether what is in the queue can be applied: for the service's own readiness, if it wants to depend on it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_ready.is_empty()
    }
}
