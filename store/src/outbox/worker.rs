//! The row of a relay worker, as plain data.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    error::{Error, Invalid},
    limits::MAX_WORKER_ID_BYTES,
    stream::{StreamId, excerpt},
};

/// The name of a relay worker: no two workers that run at the same time may have the same one.
///
/// It is not empty, has no control characters, and at most 128 bytes. What exists is valid; a clone is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// Checks `id` and makes a worker's id of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the rule that `id` breaks.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        let refuse = |why| Err(Invalid::WorkerId { id: excerpt(id), why }.into());
        if id.is_empty() {
            return refuse("it is empty");
        }
        if id.chars().any(char::is_control) {
            return refuse("it has a control character");
        }
        if id.len() > MAX_WORKER_ID_BYTES {
            let (what, limit_bytes) = ("worker id", MAX_WORKER_ID_BYTES);
            return Err(Invalid::TooLong { what, limit_bytes, bytes: id.len() }.into());
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({})", self.0)
    }
}

impl FromStr for WorkerId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self, Error> {
        Self::new(id)
    }
}

/// A worker's row. Its times are by the worker's own clock and for people only.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerRow {
    /// Whose row it is.
    pub id: WorkerId,
    /// Changes with each heartbeat. A worker whose beat does not change for long enough is taken as dead.
    pub beat: u64,
    /// The time from one heartbeat to the next, in milliseconds.
    pub beat_interval_ms: u64,
    /// When it started: milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// The machine that it runs on.
    pub host: String,
    /// Its process id there.
    pub process_id: u32,
    /// The program's version.
    pub version: String,
    /// Events that the broker has confirmed since it started.
    pub published: u64,
    /// Pending entries that it has deleted since it started.
    pub deleted: u64,
    /// Streams that it works on at the moment.
    pub open_streams: u64,
    /// How many live workers it sees, itself included: its share of the streams is one divided by this.
    pub live_workers: u64,
    /// How many of its streams are halted.
    pub halted_streams: u64,
    /// Some of them: the row keeps as many as fit into 4 KB, in this order.
    pub halted: Vec<HaltedStream>,
    /// The last thing that went wrong; it is shortened.
    pub last_error: Option<String>,
}

impl WorkerRow {
    /// A row that reports only that the worker is there.
    #[must_use]
    pub fn new(id: WorkerId, beat: u64) -> Self {
        Self {
            id,
            beat,
            beat_interval_ms: 0,
            started_at_ms: 0,
            host: String::new(),
            process_id: 0,
            version: String::new(),
            published: 0,
            deleted: 0,
            open_streams: 0,
            live_workers: 0,
            halted_streams: 0,
            halted: Vec::new(),
            last_error: None,
        }
    }
}

/// A stream that can't continue, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HaltedStream {
    /// The stream.
    pub stream_id: StreamId,
    /// The version that can't be published; 0 if it is not known.
    pub version: u64,
    /// Why; it is shortened.
    pub reason: String,
    /// Since when: milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
}

impl HaltedStream {
    /// Puts one together.
    #[must_use]
    pub fn new(stream_id: StreamId, version: u64, reason: impl Into<String>, since_ms: i64, attempts: u32) -> Self {
        Self { stream_id, version, reason: reason.into(), since_ms, attempts }
    }
}
