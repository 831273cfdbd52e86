//! Snapshots: a stream's state at some version, as text beside its events. For aggregates there is
//! [`Repository`](crate::aggregate::Repository), which takes and uses them by itself; this is what lies beneath, for
//! callers that keep state of another kind.
//!
//! A stream has one snapshot, the newest, under the sort key `snapshot`. That key is behind those of the events and the
//! pending entries, so that one backward `Query` of the partition yields the snapshot, the pending entries and the
//! newest events: a load is one request if at most 15 events have come after the snapshot, whatever the stream's
//! length, even if none of them has been published yet. If more have, one request more reads just those. The load
//! costs the read units of what it returns.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), streambox::Error> {
//! # let store = streambox::testing::event_store().await;
//! use streambox::{ExpectedVersion, NewEvent, StreamId, snapshot::NewSnapshot};
//!
//! let counter = StreamId::new("counter-1")?;
//! let events = (1..=20).map(|number| NewEvent::json("Counted", &number)).collect::<Result<Vec<_>, _>>()?;
//! let appended = store.append(&counter, ExpectedVersion::NoStream, events).await?;
//! store.write_snapshot(&counter, &NewSnapshot::new(18, appended.append_id, 1, "18")).await?;
//!
//! // The count of the snapshot, if it is of this schema, and of every event behind it.
//! let mut load = store.load_snapshot(&counter, |snapshot| snapshot.schema_version == 1).await?;
//! let mut count: u64 = load.snapshot().map_or(0, |snapshot| snapshot.body.parse().expect("a number"));
//! assert_eq!(count, 18);
//! while let Some(events) = load.next_page().await? {
//!     count += events.len() as u64;
//! }
//! assert_eq!((count, load.position().version()), (20, 20));
//! # Ok(())
//! # }
//! ```
//!
//! A snapshot is never the truth. One that is damaged, that the caller refuses, that is ahead of its stream, or that was taken of
//! another history is ignored, and the events are read from the first. It names the event that it was taken at by its version and
//! its append's id, which a load compares with the event itself; and it has a checksum.

mod load;
mod write;

pub use load::{COLD_LOAD_ITEMS, IgnoredSnapshot, SnapshotLoad};
pub use write::{SCHEMA_TAKEOVER_EVENTS, SnapshotWrite};
pub(crate) use {load::load, write::write};

use uuid::Uuid;

use crate::stream::StreamId;

/// A stored snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The stream.
    pub stream_id: StreamId,
    /// The version of the newest event in it.
    pub version: u64,
    /// The id of the append that this event came with.
    pub append_id: Uuid,
    /// The version of the body's shape and meaning.
    pub schema_version: u32,
    /// The state.
    pub body: String,
    /// When it was taken, by the taker's clock: milliseconds since the Unix epoch.
    pub taken_at_ms: i64,
}

/// A snapshot that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewSnapshot {
    /// The version of the newest event in it.
    pub version: u64,
    /// The id of the append that this event came with: what ties the snapshot to its history.
    pub append_id: Uuid,
    /// The version of the body's shape and meaning.
    pub schema_version: u32,
    /// The state, as text.
    pub body: String,
    /// The version of a stored snapshot that is known to be unusable: it is replaced whatever its version.
    pub replaces: Option<u64>,
}

impl NewSnapshot {
    /// A snapshot that replaces older ones.
    #[must_use]
    pub fn new(version: u64, append_id: Uuid, schema_version: u32, body: impl Into<String>) -> Self {
        Self { version, append_id, schema_version, body: body.into(), replaces: None }
    }
}
