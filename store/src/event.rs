//! Events: as they are handed in, and as they were recorded.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{self, SerializeStruct as _},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    error::{Corrupt, Error, Invalid},
    json,
    limits::MAX_SHORT_STRING_BYTES,
    metadata::Metadata,
    stream::{Previous, StreamId, StreamPosition, excerpt},
    trace::TraceContext,
};

/// An event that is to be appended: a type, a JSON payload, and metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    event_type: String,
    payload: String,
    metadata: Metadata,
    is_private: bool,
}

impl NewEvent {
    /// An event whose payload is `payload` as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the type is empty, has a control character or more than 255 bytes, or `payload` can't be
    /// written as JSON: a map key that is not a text, a float that is not finite, more than
    /// [`MAX_JSON_DEPTH`](crate::limits::MAX_JSON_DEPTH) levels.
    pub fn json(event_type: impl Into<String>, payload: &impl Serialize) -> Result<Self, Error> {
        let event_type = event_type.into();
        check_type(&event_type)?;
        match json::to_text(payload) {
            Ok(payload) => Self::of(event_type, payload),
            Err(error) => Err(payload_refused(&event_type, &error).into()),
        }
    }

    /// An event whose payload is already JSON text. It is stored and published byte for byte.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the type as in [`json`](Self::json), or `payload` is not one JSON value, or has more than
    /// [`MAX_JSON_DEPTH`](crate::limits::MAX_JSON_DEPTH) levels.
    pub fn from_json_text(event_type: impl Into<String>, payload: impl Into<String>) -> Result<Self, Error> {
        let (event_type, payload) = (event_type.into(), payload.into());
        check_type(&event_type)?;
        match serde_json::from_str::<serde::de::IgnoredAny>(&payload) {
            Ok(_) => Self::of(event_type, payload),
            Err(error) => Err(payload_refused(&event_type, &error).into()),
        }
    }

    fn of(event_type: String, payload: String) -> Result<Self, Error> {
        json::check_depth("payload", &payload)?;
        Ok(Self { event_type, payload, metadata: Metadata::default(), is_private: false })
    }

    /// The same event with these metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    pub(crate) fn add_trace_context(&mut self, current: &TraceContext) {
        if self.metadata.json(Metadata::TRACEPARENT).is_some() {
            return;
        }
        let metadata = std::mem::take(&mut self.metadata).with(Metadata::TRACEPARENT, current.traceparent.as_str());
        // The state belongs to the parent: one of another trace is not kept.
        self.metadata = match &current.tracestate {
            Some(state) => metadata.with(Metadata::TRACESTATE, state.as_str()),
            None => metadata.without(Metadata::TRACESTATE),
        };
    }

    /// The same event, not for publication: it is part of the history and never goes to the broker. An append of private
    /// events alone writes no pending entry.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.is_private = true;
        self
    }

    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The payload, JSON text.
    #[must_use]
    pub fn payload_text(&self) -> &str {
        &self.payload
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether it is not for publication.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.is_private
    }
}

fn check_type(event_type: &str) -> Result<(), Invalid> {
    let refuse = |why| Err(Invalid::EventType { event_type: excerpt(event_type), why });
    if event_type.is_empty() {
        return refuse("it is empty");
    }
    if event_type.len() > MAX_SHORT_STRING_BYTES {
        let limit_bytes = MAX_SHORT_STRING_BYTES;
        return Err(Invalid::TooLong { what: "event type", limit_bytes, bytes: event_type.len() });
    }
    if event_type.chars().any(char::is_control) {
        return refuse("it has a control character");
    }
    Ok(())
}

fn payload_refused(event_type: &str, error: &serde_json::Error) -> Invalid {
    Invalid::Payload { event_type: excerpt(event_type), why: error.to_string() }
}

