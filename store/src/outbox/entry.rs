//! What is still to be published: pending entries and their events, as plain data.

use uuid::Uuid;

use crate::{
    event::RecordedEvent,
    metadata::Metadata,
    stream::{Previous, StreamId},
};

/// One append whose events are still to be published.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PendingEntry {
    /// The stream.
    pub stream_id: StreamId,
    /// The first version that is to be published.
    pub first: u64,
    /// The last version that is to be published: with the stream it is the entry's key.
    pub last: u64,
    /// The versions from the first to the last that are to be published, in order, if not all are: the others are private.
    pub public: Option<Vec<u64>>,
    /// When the events were recorded, by the appender's clock: milliseconds since the Unix epoch.
    pub pending_since_ms: i64,
    /// The last public version before it, with which the entry before ends; none in a stream's first.
    pub previous: Option<Previous>,
    /// The events that are to be published, if the entry carries a copy; else [`Outbox::events`](super::Outbox::events) reads them.
    pub events: Option<Vec<OutboxEvent>>,
}

impl PendingEntry {
    /// Builds an entry by hand, for tests of what publishes it.
    #[must_use]
    pub fn new(
        stream_id: StreamId,
        first: u64,
        last: u64,
        pending_since_ms: i64,
        previous: Option<Previous>,
        events: Option<Vec<OutboxEvent>>,
    ) -> Self {
        Self { stream_id, first, last, public: None, pending_since_ms, previous, events }
    }

    /// The next version after `after` that is to be published.
    #[must_use]
    pub fn next_public(&self, after: u64) -> Option<u64> {
        match &self.public {
            Some(public) => public.iter().copied().find(|version| *version > after),
            None => Some(self.first.max(after + 1)).filter(|next| *next <= self.last),
        }
    }

    /// The public version before one that is to be published: the one before it in the entry, or the last before the entry.
    #[must_use]
    pub fn public_before(&self, version: u64) -> Option<u64> {
        let before = match &self.public {
            Some(public) => public.iter().copied().rfind(|public| *public < version),
            None => Some(version.saturating_sub(1).min(self.last)).filter(|before| *before >= self.first),
        };
        before.or(self.previous.map(|previous| previous.version))
    }

    /// The versions that are to be published.
    pub(crate) fn versions(&self) -> Vec<u64> {
        self.public.clone().unwrap_or_else(|| (self.first..=self.last).collect())
    }

    /// The entry's key.
    #[must_use]
    pub fn key(&self) -> PendingKey {
        PendingKey { stream_id: self.stream_id.clone(), last: self.last }
    }
}

/// The key of a pending entry.
///
/// Exhaustive: it is what a key of the index has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PendingKey {
    /// The stream.
    pub stream_id: StreamId,
    /// The last version that is to be published.
    pub last: u64,
}

/// An event as it is to be published.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutboxEvent {
    /// Its place in the stream.
    pub version: u64,
    /// The version of the public event before it in its stream; none of the first.
    pub previous_version: Option<u64>,
    /// Its own id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its payload, JSON text, byte for byte as it was appended.
    pub payload: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// When it was recorded: milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
}

impl OutboxEvent {
    /// Builds an event by hand, for tests of what publishes it.
    #[must_use]
    pub fn new(version: u64, event_id: Uuid, event_type: impl Into<String>, payload: impl Into<String>) -> Self {
        let (event_type, payload) = (event_type.into(), payload.into());
        let (previous_version, metadata) = (None, Metadata::default());
        Self { version, previous_version, event_id, event_type, payload, metadata, recorded_at_ms: 0 }
    }
}

impl OutboxEvent {
    /// A recorded event as it is to be published, behind the public version before it.
    #[must_use]
    pub fn of(event: RecordedEvent, previous_version: Option<u64>) -> Self {
        Self {
            version: event.version,
            previous_version,
            event_id: event.event_id(),
            event_type: event.event_type,
            payload: event.payload,
            metadata: event.metadata,
            recorded_at_ms: event.recorded_at_ms,
        }
    }
}
