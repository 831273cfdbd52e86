//! The one error type of the crate. Its kinds answer the question "what do I do now?".

use std::{collections::HashMap, error::Error as StdError};

use aws_sdk_dynamodb::types::AttributeValue;
use uuid::Uuid;

use crate::misconfiguration::Misconfiguration;
use crate::stream::{ExpectedVersion, StreamId, StreamIdError, StreamPosition};

pub(crate) type Source = Box<dyn StdError + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another writer appended first. An ordinary outcome: load the stream, decide again, append again.
    #[error(transparent)]
    Conflict(#[from] Box<Conflict>),

    /// The input can't be stored. Nothing was sent; the same input is always refused.
    #[error(transparent)]
    Invalid(#[from] Invalid),

    /// DynamoDB did not answer in time, or had no capacity. Retry later. An append may have been stored: repeat it with the same
    /// append id and the same expected version, which stores it once.
    #[error("{operation} of {subject}: DynamoDB is unavailable after {attempts} attempt{}{}", plural(*.attempts), outcome(*.outcome_unknown))]
    Unavailable {
        /// The operation.
        operation: &'static str,
        /// Its stream or table.
        subject: String,
        /// How many requests were sent (each of which the SDK may have repeated).
        attempts: u32,
        /// Whether a write was sent that DynamoDB did not answer.
        outcome_unknown: bool,
        /// The last answer.
        source: Source,
    },

    /// At each attempt, another transaction was in progress on the same items; or, before the first attempt, too many commands of this
    /// repository were waiting on the stream, or for too long. Nothing was written. Retry later.
    #[error("{operation} of {subject}: {}; nothing was written, try again", busy(*.attempts))]
    Busy {
        /// The operation.
        operation: &'static str,
        /// Its stream.
        subject: String,
        /// How many requests were sent.
        attempts: u32,
    },

    /// The request can't be sent, or DynamoDB refuses it for good: a setting, credentials, a permission or the table is wrong or
    /// missing. Correct the configuration.
    #[error("{operation} of {subject}: {problem}")]
    Configuration {
        /// The operation.
        operation: &'static str,
        /// Its stream or table.
        subject: String,
        /// What is wrong.
        problem: Box<Misconfiguration>,
        /// The error of DynamoDB or the AWS SDK.
        source: Source,
    },

    /// An item that the caller added to the transaction was refused by its own condition. Nothing was written: neither
    /// the items nor the events.
    #[error(transparent)]
    ItemRefused(#[from] Box<ItemRefused>),

    /// The table contains items that this library never writes, or items are missing.
    #[error(transparent)]
    Corrupt(#[from] Box<Corrupt>),

    /// An aggregate's stream contains an event of a type that the program does not know. Deploy the program that knows it, or
    /// handle unknown events in the aggregate.
    #[error(transparent)]
    UnknownEvent(#[from] Box<UnknownEvent>),
}

impl Error {
    /// Whether another writer was first: load, decide again, append again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether the same call may succeed later, unchanged: DynamoDB was unavailable or busy. Repeat an append with the same append id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. })
    }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn busy(attempts: u32) -> String {
    match attempts {
        0 => "commands that came before are still being carried out".to_owned(),
        _ => format!("another transaction was in progress at each of {attempts} attempt{}", plural(attempts)),
    }
}

fn outcome(unknown: bool) -> &'static str {
    if unknown { "; whether it was stored is unknown: repeat it with the same append id" } else { "" }
}

/// The stream is not at the expected version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {} is at version {}, expected {expected}", .current.stream(), .current.version())]
#[non_exhaustive]
pub struct Conflict {
    /// The expected version.
    pub expected: ExpectedVersion,
    /// The current position. An append `At` this position needs no further read.
    pub current: StreamPosition,
}

/// The condition of one of the caller's own items did not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("item {position} of the caller's own was refused by its condition; nothing was written")]
#[non_exhaustive]
pub struct ItemRefused {
    /// The item's place among the caller's own, from 0, in the order in which they were added.
    pub position: usize,
    /// The existing item, if it was requested (`return_values_on_condition_check_failure`).
    pub item: Option<HashMap<String, AttributeValue>>,
}

/// Input that can't be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The stream id breaks a rule.
    #[error(transparent)]
    StreamId(#[from] StreamIdError),
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
    /// The metadata are not a JSON object in which each name stands once.
    #[error("metadata must be a JSON object in which each name stands once: {why}")]
    Metadata {
        /// What the parser said, or which name is repeated.
        why: String,
    },
    /// More arrays and objects within each other than every reader takes.
    #[error("{what}: nested too deeply: at most {limit} levels of arrays and objects, got {depth}")]
    TooDeep {
        /// What is too deep: a payload, metadata, or a snapshot's state.
        what: &'static str,
        /// The most levels.
        limit: usize,
        /// What it has.
        depth: usize,
    },
    /// A transaction without an append. For items alone, DynamoDB's own transactions are there.
    #[error("a transaction needs at least one append")]
    NoAppends,
    /// Two appends to one stream in one transaction. They would be one append.
    #[error("stream {stream} is appended to twice in one transaction: put its events into one append")]
    DuplicateStream {
        /// The stream.
        stream: StreamId,
    },
    /// More items than a transaction can hold: events, a pending entry for each append with public events, a marker for each
    /// aggregate of a command that is recognised for ever, and the caller's own. It is never split.
    #[error(
        "a transaction has at most {limit} items (events, one pending entry an append, a command's markers, a consumer's position, your \
         own), got {items}"
    )]
    TooManyItems {
        /// The most it may have.
        limit: usize,
        /// What it has.
        items: usize,
    },
    /// An item of the caller's own that can't be part of an append.
    #[error("item {position} of the caller's own: {why}")]
    OwnItem {
        /// The item's place among the caller's own, from 0.
        position: usize,
        /// The rule that it breaks.
        why: &'static str,
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
    /// One event has more in the headers of its message than a broker is sure to take.
    #[error("event {index} of the append {}", headers_too_large(*.limit_bytes, *.bytes))]
    HeadersTooLarge {
        /// The event's place in the append, from 0.
        index: usize,
        /// The most it may have.
        limit_bytes: usize,
        /// What it has, names included.
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
    #[error("the expected position belongs to stream {position_of}, but the append goes to {stream}")]
    ForeignPosition {
        /// The stream that is appended to.
        stream: StreamId,
        /// The stream that the position belongs to.
        position_of: StreamId,
    },
    /// The position was handed out by a store of another table. Load the stream from this one.
    #[error(
        "the position belongs to table {position_of}, not to table {table}: load the stream from this store, and decide again"
    )]
    PositionOfOtherTable {
        /// The table of this store, with its Region.
        table: String,
        /// The table that the position belongs to, with its Region.
        position_of: String,
    },
    /// The name of a category breaks a rule.
    #[error(
        "category {category:?}: a category is what stands before the first `-` of a stream id, for example `order`"
    )]
    Category {
        /// The name, shortened.
        category: String,
    },
    /// The name of a table breaks DynamoDB's rules.
    #[error("table name {name:?}: allowed are 3 to 255 letters, digits, `_`, `-` and `.`, or the table's ARN")]
    TableName {
        /// The name, shortened.
        name: String,
    },
    /// A scan in more segments than it may have, or in none.
    #[error("a scan has 1 to {limit} segments, not {segments}")]
    Segments {
        /// The most it may have.
        limit: u16,
        /// What was asked for.
        segments: u16,
    },
    /// The token is not one that this scan can resume from.
    #[error("the scan can't resume from this token: {why}")]
    ScanToken {
        /// The reason.
        why: String,
    },
    /// A text that is required is empty.
    #[error("the {what} is empty")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// The target of a skip is neither a version nor the sort key of a damaged pending entry.
    #[error("{target:?} does not name a pending entry: allowed is a version, for example 7, or a sort key `pending#…`")]
    SkipTarget {
        /// What was given, shortened.
        target: String,
    },
    /// The id of a relay worker breaks a rule.
    #[error("worker id {id:?}: {why}; a host's or a container's name is a good one")]
    WorkerId {
        /// The id, shortened.
        id: String,
        /// The rule.
        why: &'static str,
    },
    /// The name of a consumer breaks a rule.
    #[error("consumer name {name:?}: {why}; for example `free-seats`")]
    ConsumerName {
        /// The name, shortened.
        name: String,
        /// The rule.
        why: &'static str,
    },
    /// The append id is the nil UUID, which would make every such append "the same".
    #[error("the append id {0} is not usable: choose a random one or one derived from the command")]
    AppendId(Uuid),
}

