//! Stream ids, the position in a stream, and what an appender expects of it.
//!
//! A version is a plain `u64`: it is counted with, compared with headers and `ETag`s, and written into them. A number alone gives no
//! right to append anywhere. That right is a [`StreamPosition`], which only the store hands out; a number from outside is
//! [`ExpectedVersion::Exact`], which is checked.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::limits::{MAX_SHORT_STRING_BYTES, MAX_STREAM_ID_BYTES};

/// The name of a stream: `category-id`, for example `order-4711`.
///
/// The category is what stands before the first `-`; it is the first word of the routing key. A stream id
/// - has a category and an id, both not empty,
/// - does not start with `$` (reserved for streambox itself),
/// - has no control characters,
/// - is at most 2,048 bytes long (DynamoDB's longest partition key), its category at most 253 bytes (with a dot and an
///   event type behind it, it must fit into a routing key of 255 bytes).
///
/// Ids are compared byte by byte, without Unicode normalization: two that look the same may be two streams (the
/// programs show such characters escaped). What exists is valid; a clone is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Checks `id` and makes a stream id of it.
    ///
    /// # Errors
    /// [`StreamIdError`] names the rule that `id` breaks.
    pub fn new(id: impl AsRef<str>) -> Result<Self, StreamIdError> {
        let id = id.as_ref();
        check(id)?;
        Ok(Self(id.into()))
    }

    /// An id as it stands in a table or a message: what is there already is taken as it is, even if it breaks a rule.
    ///
    /// For tools and other crates that read what is stored; an append to such an id is refused only if DynamoDB or a broker can't take it.
    #[must_use]
    pub fn stored(id: &str) -> Self {
        Self(id.into())
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `-`.
    #[must_use]
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(category, _)| category)
    }

    /// What stands behind the first `-`: the id of an aggregate, as [`Repository::load`](crate::aggregate::Repository::load) takes it.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }
}

/// Why a text is not a stream id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// It breaks a rule of form.
    #[error("stream id {id:?}: {why}; a stream id is `category-id`, for example `order-4711`")]
    Malformed {
        /// The text, shortened.
        id: String,
        /// The rule.
        why: &'static str,
    },
    /// It has too many bytes, or its category has.
    #[error("{what} is too long: at most {limit_bytes} bytes, got {bytes}")]
    TooLong {
        /// What is too long: the stream id or its category.
        what: &'static str,
        /// The limit.
        limit_bytes: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// It is to be an aggregate's id, and has the category in it already.
    #[error(
        "{id:?} is a stream id, and would become the stream {category}-{id}: give the aggregate's id alone, what stands behind `{category}-`"
    )]
    HasCategory {
        /// The text, shortened.
        id: String,
        /// The aggregate's category.
        category: &'static str,
    },
}

fn check(id: &str) -> Result<(), StreamIdError> {
    let refuse = |why: &'static str| Err(StreamIdError::Malformed { id: excerpt(id), why });
    if id.is_empty() {
        return refuse("it is empty");
    }
    if id.len() > MAX_STREAM_ID_BYTES {
        return Err(StreamIdError::TooLong { what: "stream id", limit_bytes: MAX_STREAM_ID_BYTES, bytes: id.len() });
    }
    if id.starts_with('$') {
        return refuse("a leading `$` is reserved");
    }
    if id.chars().any(char::is_control) {
        return refuse("it has a control character");
    }
    match id.split_once('-') {
        Some((category, rest)) if !category.is_empty() && !rest.is_empty() => {
            let limit_bytes = MAX_SHORT_STRING_BYTES - 2;
            if category.len() > limit_bytes {
                return Err(StreamIdError::TooLong { what: "stream category", limit_bytes, bytes: category.len() });
            }
            Ok(())
        }
        _ => refuse("it is not of the form `category-id`"),
    }
}

/// The beginning of a text that may be far too long for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS: usize = 80;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

impl AsRef<str> for StreamId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(id: &str) -> Result<Self, StreamIdError> {
        Self::new(id)
    }
}

impl TryFrom<&str> for StreamId {
    type Error = StreamIdError;

    fn try_from(id: &str) -> Result<Self, StreamIdError> {
        Self::new(id)
    }
}

impl TryFrom<String> for StreamId {
    type Error = StreamIdError;

    fn try_from(id: String) -> Result<Self, StreamIdError> {
        Self::new(id)
    }
}

/// As its text.
impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Checks the text as [`StreamId::new`] does.
impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(id).map_err(de::Error::custom)
    }
}

/// A place in a stream's history that the store itself has handed out, from a load or an append.
///
/// Because it is known to exist, an append [`At`](ExpectedVersion::At) it needs no check first: one request.
///
/// A position knows its table, by name and Region: a store of another table refuses it with
/// [`Error::Invalid`](crate::Error::Invalid). An append does not notice that a table was restored or created again under its old name:
/// that would cost a read. So load streams again after that, and restart what holds positions. A cached state of a
/// [`Repository`](crate::aggregate::Repository) is compared with the table at each load.
///
/// Serde writes and reads it, for a checkpoint of your own. Take its fields as opaque, and never one from somebody who might change it:
/// what a client sends back is a version, [`Exact`](ExpectedVersion::Exact).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPosition {
    stream: StreamId,
    version: u64,
    /// The last public version up to here: what the next pending entry says of the one before it.
    newest_public: Option<Previous>,
    /// The event that it stands behind; none at the start.
    event: Option<KnownEvent>,
}

