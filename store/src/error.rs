//! The one error type of the crate. Its kinds answer the question "what do I do now?".

use std::error::Error as StdError;

use uuid::Uuid;

use crate::stream::{ExpectedVersion, StreamId, StreamPosition};

type Source = Box<dyn StdError + Send + Sync>;

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another writer was there first. An ordinary outcome: load the stream, decide again, append again.
    #[error(transparent)]
    Conflict(#[from] Box<Conflict>),

    /// The input can't be stored. Nothing was sent; the same input will be refused again.
    #[error(transparent)]
    Invalid(#[from] Invalid),

    /// DynamoDB did not answer in time, or refused for lack of capacity. Retry later. An append may or may not have been
    /// stored: repeat it with the same append id and the same expected version, which is harmless.
    #[error("{operation} of {subject}: DynamoDB is unavailable after {attempts} attempt{}{}", plural(*.attempts), outcome(*.outcome_unknown))]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// The stream or the table that it was tried on.
        subject: String,
        /// How many requests were sent (each of which the SDK may have repeated).
        attempts: u32,
        /// Whether a write was sent whose answer is missing.
        outcome_unknown: bool,
        /// The last answer.
        source: Source,
    },

    /// DynamoDB refused the request for good: the table is missing, a permission is, or the credentials are.
    /// Mend the set-up.
    #[error("{operation} of {subject}: {advice}")]
    Setup {
        /// What was tried.
        operation: &'static str,
        /// The stream or the table that it was tried on.
        subject: String,
        /// What to mend.
        advice: String,
        /// DynamoDB's own words.
        source: Source,
    },

    /// The table holds what this library never writes, or lacks what it always writes.
    #[error(transparent)]
    Corrupt(#[from] Box<Corrupt>),
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn outcome(unknown: bool) -> &'static str {
    if unknown { "; whether it was stored is unknown: repeat it with the same append id" } else { "" }
}

/// The stream is not where the appender expected it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {} is at version {}, expected {expected}", .current.stream(), .current.version())]
pub struct Conflict {
    /// What the appender expected.
    pub expected: ExpectedVersion,
    /// Where the stream is now. An append `At` this position needs no further read.
    pub current: StreamPosition,
}

/// Input that can't be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The stream id breaks a rule.
    #[error("stream id {id:?}: {why}; a stream id is `category-id`, for example `order-4711`")]
    StreamId {
        /// The id, shortened.
        id: String,
        /// The rule.
        why: &'static str,
    },
    /// The event type breaks a rule.
    #[error("event type {event_type:?}: {why}")]
    EventType {
        /// The type, shortened.
        event_type: String,
        /// The rule.
        why: &'static str,
    },
    /// A text has more bytes than DynamoDB or AMQP can carry.
    #[error("{what} is too long: at most {limit_bytes} bytes, got {bytes}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The most it may have.
        limit_bytes: usize,
        /// What it has.
        bytes: usize,
    },
    /// The payload is not JSON.
    #[error("the payload of an event of type {event_type:?} is not JSON: {why}")]
    Payload {
        /// The event's type, shortened.
        event_type: String,
        /// What the parser or the serializer said.
        why: String,
    },
    /// The metadata are not a JSON object.
    #[error("metadata must be a JSON object: {why}")]
    Metadata {
        /// What the parser said.
        why: String,
    },
    /// An append of nothing.
    #[error("an append needs at least one event")]
    NoEvents,
    /// More events than one transaction can hold. An append is never split.
    #[error("an append has at most {limit} events, got {events}")]
    TooManyEvents {
        /// The most it may have.
        limit: usize,
        /// What it has.
        events: usize,
    },
    /// One event is larger than an item may be.
    #[error("event {index} of the append is too large: an item has at most {limit_bytes} bytes, this one {bytes}")]
    EventTooLarge {
        /// The event's place in the append, from 0.
        index: usize,
        /// The most it may have.
        limit_bytes: usize,
        /// What it has, keys and attribute names included.
        bytes: usize,
    },
    /// All events together are larger than a transaction may be. An append is never split.
    #[error("the append is too large: a transaction has at most {limit_bytes} bytes, this one {bytes}")]
    AppendTooLarge {
        /// The most it may have.
        limit_bytes: usize,
        /// What it has, keys and attribute names included.
        bytes: usize,
    },
    /// The expected position belongs to another stream.
    #[error("the expected position is one of stream {position_of}, the append goes to {stream}")]
    ForeignPosition {
        /// The stream that is appended to.
        stream: StreamId,
        /// The stream that the position belongs to.
        position_of: StreamId,
    },
    /// The append id is the nil UUID, which would make every such append "the same".
    #[error("the append id {0} is not usable: choose a random one or one derived from the command")]
    AppendId(Uuid),
}

/// What is wrong with the table's content, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream}, {at}: {what}")]
pub struct Corrupt {
    /// The stream.
    pub stream: StreamId,
    /// The entity (sort key) or the range of versions.
    pub at: String,
    /// What is wrong with it.
    pub what: String,
}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(Box::new(corrupt))
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(Box::new(conflict))
    }
}
