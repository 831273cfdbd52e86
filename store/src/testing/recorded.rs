//! Events as a store returns them and as a consumer receives them, without a store.

use uuid::Uuid;

use crate::{
    event::{AppendRange, NewEvent, RecordedEvent},
    message::{self, CONTENT_TYPE, Properties, Received},
    outbox::OutboxEvent,
    stream::{Previous, StreamId},
};

const MS_PER_SECOND: i64 = 1_000;

/// An event as a store returns it: for tests of what takes a [`RecordedEvent`]. It stands alone in its append, its id is the same
/// for the same stream and version, and it was recorded `version` seconds after the Unix epoch; its fields can be changed.
///
/// # Panics
/// If the version is 0, or so large that its time has no text (beyond the year 9999).
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "it takes what an append takes: values")]
pub fn recorded(stream: &StreamId, version: u64, event: NewEvent) -> RecordedEvent {
    assert!(version > 0, "versions begin with 1");
    let recorded_at_ms = i64::try_from(version).ok().and_then(|seconds| seconds.checked_mul(MS_PER_SECOND));
    let recorded_at_ms = recorded_at_ms.expect("the version is a time");
    let append = AppendRange { id: Uuid::nil(), first: version, last: version };
    RecordedEvent {
        stream_id: stream.clone(),
        version,
        event_type: event.event_type().to_owned(),
        payload: event.payload_text().to_owned(),
        metadata: event.metadata().clone(),
        recorded_at_ms,
        is_private: event.is_private(),
        append,
        newest_public: (!event.is_private()).then_some(Previous { version, recorded_at_ms }),
    }
}

/// The same event as a consumer receives it, with the version before it as its `previous_version`: for tests of what takes a
/// [`Received`].
///
/// # Panics
/// As [`recorded()`].
#[must_use]
pub fn received(stream: &StreamId, version: u64, event: NewEvent) -> Received {
    let previous = Some(version.saturating_sub(1)).filter(|previous| *previous > 0);
    published(recorded(stream, version, event), previous)
}

/// By way of the parts of a message, as the relay makes and a consumer takes them.
pub(super) fn published(event: RecordedEvent, previous_version: Option<u64>) -> Received {
    let (stream, event) = (event.stream_id.clone(), OutboxEvent::of(event, previous_version));
    let id = event.event_id.to_string();
    let properties =
        Properties { message_id: Some(&id), event_type: Some(&event.event_type), content_type: Some(CONTENT_TYPE) };
    let headers = message::headers(&stream, &event);
    let headers = headers.unwrap_or_else(|error| panic!("{stream} {} can't be published: {error}", event.version));
    let received = Received::from_parts(properties, headers, event.payload.as_bytes());
    received.unwrap_or_else(|error| panic!("what was published can't be received: {error}"))
}