/// Names [`Metadata::HEADERS`](crate::Metadata::HEADERS).
fn headers_too_large(limit_bytes: usize, bytes: usize) -> String {
    format!(
        "has too much in its message headers: stream id, event type and the metadata `correlation_id`, `causation_id`, \
         `traceparent`, `tracestate` have at most {limit_bytes} bytes together, these have {bytes}; put large values into the \
         payload or under other metadata names"
    )
}

/// What is wrong with the content of the table, and in which item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream}, {at}: {what}")]
#[non_exhaustive]
pub struct Corrupt {
    /// The stream.
    pub stream: StreamId,
    /// The entity (sort key) or the range of versions.
    pub at: String,
    /// What is wrong with it.
    pub what: String,
}

/// A stored event whose type the program does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stream {stream}, version {version}: the event type {event_type:?} is not known; deploy the program that knows it, add an \
     upcaster, or let the aggregate ignore unknown events"
)]
#[non_exhaustive]
pub struct UnknownEvent {
    /// The stream.
    pub stream: StreamId,
    /// The event's version.
    pub version: u64,
    /// Its type, as it is stored.
    pub event_type: String,
}

impl ItemRefused {
    /// A refusal in a transaction of another crate.
    #[must_use]
    pub fn new(position: usize, item: Option<HashMap<String, AttributeValue>>) -> Self {
        Self { position, item }
    }
}

