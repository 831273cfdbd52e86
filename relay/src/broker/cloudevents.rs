//! An event as a CloudEvent in structured JSON (CloudEvents 1.0.2, "JSON Event Format").
//!
//! | attribute | |
//! |---|---|
//! | `specversion` | `1.0` |
//! | `id` | the event's id |
//! | `source` | a setting, `/streambox` by default |
//! | `type` | the event's type |
//! | `subject` | the stream id |
//! | `time` | when it was recorded, milliseconds |
//! | `datacontenttype` | `application/json` |
//! | `streamversion` | the version in the stream, a number |
//! | `correlationid`, `causationid`, `traceparent`, `tracestate` | from the metadata, where they are set; text |
//! | `data` | the payload, byte for byte as it was appended |
//!
//! Routing key, properties and headers are those of the plain message, but for the content type.

use std::borrow::Cow;

use serde::Serialize;
use streambox::{Metadata, StreamId, outbox::OutboxEvent};

use super::message::Unpublishable;

/// The content type of such a message.
pub const CLOUDEVENTS_CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The largest version: an Integer of CloudEvents has 32 bits.
pub const MAX_CLOUDEVENTS_VERSION: u64 = i32::MAX as u64;

/// Everything but the data, in this order.
#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: &'a str,
    time: &'a str,
    datacontenttype: &'static str,
    streamversion: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<Cow<'a, str>>,
}

/// The body of the message of an event that was recorded at `time` (ISO 8601).
///
/// # Errors
/// [`Unpublishable`]: the version is beyond [`MAX_CLOUDEVENTS_VERSION`], or the payload is not JSON, which the store refuses; a
/// table written by hand may have one.
pub(super) fn body(source: &str, stream: &StreamId, event: &OutboxEvent, time: &str) -> Result<String, Unpublishable> {
    if event.version > MAX_CLOUDEVENTS_VERSION {
        return Err(Unpublishable::OutOfRange { what: "version", value: event.version.into() });
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(&event.payload).is_err() {
        return Err(Unpublishable::NotJson);
    }
    let metadata = |name| event.metadata.header_text(name);
    let attributes = Attributes {
        specversion: "1.0",
        id: event.event_id.to_string(),
        source,
        event_type: &event.event_type,
        subject: stream.as_str(),
        time,
        datacontenttype: "application/json",
        streamversion: event.version,
        correlationid: metadata(Metadata::CORRELATION_ID),
        causationid: metadata(Metadata::CAUSATION_ID),
        traceparent: metadata(Metadata::TRACEPARENT),
        tracestate: metadata(Metadata::TRACESTATE),
    };
    let mut body = serde_json::to_string(&attributes).expect("attributes are texts and a number");
    body.pop();
    body.push_str(",\"data\":");
    body.push_str(&event.payload);
    body.push('}');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use streambox::Uuid;

    use super::*;

    fn event(payload: &str) -> OutboxEvent {
        OutboxEvent::new(7, Uuid::from_u128(1), "OrderPlaced", payload)
    }

    #[test]
    fn a_cloud_event_has_the_attributes_of_the_contract_and_its_data_byte_for_byte() {
        let payload = "{ \"total\": 49.90,\n \"a\": null }";
        let mut event = event(payload);
        event.metadata = Metadata::new()
            .with("correlation_id", "c-1")
            .with("causation_id", 42)
            .with("traceparent", "00-a-b-01")
            .with("mine", 1);
        let stream = StreamId::new("order-\"1\"").unwrap();
        let body = body("/shop", &stream, &event, "2023-11-14T22:13:20.042Z").unwrap();
        assert!(body.ends_with(&format!(",\"data\":{payload}}}")), "{body}");
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": "00000000-0000-0000-0000-000000000001",
            "source": "/shop",
            "type": "OrderPlaced",
            "subject": "order-\"1\"",
            "time": "2023-11-14T22:13:20.042Z",
            "datacontenttype": "application/json",
            "streamversion": 7,
            "correlationid": "c-1",
            "causationid": "42",
            "traceparent": "00-a-b-01",
            "data": { "total": 49.9, "a": null },
        });
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_is_no_cloud_event_is_an_error() {
        let order = StreamId::new("order-1").unwrap();
        assert_eq!(body("/", &order, &event("{"), "t"), Err(Unpublishable::NotJson));
        assert_eq!(body("/", &order, &event("1} , {\"x\":2"), "t"), Err(Unpublishable::NotJson));
        let mut late = event("{}");
        late.version = MAX_CLOUDEVENTS_VERSION;
        assert!(body("/", &order, &late, "t").is_ok());
        late.version += 1;
        assert!(body("/", &order, &late, "t").unwrap_err().to_string().contains("2147483648"));
    }
}