/// An event as it stands in the history. It never changes.
///
/// `serde_json` writes it with its payload and its metadata as JSON values, byte for byte.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordedEvent {
    /// The stream that it belongs to.
    pub stream_id: StreamId,
    /// Its place in the stream: 1, 2, 3 …
    pub version: u64,
    /// Its type.
    pub event_type: String,
    /// Its payload: JSON text, byte for byte as it was appended.
    pub payload: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// When it was recorded, by the appender's clock: milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
    /// Whether it is not for publication: see [`NewEvent::private`].
    pub is_private: bool,
    /// The append that it came with.
    pub append: AppendRange,
    /// The last public version up to this event, its own included.
    pub(crate) newest_public: Option<Previous>,
}

impl Serialize for RecordedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let payload = serde_json::from_str::<&RawValue>(&self.payload).map_err(ser::Error::custom)?;
        let mut fields = serializer.serialize_struct("RecordedEvent", 9)?;
        fields.serialize_field("stream_id", &self.stream_id)?;
        fields.serialize_field("version", &self.version)?;
        fields.serialize_field("event_id", &self.event_id())?;
        fields.serialize_field("event_type", &self.event_type)?;
        fields.serialize_field("payload", payload)?;
        fields.serialize_field("metadata", &self.metadata)?;
        fields.serialize_field("recorded_at_ms", &self.recorded_at_ms)?;
        fields.serialize_field("is_private", &self.is_private)?;
        fields.serialize_field("append", &self.append)?;
        fields.end()
    }
}

/// Milliseconds since the Unix epoch as a time.
pub(crate) fn time_of(ms: i64) -> SystemTime {
    let apart = Duration::from_millis(ms.unsigned_abs());
    let time =
        if ms < 0 { SystemTime::UNIX_EPOCH.checked_sub(apart) } else { SystemTime::UNIX_EPOCH.checked_add(apart) };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

impl RecordedEvent {
    /// Its own id, the `message_id` of its message: computed of the append's id, the stream and the version, so that it is the same
    /// however often the append was repeated, and no other event's.
    #[must_use]
    pub fn event_id(&self) -> Uuid {
        event_id(self.append.id, &self.stream_id, self.version)
    }

    /// The last version up to this event, its own included, that is published; none if all of them are private. What a message calls
    /// `previous_version` is that of the event before.
    #[must_use]
    pub fn last_public_version(&self) -> Option<u64> {
        self.newest_public.map(|newest| newest.version)
    }

    /// When it was recorded, by the appender's clock, in whole milliseconds.
    #[must_use]
    pub fn recorded_at(&self) -> SystemTime {
        time_of(self.recorded_at_ms)
    }

    /// The position at this event. `table`: the table and its Region.
    pub(crate) fn position(&self, table: &Arc<str>) -> StreamPosition {
        StreamPosition::after(table, self.stream_id.clone(), self.version, self.append.id, self.newest_public)
    }

    /// The payload as a `T`.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: the payload has another shape; the error names the stream and the version.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.payload).map_err(|error| {
            let at = format!("version {}", self.version);
            let what = format!("the payload of this {} does not decode: {error}", self.event_type);
            Corrupt { stream: self.stream_id.clone(), at, what }.into()
        })
    }
}

impl Metadata {
    /// Metadata of an event that `cause` has led to: its id as the causation id, and its correlation id, or if it has none
    /// its own id, as the correlation id.
    #[must_use]
    pub fn caused_by(cause: &RecordedEvent) -> Self {
        let id = cause.event_id().to_string();
        let mut metadata = Self::new().with(Self::CORRELATION_ID, id.as_str());
        if let Some(correlation) = cause.metadata.json(Self::CORRELATION_ID) {
            metadata.set(Self::CORRELATION_ID, correlation);
        }
        metadata.with(Self::CAUSATION_ID, id)
    }

    /// The same from what a message says of the event: its id, and its correlation id, if it has one.
    #[must_use]
    pub fn caused_by_id(event_id: Uuid, correlation_id: Option<&str>) -> Self {
        let id = event_id.to_string();
        Self::new().with(Self::CORRELATION_ID, correlation_id.unwrap_or(&id)).with(Self::CAUSATION_ID, id)
    }
}

/// The versions that one append has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AppendRange {
    /// The append's id.
    pub id: Uuid,
    /// The version of its first event.
    pub first: u64,
    /// The version of its last event.
    pub last: u64,
}

