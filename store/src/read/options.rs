//! What part of a stream is read, and in which direction.

/// The order in which events are read.
///
/// Exhaustive: there are two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From older to newer events.
    #[default]
    Forward,
    /// From newer to older events.
    Backward,
}

/// What [`EventStore::read_stream`](crate::EventStore::read_stream) reads: all of a stream forward, unless said otherwise.
///
/// ```
/// use streambox::ReadOptions;
///
/// let newest_ten = ReadOptions::backward().limit(10);
/// let second_hundred = ReadOptions::forward().from_version(101).limit(100);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadOptions {
    pub(super) direction: Direction,
    pub(super) from: Option<u64>,
    pub(super) limit: Option<u64>,
}

impl ReadOptions {
    /// From older to newer events, from version 1 on.
    #[must_use]
    pub fn forward() -> Self {
        Self::default()
    }

    /// From newer to older events, from the stream's end on.
    #[must_use]
    pub fn backward() -> Self {
        Self { direction: Direction::Backward, ..Self::default() }
    }

    /// In this direction.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Begins with the event at this version, whichever the direction, even if that is in the middle of an append.
    /// Forward, a version behind the end reads nothing, and 0 is the same as 1; backward, a version behind the end reads
    /// from the end on, and 0 reads nothing.
    #[must_use]
    pub fn from_version(self, version: u64) -> Self {
        Self { from: Some(version), ..self }
    }

    /// Ends after this many events, even if that is in the middle of an append. No more than these are consumed, and paid
    /// for.
    #[must_use]
    pub fn limit(self, events: u64) -> Self {
        Self { limit: Some(events), ..self }
    }
}
