//! An event as a consumer receives it.

use std::{collections::HashMap, time::SystemTime};

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    CLOUDEVENTS_CONTENT_TYPE, HeaderValue, PREVIOUS_VERSION_HEADER, RECORDED_AT_HEADER, REPLAY_ENDED_TYPE,
    REPLAY_HEADER, STREAM_ID_HEADER, VERSION_HEADER, cloudevents, recorded_at,
};
use crate::{
    error::{Corrupt, Error},
    event::{RecordedEvent, time_of},
    metadata::Metadata,
    stream::{StreamId, excerpt},
};

/// The properties of a message that a [`Received`] is built from.
///
/// Exhaustive: a consumer fills it in, and is to notice when it should fill in more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The property `message_id`.
    pub message_id: Option<&'a str>,
    /// The property `type`.
    pub event_type: Option<&'a str>,
    /// The property `content_type`: whether the body is the payload or a CloudEvent.
    pub content_type: Option<&'a str>,
}

/// An event as a consumer receives it: what a message has of a [`RecordedEvent`].
///
/// It may come more than once, and then is the same each time. A consumer drops what it has seen (`version` is not above the last
/// one of the stream) and, unless it rebuilds, what has a [`replay`](Self::replay).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// The stream that it belongs to.
    pub stream_id: StreamId,
    /// Its place in the stream: 1, 2, 3 … 0 in the message that [ends a replay](Self::is_replay_end).
    pub version: u64,
    /// The version of the public event before it in its stream; none if it is the first. Who handles all events of a category knows by
    /// it whether a message is missing: what is above the last version seen is a gap.
    pub previous_version: Option<u64>,
    /// Its own id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its payload: JSON text, byte for byte as it was appended (of a CloudEvent without the white space around it).
    pub payload: String,
    /// Its correlation id, causation id and trace context. All other metadata stay in the store.
    pub metadata: Metadata,
    /// When it was recorded, by the appender's clock: milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
    /// The id of the replay that has published it; none if the relay has.
    pub replay: Option<String>,
}

