//! The published message, without its transport: what the relay makes of an event, and what a consumer makes of the message.
//!
//! A consumer takes the parts of a message from its AMQP client and builds a [`Received`] of them:
//!
//! ```
//! use streambox::message::{Properties, Received};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let properties = Properties {
//!     message_id: Some("b7722026-cb55-5650-ba67-6f62913b5e3b"),
//!     event_type: Some("OrderPlaced"),
//!     content_type: Some("application/json"),
//! };
//! let headers = [
//!     ("stream_id", "order-4711".into()),
//!     ("version", 2.into()),
//!     ("previous_version", 1.into()),
//!     ("recorded_at", "2026-05-28T20:27:40.000Z".into()),
//!     ("correlation_id", "checkout-9".into()),
//! ];
//! let event = Received::from_parts(properties, headers, br#"{"total_cents":4990}"#)?;
//!
//! #[derive(serde::Deserialize)]
//! struct Placed { total_cents: u64 }
//! assert_eq!((event.stream_id.as_str(), event.version), ("order-4711", 2));
//! assert_eq!(event.payload::<Placed>()?.total_cents, 4990);
//! # Ok(())
//! # }
//! ```
//!
//! | part | name | content |
//! |---|---|---|
//! | routing key | | [`routing_key`]: `{category}.{event type}` |
//! | property | `message_id` | the event's id |
//! | property | `type` | its type |
//! | property | `content_type` | [`CONTENT_TYPE`]; [`CLOUDEVENTS_CONTENT_TYPE`] if the body is a CloudEvent |
//! | property | `app_id` | [`APP_ID`] |
//! | property | `timestamp` | when it was recorded, in seconds |
//! | header | [`STREAM_ID_HEADER`] | the stream id, text |
//! | header | [`VERSION_HEADER`] | the version, a 64-bit integer |
//! | header | [`PREVIOUS_VERSION_HEADER`] | the version of the public event before it in its stream, a 64-bit integer; absent on the first |
//! | header | [`RECORDED_AT_HEADER`] | when it was recorded: ISO 8601, UTC, milliseconds |
//! | header | [`Metadata::HEADERS`] | what the metadata have of these names, text |
//! | header | [`REPLAY_HEADER`] | the id of the replay that published the message; absent otherwise |
//! | header | [`REPLAY_ENDED_HEADER`] | `true` in the last message of a replay to a queue; absent otherwise |
//! | body | | the payload, byte for byte; or the CloudEvent that has it as its `data` |
//!
//! [`headers`] and [`cloud_event`] are for programs that publish.

mod cloudevents;
mod received;
mod recorded_at;

use std::borrow::Cow;

pub use self::{
    cloudevents::{MAX_CLOUDEVENTS_VERSION, cloud_event},
    received::{MessageError, Properties, Received},
};
use crate::{metadata::Metadata, outbox::OutboxEvent, stream::StreamId};

/// Header: the stream id.
pub const STREAM_ID_HEADER: &str = "stream_id";
/// Header: the version in the stream, a 64-bit integer.
pub const VERSION_HEADER: &str = "version";
/// Header: the version of the public event before it in its stream, a 64-bit integer; absent on a stream's first public event.
pub const PREVIOUS_VERSION_HEADER: &str = "previous_version";
/// Header: when the event was recorded (ISO 8601, UTC, milliseconds).
pub const RECORDED_AT_HEADER: &str = "recorded_at";
/// Header of a message that was published by a replay: the replay's id.
pub const REPLAY_HEADER: &str = "x-streambox-replay";
/// Header of the message that ends a replay to a queue: `true`.
pub const REPLAY_ENDED_HEADER: &str = "x-streambox-replay-ended";

/// The type of the message that ends a replay to a queue. It is not an event: its version is 0.
pub const REPLAY_ENDED_TYPE: &str = "streambox.ReplayEnded";

/// The property `app_id`.
pub const APP_ID: &str = "streambox";
/// The property `content_type`, if the body is the payload.
pub const CONTENT_TYPE: &str = "application/json";
/// The property `content_type`, if the body is a CloudEvent.
pub const CLOUDEVENTS_CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The value of a header.
///
/// Exhaustive: messages of events have no others; headers of other types are somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A 64-bit integer.
    Integer(i64),
}

impl<'a> From<&'a str> for HeaderValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for HeaderValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for HeaderValue<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// An event that no message can carry. The store refuses such events; a table written by hand may have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unpublishable {
    /// A CloudEvent can't carry a payload that is not JSON.
    #[error("the payload is not JSON, which the data of a CloudEvent has to be")]
    NotJson,
    /// A number that is not a valid time or version.
    #[error("the {what} {value} is out of range")]
    OutOfRange {
        /// What is out of range.
        what: &'static str,
        /// Its value.
        value: i128,
    },
}

/// The routing key of an event's message.
#[must_use]
pub fn routing_key(stream: &StreamId, event_type: &str) -> String {
    format!("{}.{event_type}", stream.category())
}

/// The headers of an event's message, with their names.
///
/// # Errors
/// [`Unpublishable::OutOfRange`].
pub fn headers<'a>(
    stream: &'a StreamId,
    event: &'a OutboxEvent,
) -> Result<Vec<(&'static str, HeaderValue<'a>)>, Unpublishable> {
    let integer = |version: u64| {
        i64::try_from(version).map_err(|_| Unpublishable::OutOfRange { what: "version", value: version.into() })
    };
    let (version, previous) = (integer(event.version)?, event.previous_version.map(integer).transpose()?);
    let recorded_at = recorded_at::text(event.recorded_at_ms)?;
    let mut headers = vec![
        (STREAM_ID_HEADER, stream.as_str().into()),
        (VERSION_HEADER, version.into()),
        (RECORDED_AT_HEADER, recorded_at.into()),
    ];
    headers.extend(previous.map(|previous| (PREVIOUS_VERSION_HEADER, previous.into())));
    let metadata = Metadata::HEADERS.into_iter();
    headers.extend(metadata.filter_map(|name| Some((name, HeaderValue::Text(event.metadata.header_text(name)?)))));
    Ok(headers)
}