impl Corrupt {
    /// Damage that another program has found, or a test makes up.
    #[must_use]
    pub fn new(stream: StreamId, at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { stream, at: at.into(), what: what.into() }
    }
}

impl From<StreamIdError> for Error {
    fn from(error: StreamIdError) -> Self {
        Self::Invalid(error.into())
    }
}

/// The kinds are boxed, since a result is as large as its error.
macro_rules! boxed {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Error {
            fn from(what: $kind) -> Self {
                Self::$kind(Box::new(what))
            }
        }
    )*};
}

boxed!(Conflict, ItemRefused, Corrupt, UnknownEvent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_succeed_unchanged_is_retryable_and_only_a_conflict_is_one() {
        let order = StreamId::new("order-1").expect("a stream id");
        let current = StreamPosition::start(order.clone());
        let kinds: [(Error, bool, bool); 5] = [
            (Conflict { expected: ExpectedVersion::Exact(1), current }.into(), true, false),
            (Invalid::NoEvents.into(), false, false),
            (Corrupt::new(order, "version 1", "it is missing").into(), false, false),
            (Error::Busy { operation: "append", subject: "order-1".to_owned(), attempts: 2 }, false, true),
            (
                Error::Unavailable {
                    operation: "append",
                    subject: "order-1".to_owned(),
                    attempts: 1,
                    outcome_unknown: true,
                    source: "no answer".into(),
                },
                false,
                true,
            ),
        ];
        for (error, is_conflict, is_retryable) in kinds {
            assert_eq!((error.is_conflict(), error.is_retryable()), (is_conflict, is_retryable), "{error}");
        }
    }

    #[test]
    fn a_command_whose_turn_did_not_come_does_not_blame_other_transactions() {
        let busy = |attempts| Error::Busy { operation: "execute", subject: "order-1".to_owned(), attempts }.to_string();
        assert!(busy(0).contains("came before") && !busy(0).contains("attempt"), "{}", busy(0));
        assert!(busy(1).contains("at each of 1 attempt;"), "{}", busy(1));
    }

    #[test]
    fn the_metadata_that_become_headers_are_named_where_they_are_too_large() {
        let error = Invalid::HeadersTooLarge { index: 0, limit_bytes: 1, bytes: 2 }.to_string();
        for name in crate::Metadata::HEADERS {
            assert!(error.contains(&format!("`{name}`")), "{name}: {error}");
        }
    }
}