/// A message that is not an event of streambox, or one that can't be read.
///
/// Exhaustive: the cases differ in what a consumer does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It has no stream id: it is not an event. Reject it, without requeue, to the dead letters.
    #[error("the message is not an event of streambox: it has no text as its header {STREAM_ID_HEADER}")]
    NotAnEvent,
    /// It is an event of this stream, and a part is missing or not as the relay writes it. Hold the stream: don't acknowledge the
    /// message, and handle nothing behind it in its stream.
    #[error("a message of {stream_id} can't be read: the {part} {why}")]
    Broken {
        /// The stream.
        stream_id: StreamId,
        /// Which header or property, or the body.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Received {
    /// Builds a received event from the parts of its message. Headers with other names are passed over.
    ///
    /// # Errors
    /// [`MessageError`]: the message is not an event, or a part of it can't be read.
    pub fn from_parts<'a>(
        properties: Properties<'_>,
        headers: impl IntoIterator<Item = (&'a str, HeaderValue<'a>)>,
        body: &[u8],
    ) -> Result<Self, MessageError> {
        let headers = headers.into_iter().collect::<HashMap<_, _>>();
        let text = |name| match headers.get(name) {
            Some(HeaderValue::Text(text)) => Some(text.as_ref()),
            _ => None,
        };
        let Some(stream) = text(STREAM_ID_HEADER) else { return Err(MessageError::NotAnEvent) };
        // What a relay has published is taken as it is, as what a table holds.
        let stream_id = StreamId::stored(stream);
        let broken = |part, why| MessageError::Broken { stream_id: stream_id.clone(), part, why };
        let absent = |part| broken(part, "is missing".to_owned());
        let not_a = |part, what: &str, value: &str| broken(part, format!("is not {what}: {:?}", excerpt(value)));

        let (part, id) = ("property message_id", properties.message_id);
        let id = id.ok_or_else(|| absent(part))?;
        let event_id = Uuid::parse_str(id).map_err(|_| not_a(part, "a UUID", id))?;
        let event_type = properties.event_type.ok_or_else(|| absent("property type"))?.to_owned();
        let version = match headers.get(VERSION_HEADER) {
            Some(HeaderValue::Integer(0)) if event_type == REPLAY_ENDED_TYPE => 0,
            Some(HeaderValue::Integer(version @ 1..)) => version.unsigned_abs(),
            Some(HeaderValue::Integer(version)) => {
                return Err(not_a("header version", "a version", &version.to_string()));
            }
            Some(HeaderValue::Text(text)) => return Err(not_a("header version", "an integer", text)),
            None => return Err(absent("header version")),
        };
        let previous_version = match headers.get(PREVIOUS_VERSION_HEADER) {
            None => None,
            Some(HeaderValue::Integer(previous @ 1..)) if previous.unsigned_abs() < version => {
                Some(previous.unsigned_abs())
            }
            Some(HeaderValue::Integer(previous)) => {
                return Err(not_a("header previous_version", "an earlier version", &previous.to_string()));
            }
            Some(HeaderValue::Text(text)) => return Err(not_a("header previous_version", "an integer", text)),
        };
        let (part, time) = ("header recorded_at", text(RECORDED_AT_HEADER));
        let time = time.ok_or_else(|| absent(part))?;
        let recorded_at_ms = recorded_at::parse(time).ok_or_else(|| not_a(part, "a time in ISO 8601", time))?;
        let payload = std::str::from_utf8(body).map_err(|error| broken("body", format!("is not UTF-8: {error}")))?;
        let is_cloud_event = properties.content_type.is_some_and(is_cloud_event);
        let payload = if is_cloud_event { cloudevents::data(payload) } else { Ok(payload) };
        let payload = payload.map_err(|error| broken("body", format!("is not a CloudEvent with data: {error}")))?;
        let mut metadata = Metadata::new();
        for name in Metadata::HEADERS {
            metadata = match headers.get(name) {
                Some(HeaderValue::Text(text)) => metadata.with(name, text.as_ref()),
                Some(HeaderValue::Integer(number)) => metadata.with(name, *number),
                None => metadata,
            };
        }
        let (payload, replay) = (payload.to_owned(), text(REPLAY_HEADER).map(str::to_owned));
        Ok(Self {
            stream_id,
            version,
            previous_version,
            event_id,
            event_type,
            payload,
            metadata,
            recorded_at_ms,
            replay,
        })
    }

    /// What a consumer receives of a stored event, without a message: the same that [`from_parts`](Self::from_parts) makes of the message
    /// that a relay publishes. For what reads the table instead of a queue: a rebuild, or the events of a gap.
    ///
    /// `previous_version`: the version of the public event before it in its stream, none if there is none; it is the
    /// [`last_public_version`](RecordedEvent::last_public_version) of the event before. The payload is byte for byte as it was appended; a
    /// CloudEvent leaves out the white space around it.
    ///
    /// A [private](RecordedEvent::is_private) event has no message: leave it out.
    #[must_use]
    pub fn from_recorded(event: RecordedEvent, previous_version: Option<u64>) -> Self {
        Self {
            event_id: event.event_id(),
            stream_id: event.stream_id,
            version: event.version,
            previous_version,
            event_type: event.event_type,
            payload: event.payload,
            metadata: event.metadata.in_message(),
            recorded_at_ms: event.recorded_at_ms,
            replay: None,
        }
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

    /// When it was recorded, by the appender's clock.
    #[must_use]
    pub fn recorded_at(&self) -> SystemTime {
        time_of(self.recorded_at_ms)
    }

    /// Whether it is not an event, but the end of a replay to a queue; the payload says how many events were published:
    /// `{"replay": ID, "published": EVENTS}`.
    #[must_use]
    pub fn is_replay_end(&self) -> bool {
        self.version == 0
    }
}