/// The id of the event that an append stores in `stream` at `version`: a name-based UUID (version 5, RFC 9562), so that a
/// repeat at the same place has the same ids, and no two events ever share one, whatever append ids their writers choose.
pub(crate) fn event_id(append_id: Uuid, stream: &StreamId, version: u64) -> Uuid {
    Uuid::new_v5(&append_id, format!("{stream}#{version}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_text_is_kept_byte_for_byte() {
        let text = "{ \"b\": 1.50, \"a\":  null }";
        assert_eq!(NewEvent::from_json_text("Placed", text).unwrap().payload_text(), text);
    }

    #[test]
    fn g12_a_payload_as_deep_as_allowed_is_taken_as_text_and_as_a_value() {
        let (deepest, deeper) = (json::nested(100), json::nested(101));
        assert_eq!(NewEvent::from_json_text("Placed", &deepest).unwrap().payload_text(), deepest);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(NewEvent::json("Placed", &value(&deepest)).unwrap().payload_text(), deepest);
        let error = NewEvent::json("Placed", &value(&deeper)).expect_err("refused");
        assert!(matches!(error, Error::Invalid(Invalid::TooDeep { depth: 101, .. })), "{error}");
    }

    #[test]
    fn types_and_payloads_that_break_a_rule_are_refused() {
        let long = "T".repeat(256);
        let deep = json::nested(101);
        for (event_type, payload, rule) in [
            ("", "{}", "empty"),
            ("a\u{7}b", "{}", "control character"),
            (long.as_str(), "{}", "at most 255 bytes, got 256"),
            ("Placed", "{", "not JSON"),
            ("Placed", "{} {}", "not JSON"),
            ("Placed", "", "not JSON"),
            ("Placed", deep.as_str(), "at most 100 levels of arrays and objects, got 101"),
        ] {
            let error = NewEvent::from_json_text(event_type, payload).expect_err(rule).to_string();
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn serde_writes_payload_and_metadata_byte_for_byte_and_times_are_times() {
        let id = Uuid::from_u128(7);
        let event = RecordedEvent {
            stream_id: StreamId::new("order-1").unwrap(),
            version: 2,
            event_type: "Placed".to_owned(),
            payload: r#"{"big": 12345678901234567890123}"#.to_owned(),
            metadata: Metadata::from_json_text(r#"{"a": 1e2}"#).unwrap(),
            recorded_at_ms: -1,
            is_private: false,
            append: AppendRange { id, first: 2, last: 2 },
            newest_public: None,
        };
        let text = serde_json::to_string(&event).unwrap();
        let values = r#""payload":{"big": 12345678901234567890123},"metadata":{"a": 1e2},"recorded_at_ms":-1"#;
        assert!(text.starts_with(r#"{"stream_id":"order-1","version":2,"#) && text.contains(values), "{text}");
        assert_eq!(event.recorded_at(), SystemTime::UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(time_of(1_500), SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));

        let id = event.event_id();
        assert_eq!(Metadata::caused_by(&event), Metadata::caused_by_id(id, None));
        let caused = Metadata::caused_by_id(id, Some("conversation-1"));
        assert_eq!(caused.text(Metadata::CORRELATION_ID).as_deref(), Some("conversation-1"));
        assert_eq!(caused.text(Metadata::CAUSATION_ID).as_deref(), Some(id.to_string().as_str()));
    }

    #[test]
    fn event_ids_differ_by_append_version_and_stream_and_never_by_time() {
        let append = Uuid::from_u128(7);
        let (a, b) = (StreamId::new("order-1").unwrap(), StreamId::new("order-2").unwrap());
        assert_eq!(event_id(append, &a, 1), event_id(append, &a, 1));
        assert_ne!(event_id(append, &a, 1), event_id(append, &a, 2));
        assert_ne!(event_id(append, &a, 1), event_id(append, &b, 1));
        assert_ne!(event_id(append, &a, 1), event_id(Uuid::from_u128(8), &a, 1));
    }
}
