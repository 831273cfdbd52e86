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
//! | `previousversion` | the version of the public event before it in its stream, a number; absent on the first |
//! | `correlationid`, `causationid`, `traceparent`, `tracestate` | from the metadata, where they are set; text |
//! | `data` | the payload, byte for byte as it was appended |
//!
//! Routing key, properties and headers are those of the plain message, but for the content type.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{CONTENT_TYPE, Unpublishable, recorded_at};
use crate::{metadata::Metadata, outbox::OutboxEvent, stream::StreamId};

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
    time: String,
    datacontenttype: &'static str,
    streamversion: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previousversion: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<Cow<'a, str>>,
}

/// An event as a CloudEvent: the body of its message, if messages are in that format.
///
/// # Errors
/// [`Unpublishable`]: the version is beyond [`MAX_CLOUDEVENTS_VERSION`], the time is out of range, or the payload is not JSON.
#[expect(clippy::missing_panics_doc, reason = "texts and a number are always JSON")]
pub fn cloud_event(source: &str, stream: &StreamId, event: &OutboxEvent) -> Result<String, Unpublishable> {
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
        time: recorded_at::text(event.recorded_at_ms)?,
        datacontenttype: CONTENT_TYPE,
        streamversion: event.version,
        previousversion: event.previous_version,
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

/// The data of a CloudEvent: the payload as it was appended, without the white space around it.
pub(super) fn data(body: &str) -> Result<&str, serde_json::Error> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_str::<Event<'_>>(body).map(|event| event.data.get())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn event(payload: &str) -> OutboxEvent {
        OutboxEvent::new(7, Uuid::from_u128(1), "OrderPlaced", payload)
    }

    #[test]
    fn a_cloud_event_has_the_attributes_of_the_contract_and_its_data_byte_for_byte() {
        let payload = "{ \"total\": 49.90,\n \"a\": null }";
        let mut event = event(payload);
        event.recorded_at_ms = 1_700_000_000_042;
        event.previous_version = Some(5);
        event.metadata = Metadata::new()
            .with("correlation_id", "c-1")
            .with("causation_id", 42)
            .with("traceparent", "00-a-b-01")
            .with("mine", 1);
        let stream = StreamId::new("order-\"1\"").unwrap();
        let body = cloud_event("/shop", &stream, &event).unwrap();
        assert!(body.ends_with(&format!(",\"data\":{payload}}}")), "{body}");
        assert_eq!(data(&body).unwrap(), payload);
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
            "previousversion": 5,
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
        assert_eq!(cloud_event("/", &order, &event("{")), Err(Unpublishable::NotJson));
        assert_eq!(cloud_event("/", &order, &event("1} , {\"x\":2")), Err(Unpublishable::NotJson));
        let mut late = event("{}");
        late.version = MAX_CLOUDEVENTS_VERSION;
        assert!(cloud_event("/", &order, &late).is_ok());
        late.version += 1;
        assert!(cloud_event("/", &order, &late).unwrap_err().to_string().contains("2147483648"));
    }
}
