//! The faults that a verification can find.

use crate::stream::StreamId;

/// Something that is wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stream_id}, {at}: {fault}")]
#[non_exhaustive]
pub struct Finding {
    /// The stream.
    pub stream_id: StreamId,
    /// The item (sort key) or the versions.
    pub at: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong, as a text and by its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Events are missing between others, or before them.
    #[error("missing: later events of the stream are there")]
    Gap,
    /// A part of an append is missing.
    #[error("missing: the other events of append {append_id} (versions {first} to {last}) are there")]
    HalfAppend {
        /// The append.
        append_id: uuid::Uuid,
        /// Its first version.
        first: u64,
        /// Its last version.
        last: u64,
    },
    /// An event's attributes are damaged.
    #[error("the event can't be read: {what}")]
    UnreadableEvent {
        /// What is wrong with it.
        what: String,
    },
    /// An event contradicts the event before it about their append.
    #[error("the event does not fit the one before it: {what}")]
    ForeignEvent {
        /// In which way.
        what: String,
    },
    /// An event or a pending entry can be read, but no append writes it: the relay may not be able to publish it, and an import
    /// of it is refused.
    #[error("no append writes this: {what}")]
    BrokenRule {
        /// The rule.
        what: String,
    },
    /// A private event or a pending entry does not name the newest append before it that has a pending entry. The relay halts the
    /// stream if what an entry names is not there.
    #[error("the previous entry: {what}")]
    PreviousEntry {
        /// What is named, and what should be.
        what: String,
    },
    /// A pending entry's attributes are damaged: its stream is halted.
    #[error("the pending entry can't be read: {what}")]
    UnreadableEntry {
        /// What is wrong with it.
        what: String,
    },
    /// A pending entry whose events are missing: its stream is halted.
    #[error("a pending entry without its events: {what}")]
    EntryWithoutEvents {
        /// Which are missing.
        what: String,
    },
    /// A pending entry contradicts its events: what is published differs from what is loaded.
    #[error("the pending entry disagrees with its events: {what}")]
    EntryDisagrees {
        /// In which way.
        what: String,
    },
    /// A snapshot's attributes are damaged. A load ignores it.
    #[error("the snapshot can't be read: {what}")]
    UnreadableSnapshot {
        /// What is wrong with it.
        what: String,
    },
    /// A snapshot does not belong to the history of its stream. A load ignores it.
    #[error("the snapshot is not of this history: {what}")]
    FalseSnapshot {
        /// In which way.
        what: String,
    },
    /// The attributes of a command's marker are damaged: a repeat of the command is an error.
    #[error("the command's marker can't be read: {what}")]
    UnreadableMarker {
        /// What is wrong with it.
        what: String,
    },
    /// A command's marker does not belong to the history of its stream: a repeat of the command reports a result that there is
    /// not.
    #[error("the command's marker is not of this history: {what}")]
    FalseMarker {
        /// In which way.
        what: String,
    },
    /// The stream id breaks a rule.
    #[error("streambox does not write such a stream id: {why}")]
    StreamId {
        /// The rule.
        why: String,
    },
    /// An item that is not a pending entry has an attribute that puts it into the outbox: its stream is halted.
    #[error("not a pending entry, but in the outbox: {what}")]
    Stray {
        /// What is wrong with it.
        what: String,
    },
    /// The sort key does not belong to an entity.
    #[error("this version does not write such a sort key; a newer version may have written it")]
    Key,
}

impl Fault {
    /// The kind's name, as scripts see it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::HalfAppend { .. } => "half_append",
            Self::UnreadableEvent { .. } => "unreadable_event",
            Self::ForeignEvent { .. } => "foreign_event",
            Self::BrokenRule { .. } => "broken_rule",
            Self::PreviousEntry { .. } => "previous_entry",
            Self::UnreadableEntry { .. } => "unreadable_entry",
            Self::EntryWithoutEvents { .. } => "entry_without_events",
            Self::EntryDisagrees { .. } => "entry_disagrees",
            Self::UnreadableSnapshot { .. } => "unreadable_snapshot",
            Self::FalseSnapshot { .. } => "false_snapshot",
            Self::UnreadableMarker { .. } => "unreadable_marker",
            Self::FalseMarker { .. } => "false_marker",
            Self::StreamId { .. } => "stream_id",
            Self::Stray { .. } => "stray",
            Self::Key => "key",
        }
    }
}