/// Compared without parameters, of which a publisher may choose others.
fn is_cloud_event(content_type: &str) -> bool {
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence(content_type) == essence(CLOUDEVENTS_CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::{
        event::AppendRange,
        limits::MAX_RECORDED_AT_MS,
        message::{CONTENT_TYPE, MAX_CLOUDEVENTS_VERSION, Unpublishable, cloud_event, headers},
        outbox::OutboxEvent,
    };

    const ID: &str = "b7722026-cb55-5650-ba67-6f62913b5e3b";
    const PROPERTIES: Properties<'_> =
        Properties { message_id: Some(ID), event_type: Some("OrderPlaced"), content_type: Some(CONTENT_TYPE) };

    fn published() -> (StreamId, OutboxEvent) {
        let payload = "{ \"total\": 49.90,\n \"a\": null }";
        let mut event = OutboxEvent::new(7, Uuid::parse_str(ID).unwrap(), "OrderPlaced", payload);
        event.recorded_at_ms = 1_780_000_060_100;
        event.previous_version = Some(5);
        event.metadata = Metadata::new().with("tracestate", "a=b").with("mine", 1).with("causation_id", 42);
        (StreamId::new("order-Straße-1").unwrap(), event)
    }

    #[test]
    fn what_was_published_is_received_but_for_the_metadata_that_stay_in_the_store() {
        let (stream, event) = published();
        let received = |properties, body: &str| {
            Received::from_parts(properties, headers(&stream, &event).unwrap(), body.as_bytes()).unwrap()
        };
        let plain = received(PROPERTIES, &event.payload);
        assert_eq!((&plain.stream_id, plain.version, plain.event_id), (&stream, 7, event.event_id));
        assert_eq!(plain.previous_version, Some(5));
        assert_eq!((plain.event_type.as_str(), &plain.payload), ("OrderPlaced", &event.payload));
        assert_eq!(plain.metadata.as_json_text(), r#"{"causation_id":"42","tracestate":"a=b"}"#);
        assert_eq!(plain.recorded_at(), UNIX_EPOCH + Duration::from_millis(1_780_000_060_100));
        assert_eq!((&plain.replay, plain.is_replay_end()), (&None, false));
        assert_eq!(plain.payload::<serde_json::Value>().unwrap()["total"], 49.9);
        assert!(plain.payload::<u64>().unwrap_err().to_string().contains("version 7"));
        for content_type in [CLOUDEVENTS_CONTENT_TYPE, "Application/CloudEvents+JSON"] {
            let properties = Properties { content_type: Some(content_type), ..PROPERTIES };
            assert_eq!(received(properties, &cloud_event("/", &stream, &event).unwrap()), plain);
        }
    }

    #[test]
    fn a_message_of_a_replay_and_its_end_are_recognized() {
        let headers = |version: i64| {
            [
                (STREAM_ID_HEADER, "order-1".into()),
                (VERSION_HEADER, version.into()),
                (RECORDED_AT_HEADER, "2026-05-28T20:27:40.000Z".into()),
                (REPLAY_HEADER, "r-1".into()),
            ]
        };
        let replayed = Received::from_parts(PROPERTIES, headers(1), b"1").unwrap();
        assert_eq!((replayed.replay.as_deref(), replayed.is_replay_end()), (Some("r-1"), false));
        let ends = Properties { event_type: Some(REPLAY_ENDED_TYPE), ..PROPERTIES };
        assert!(Received::from_parts(ends, headers(0), b"{}").unwrap().is_replay_end());
        let error = Received::from_parts(PROPERTIES, headers(0), b"1").unwrap_err().to_string();
        assert_eq!(error, "a message of order-1 can't be read: the header version is not a version: \"0\"");
    }

    #[test]
    fn a_part_that_is_missing_or_broken_is_named_and_what_has_no_stream_id_is_not_an_event() {
        let (stream, event) = published();
        let good = headers(&stream, &event).unwrap();
        let without = |name: &str| good.clone().into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
        let with = |name, value| without(name).into_iter().chain([(name, value)]).collect::<Vec<_>>();
        for not_an_event in [vec![], without(STREAM_ID_HEADER), with(STREAM_ID_HEADER, 7.into())] {
            assert_eq!(Received::from_parts(PROPERTIES, not_an_event, b"1"), Err(MessageError::NotAnEvent));
        }
        let (none, id) =
            (Properties { message_id: None, ..PROPERTIES }, |id| Properties { message_id: Some(id), ..PROPERTIES });
        let (untyped, cloud) = (
            Properties { event_type: None, ..PROPERTIES },
            Properties { content_type: Some(CLOUDEVENTS_CONTENT_TYPE), ..PROPERTIES },
        );
        for (properties, headers, body, expected) in [
            (none, good.clone(), "1", "the property message_id is missing"),
            (id("7"), good.clone(), "1", "the property message_id is not a UUID: \"7\""),
            (untyped, good.clone(), "1", "the property type is missing"),
            (PROPERTIES, without(VERSION_HEADER), "1", "the header version is missing"),
            (PROPERTIES, with(VERSION_HEADER, "7".into()), "1", "the header version is not an integer: \"7\""),
            (PROPERTIES, with(VERSION_HEADER, (-7).into()), "1", "the header version is not a version: \"-7\""),
            (
                PROPERTIES,
                with(PREVIOUS_VERSION_HEADER, 7.into()),
                "1",
                "the header previous_version is not an earlier version",
            ),
            (
                PROPERTIES,
                with(PREVIOUS_VERSION_HEADER, 0.into()),
                "1",
                "the header previous_version is not an earlier version",
            ),
            (
                PROPERTIES,
                with(PREVIOUS_VERSION_HEADER, "5".into()),
                "1",
                "the header previous_version is not an integer: \"5\"",
            ),
            (PROPERTIES, without(RECORDED_AT_HEADER), "1", "the header recorded_at is missing"),
            (PROPERTIES, with(RECORDED_AT_HEADER, "now".into()), "1", "the header recorded_at is not a time"),
            (cloud, good.clone(), "{}", "the body is not a CloudEvent with data: missing field `data`"),
        ] {
            let error = Received::from_parts(properties, headers, body.as_bytes()).expect_err(expected).to_string();
            assert!(error.starts_with("a message of order-Straße-1 can't be read: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        let error = Received::from_parts(PROPERTIES, good, &[0xff]).unwrap_err().to_string();
        assert!(error.contains("the body is not UTF-8"), "{error}");
    }

    #[test]
    fn an_event_that_no_message_can_carry_is_an_error() {
        let (stream, mut event) = published();
        event.recorded_at_ms = i64::MIN;
        let out_of_range = |what, value| Err(Unpublishable::OutOfRange { what, value });
        assert_eq!(headers(&stream, &event), out_of_range("time", i64::MIN.into()));
        event.version = u64::MAX;
        assert_eq!(headers(&stream, &event), out_of_range("version", u64::MAX.into()));
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(json!({ "a\"": ["\\", null] })),
            Just(Value::Null),
        ]
    }

    /// JSON as it may have been appended: with white space around it, and with characters written as escapes.
    fn json_texts(value: impl Strategy<Value = Value>) -> impl Strategy<Value = String> {
        let escaped = |text: String| text.replace('a', "\\u0061").replace('/', "\\/");
        (value, "[ \n\t]{0,2}", "[ \n\t]{0,2}", any::<bool>()).prop_map(move |(value, before, after, is_escaped)| {
            let text = value.to_string();
            // An escape that is there already may have an `a` in it.
            let is_escaped = is_escaped && !text.contains("\\u");
            format!("{before}{}{after}", if is_escaped { escaped(text) } else { text })
        })
    }

    prop_compose! {
        fn recorded()(
            (stream, event_type) in (".{0,8}", ".{1,8}"),
            // Versions that both formats can carry.
            version in prop_oneof![1..5_u64, 1..=MAX_CLOUDEVENTS_VERSION],
            payload in json_texts(values()),
            metadata in json_texts(
                proptest::collection::btree_map(
                    prop_oneof![proptest::sample::select(Metadata::HEADERS.to_vec()).prop_map(str::to_owned), "[a-c]"],
                    values(),
                    0..6,
                )
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ),
            recorded_at_ms in prop_oneof![0..=MAX_RECORDED_AT_MS, -1_000_000..0_i64],
            id: u128,
        ) -> RecordedEvent {
            RecordedEvent {
                stream_id: StreamId::stored(&stream),
                version,
                event_type,
                payload,
                metadata: Metadata::from_json_text(metadata).expect("an object"),
                recorded_at_ms,
                is_private: false,
                append: AppendRange { id: Uuid::from_u128(id), first: version, last: version },
                newest_public: None,
            }
        }
    }

    proptest! {
        /// Who reads the table and who reads the queue see the same event.
        #[test]
        fn of_a_stored_event_a_consumer_gets_the_same_with_and_without_a_message(
            event in recorded(),
            distance in 1..5_u64,
        ) {
            let stream = event.stream_id.clone();
            let previous = Some(event.version.saturating_sub(distance)).filter(|version| *version > 0);
            let published = OutboxEvent::of(event.clone(), previous);
            let id = published.event_id.to_string();
            let by_message = |content_type, body: &str| {
                let (message_id, event_type) = (Some(id.as_str()), Some(published.event_type.as_str()));
                let properties = Properties { message_id, event_type, content_type: Some(content_type) };
                Received::from_parts(properties, headers(&stream, &published).unwrap(), body.as_bytes()).unwrap()
            };
            let stored = Received::from_recorded(event, previous);
            prop_assert_eq!(&stored, &by_message(CONTENT_TYPE, &published.payload));
            let cloud_event = cloud_event("/", &stream, &published).unwrap();
            let in_cloud_event = by_message(CLOUDEVENTS_CONTENT_TYPE, &cloud_event);
            prop_assert_eq!(&in_cloud_event.payload, stored.payload.trim_matches([' ', '\n', '\t']));
            prop_assert_eq!(in_cloud_event, Received { payload: stored.payload.trim().to_owned(), ..stored });
        }
    }
}