/// What a position knows of the event that it stands behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownEvent {
    append_id: Uuid,
    table: Arc<str>,
}

impl StreamPosition {
    /// The position before the first event, which every stream has: version 0.
    #[must_use]
    pub fn start(stream: StreamId) -> Self {
        Self::before_unread(stream, 0)
    }

    /// A place to begin a read at. What stands before it is not known.
    pub(crate) fn before_unread(stream: StreamId, version: u64) -> Self {
        Self { stream, version, newest_public: None, event: None }
    }

    /// Behind an event of an append.
    pub(crate) fn after(
        table: &Arc<str>,
        stream: StreamId,
        version: u64,
        append_id: Uuid,
        newest_public: Option<Previous>,
    ) -> Self {
        let event = KnownEvent { append_id, table: Arc::clone(table) };
        Self { stream, version, newest_public, event: Some(event) }
    }

    /// The stream that this is a position of.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The version of the newest event at this position; 0 before the first one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The id of the append that the newest event at this position came with; none before the first one.
    #[must_use]
    pub fn append_id(&self) -> Option<Uuid> {
        self.event.as_ref().map(|event| event.append_id)
    }

    /// The table that it is a position of, with its Region; none before the first event.
    pub(crate) fn table(&self) -> Option<&Arc<str>> {
        self.event.as_ref().map(|event| &event.table)
    }

    pub(crate) fn newest_public(&self) -> Option<Previous> {
        self.newest_public
    }
}

/// The last public version of a stream up to some place. A pending entry names it of the place before its append: it is the key
/// of the entry before, from which a relay sees whether it has missed that one, and what a consumer must have seen.
///
/// Exhaustive: it is what two numbers of an entry say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// The version.
    pub version: u64,
    /// When its event was recorded, by its appender's clock: milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
}

/// What an appender expects of the stream; if it does not hold, the append is a
/// [`Conflict`](crate::Conflict) and nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectedVersion {
    /// Nothing: the events go to the stream's end, wherever it is. Reads the end first (one more request), and
    /// again whenever another writer was quicker. A repeated append id is recognised only while that append is the
    /// stream's newest: use one of the others if a repeat must be harmless for ever.
    Any,
    /// The stream has at least one event; the events go to its end, wherever that is, as with [`Any`](Self::Any) and at its
    /// cost. A stream without events is a conflict at version 0.
    StreamExists,
    /// The stream has no event yet. No read is needed: the first event decides. If that one was deleted by hand and others are
    /// left, an append of one event does not notice; [`Exact(0)`](Self::Exact) does.
    NoStream,
    /// The stream is at this version: a number from outside, an HTTP `If-Match` for instance. Checked by one
    /// consistent read first, since a number that is too high would leave a gap.
    Exact(u64),
    /// The stream is at this position, which an earlier load or append has returned. No read is needed.
    At(StreamPosition),
}

impl ExpectedVersion {
    /// Whether it names no version: the append goes to the stream's end, and again if another writer was quicker.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Any | Self::StreamExists)
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::StreamExists => f.write_str("an existing stream"),
            Self::NoStream | Self::Exact(0) => f.write_str("no stream"),
            Self::Exact(version) => write!(f, "version {version}"),
            Self::At(position) => write!(f, "version {}", position.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_category_stands_before_the_first_dash_and_the_id_behind_it() {
        let id = StreamId::new("order-2024-0001").unwrap();
        assert_eq!((id.category(), id.id()), ("order", "2024-0001"));
    }

    #[test]
    fn serde_writes_an_id_as_its_text_and_checks_what_it_reads() {
        let id = StreamId::new("order-a\"b").unwrap();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!((text.as_str(), serde_json::from_str::<StreamId>(&text).unwrap()), (r#""order-a\"b""#, id));
        let error = serde_json::from_str::<StreamId>("\"order\"").unwrap_err().to_string();
        assert!(error.contains("category-id"), "{error}");
    }

    #[test]
    fn a_position_is_the_same_when_it_is_read_again() {
        let id = StreamId::new("order-1").unwrap();
        let previous = Some(Previous { version: 2, recorded_at_ms: 5 });
        let behind = StreamPosition::after(&"eu-central-1/events".into(), id.clone(), 3, Uuid::from_u128(7), previous);
        for position in [StreamPosition::start(id), behind] {
            let text = serde_json::to_string(&position).unwrap();
            assert_eq!(serde_json::from_str::<StreamPosition>(&text).unwrap(), position, "{text}");
        }
    }

    #[test]
    fn ids_that_break_a_rule_are_refused_with_the_rule() {
        let long = format!("order-{}", "x".repeat(2043));
        let category = format!("{}-1", "c".repeat(254));
        for (id, rule) in [
            ("", "empty"),
            ("order", "category-id"),
            ("-1", "category-id"),
            ("order-", "category-id"),
            ("$relay-1", "reserved"),
            ("order-\n1", "control character"),
            (long.as_str(), "2048"),
            (category.as_str(), "253"),
        ] {
            let error = StreamId::new(id).expect_err(id).to_string();
            assert!(error.contains(rule), "{id:.20}: {error}");
        }
        assert!(StreamId::new(format!("order-{}", "x".repeat(2042))).is_ok());
    }
}
