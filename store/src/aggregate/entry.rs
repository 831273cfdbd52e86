//! An aggregate as it was at some version, and what is needed to resume from there.

use std::{fmt, ops::Deref, sync::Arc};

use super::{Aggregate, recent::RecentAppends};
use crate::stream::{StreamId, StreamPosition};

/// An aggregate as it was loaded or saved: its state, to which it dereferences, and its place in the stream. A clone is cheap.
#[derive(Clone)]
pub struct Loaded<A> {
    pub(crate) entry: Arc<Entry<A>>,
    /// Whether it was current at some moment after it was asked for.
    pub(crate) is_fresh: bool,
}

#[derive(Clone)]
pub(crate) struct Entry<A> {
    pub(crate) state: Arc<A>,
    pub(crate) position: StreamPosition,
    pub(crate) recent: RecentAppends,
    pub(crate) snapshot: KnownSnapshot,
    pub(crate) size: Size,
}

/// How large the state is, approximately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Its JSON text's bytes when it was last measured.
    measured: usize,
    /// The payloads' bytes since then.
    since: usize,
}

impl Size {
    /// Measured less often than this, a state of a few bytes would be measured at each event.
    const LEAST_BYTES: usize = 4096;

    pub(crate) fn measured(bytes: usize) -> Self {
        Self { measured: bytes, since: 0 }
    }

    pub(crate) fn add(&mut self, payload_bytes: usize) {
        self.since = self.since.saturating_add(payload_bytes);
    }

    /// Whether so much has come since the last time that the estimate may be far off.
    pub(crate) fn is_vague(self) -> bool {
        self.since > self.measured.max(Self::LEAST_BYTES)
    }

    pub(crate) fn bytes(self) -> usize {
        self.measured.saturating_add(self.since)
    }
}

/// What is known of the stream's snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownSnapshot {
    /// The version of the usable one; 0 if there is none.
    pub(crate) version: u64,
    /// The version of one that is there and can't be used: the next one may take its place whatever its version.
    pub(crate) replaces: Option<u64>,
}

impl<A: Aggregate> Loaded<A> {
    /// The state.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.entry.state
    }

    /// The version of the stream's newest event in it; 0 before the first.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.entry.position.version()
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        self.entry.position.stream()
    }

    /// The place in the stream; an append [`At`](crate::ExpectedVersion::At) it needs no further read.
    #[must_use]
    pub fn position(&self) -> &StreamPosition {
        &self.entry.position
    }
}

#[cfg(feature = "testing")]
impl<A: Aggregate> Loaded<A> {
    /// A state without a stored history, for a test of a decision.
    pub(crate) fn given(state: A, version: u64) -> Self {
        let stream =
            StreamId::new(format!("{}-given", A::CATEGORY)).expect("the aggregate's CATEGORY begins a stream id");
        let entry = Entry {
            state: Arc::new(state),
            position: StreamPosition::before_unread(stream, version),
            recent: RecentAppends::from_version(version + 1),
            snapshot: KnownSnapshot::default(),
            size: Size::default(),
        };
        Self { entry: Arc::new(entry), is_fresh: true }
    }
}

impl<A> Deref for Loaded<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.entry.state
    }
}

impl<A: fmt::Debug> fmt::Debug for Loaded<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("stream", self.entry.position.stream())
            .field("version", &self.entry.position.version())
            .field("state", &self.entry.state)
            .finish_non_exhaustive()
    }
}
