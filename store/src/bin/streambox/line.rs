//! One line of an import or an export: what it must be, the event that it becomes, and the line that an event becomes.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, value::RawValue};
use streambox::{Error, Metadata, NewEvent, RecordedEvent, StreamId};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Where the time at which an event occurred is kept in its metadata.
pub(crate) const OCCURRED_AT: &str = "occurred_at";

const SHAPE: &str = "a line is a JSON object with `stream` and `type` (texts), `data` (any JSON) or `data_text` (the same \
                     as a text), and optionally `metadata` (an object), `occurred_at` (RFC 3339) and `private` (true)";

/// What some editors and programs put before a UTF-8 text. JSON does not allow it.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// How a text in UTF-16 begins.
const UTF_16_MARKS: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];

/// An event to import, and where it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) stream: StreamId,
    pub(crate) event: NewEvent,
    /// What its item takes.
    pub(crate) bytes: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_text: Option<Cow<'a, str>>,
    metadata: Option<Map<String, Value>>,
    #[serde(borrow)]
    occurred_at: Option<Cow<'a, str>>,
    private: Option<bool>,
}

/// An `Option` takes null for nothing; here it is a payload.
fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Line {
    /// Reads one line; `None` if it is blank. The error says what is wrong and what is allowed.
    pub(crate) fn parse(number: u64, bytes: &[u8]) -> Result<Option<Self>, String> {
        if UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
            return Err("it begins with a byte order mark of UTF-16: save the file as UTF-8".to_owned());
        }
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        if text.starts_with(BYTE_ORDER_MARK) {
            return Err("it begins with a byte order mark (U+FEFF), which JSON does not have: save the file as UTF-8 without one"
                .to_owned());
        }
        match text.trim_start().bytes().next() {
            None => return Ok(None),
            // The parser would take its elements for the fields in their order.
            Some(b'[') => {
                return Err(format!("it is a JSON array; {SHAPE}. `jq -c '.[]'` makes lines of an array of objects"));
            }
            Some(_) => {}
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| format!("{}; {SHAPE}", in_line(&error)))?;
        let stream = StreamId::new(&fields.stream).map_err(|error| error.to_string())?;
        let data = match (fields.data, &fields.data_text) {
            (Some(data), None) => data.get(),
            (None, Some(text)) => text,
            (Some(_), Some(_)) => return Err("`data` and `data_text` are the same in two forms: keep one".to_owned()),
            (None, None) => return Err(format!("missing field `data`; {SHAPE}")),
        };
        let event = NewEvent::from_json_text(fields.event_type, data).map_err(|error| error.to_string())?;
        let event = event.with_metadata(metadata(fields.metadata, fields.occurred_at)?);
        let event = if fields.private == Some(true) { event.private() } else { event };
        let bytes = event.check_for(&stream).map_err(|error| refused(&error))?;
        Ok(Some(Self { number, stream, event, bytes }))
    }
}

#[derive(Serialize)]
struct Written<'a> {
    stream: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

/// The line that [`Line::parse`] makes the same event of, without a line break. The error says why there is none.
pub(crate) fn text(event: &RecordedEvent) -> Result<String, String> {
    let wrong = |what: String| format!("{} version {}: {what}", event.stream_id, event.version);
    let payload = event.payload.as_str();
    let data: &RawValue =
        serde_json::from_str(payload).map_err(|error| wrong(format!("the payload is not JSON: {error}")))?;
    // As it is, a line has no break; and a parser of the line leaves out the white space around the value.
    let is_bare = !payload.contains(['\n', '\r']) && data.get().len() == payload.len();
    let mut metadata = event.metadata.clone().into_map();
    // Where it was put by an import; anything else that has its name stays where it is.
    let occurred_at = event.metadata.text(OCCURRED_AT).filter(|time| OffsetDateTime::parse(time, &Rfc3339).is_ok());
    if occurred_at.is_some() {
        metadata.remove(OCCURRED_AT);
    }
    let line = Written {
        stream: event.stream_id.as_str(),
        event_type: &event.event_type,
        occurred_at,
        data: is_bare.then_some(data),
        data_text: (!is_bare).then_some(payload),
        metadata: &metadata,
        private: event.is_private,
    };
    serde_json::to_string(&line).map_err(|error| wrong(error.to_string()))
}

/// The parser counts lines, too, but it has seen only one.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("{what} (column {})", error.column())
}

fn refused(error: &Error) -> String {
    // A line is an event of its own: it has no place in an append.
    error.to_string().replacen("event 0 of the append", "the event", 1)
}

fn metadata(given: Option<Map<String, Value>>, occurred_at: Option<Cow<'_, str>>) -> Result<Metadata, String> {
    let mut metadata = given.unwrap_or_default();
    if let Some(time) = occurred_at {
        if let Err(error) = OffsetDateTime::parse(&time, &Rfc3339) {
            return Err(format!(
                "occurred_at {time:?}: {error}; allowed is RFC 3339, for example 2026-01-31T09:30:00.250Z"
            ));
        }
        let time = Value::from(time.into_owned());
        if metadata.get(OCCURRED_AT).is_some_and(|other| *other != time) {
            return Err("occurred_at stands in the line and, with another value, in its metadata; keep one".to_owned());
        }
        metadata.insert(OCCURRED_AT.to_owned(), time);
    }
    Ok(metadata.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Line {
        Line::parse(7, text.as_bytes()).unwrap().unwrap()
    }

    fn refusal(text: &str) -> String {
        Line::parse(7, text.as_bytes()).expect_err(text)
    }

    #[test]
    fn a_line_keeps_its_data_byte_for_byte() {
        let line = parsed(r#"{"stream":"order-1", "type":"Placed", "data":{ "b":1.50,"a" : [ ] }}"#);
        assert_eq!((line.stream.as_str(), line.event.event_type()), ("order-1", "Placed"));
        assert_eq!(line.event.payload_text(), r#"{ "b":1.50,"a" : [ ] }"#);
        assert!(line.event.metadata().is_empty());
    }

    #[test]
    fn the_time_of_occurrence_stays_as_it_is_beside_the_metadata() {
        let text = r#"{"stream":"order-1","type":"Placed","data":null,"metadata":{"by":"ann"},"occurred_at":"2010-10-02T09:20:39.266+02:00"}"#;
        let line = parsed(text);
        assert_eq!(line.event.metadata().text(OCCURRED_AT), Some("2010-10-02T09:20:39.266+02:00"));
        assert_eq!(line.event.metadata().text("by"), Some("ann"));
        assert_eq!(line.event.payload_text(), "null");
    }

    #[test]
    fn data_may_be_a_text_and_an_event_private() {
        let line = parsed(r#"{"stream":"order-1","type":"A","data_text":" {\n\t\"b\": 1.50 }\n","private":true}"#);
        assert_eq!(line.event.payload_text(), " {\n\t\"b\": 1.50 }\n");
        assert!(line.event.is_private() && !parsed(r#"{"stream":"order-1","type":"A","data":1}"#).event.is_private());
    }

    #[test]
    fn blank_lines_are_no_events() {
        assert_eq!(Line::parse(1, b" \t\r"), Ok(None));
    }

    #[test]
    fn what_is_optional_may_be_null() {
        let line = parsed(
            r#"{"stream":"order-1","type":"A","data":null,"data_text":null,"metadata":null,"occurred_at":null,"private":null}"#,
        );
        assert_eq!((line.event.payload_text(), line.event.is_private()), ("null", false));
        assert!(line.event.metadata().is_empty());
    }

    #[test]
    fn a_bad_line_is_refused_with_what_is_wrong_and_what_is_allowed() {
        let large = format!(r#"{{"stream":"order-1","type":"A","data":"{}"}}"#, "x".repeat(410_000));
        let long = format!(r#"{{"stream":"order-1","type":"{}","data":1}}"#, "x".repeat(250));
        let headers = format!(
            r#"{{"stream":"order-1","type":"A","data":1,"metadata":{{"correlation_id":"{}"}}}}"#,
            "x".repeat(140_000)
        );
        for (text, wrong, allowed) in [
            ("{", "EOF while parsing", "`stream`"),
            (r#"["order-1","A",1]"#, "it is a JSON array", "`stream`"),
            ("[", "it is a JSON array", "jq -c"),
            ("\u{feff}{}", "byte order mark (U+FEFF)", "without one"),
            (r#"{"stream":"order-1","type":"A"}"#, "missing field `data`", "any JSON"),
            (r#"{"stream":"order-1","type":"A","data":1,"data_text":"1"}"#, "`data_text`", "keep one"),
            (r#"{"stream":"order-1","type":"A","data":1,"private":"yes"}"#, "expected a boolean", "`private` (true)"),
            (r#"{"stream":"order-1","type":"A","data":1,"dta":2}"#, "unknown field `dta`", "`metadata`"),
            (r#"{"stream":"order-1","type":"A","data":1,"data":2}"#, "duplicate field `data`", "`stream`"),
            (r#"{"stream":7,"type":"A","data":1}"#, "invalid type: integer `7`, expected a string", "texts"),
            (r#"{"stream":"order","type":"A","data":1}"#, "\"order\"", "`category-id`"),
            (r#"{"stream":"order-1","type":"","data":1}"#, "event type \"\"", "empty"),
            (
                r#"{"stream":"order-1","type":"A","data":1,"metadata":[]}"#,
                "invalid type: sequence",
                "`metadata` (an object)",
            ),
            (r#"{"stream":"order-1","type":"A","data":1,"occurred_at":"yesterday"}"#, "\"yesterday\"", "RFC 3339"),
            (&large, "too large", "409600"),
            (&long, "got 256", "at most 255"),
            (&headers, "the event has too much in its message headers", "at most 16384"),
        ] {
            let error = refusal(text);
            assert!(error.contains(wrong) && error.contains(allowed), "{error}");
            assert!(!error.contains("line 1"), "{error}");
        }
        // Of a payload with lines of its own, the place in it is worth to be known.
        let payload = refusal(r#"{"stream":"order-1","type":"A","data_text":"{\n"}"#);
        assert!(payload.contains("is not JSON") && payload.contains("line 2"), "{payload}");
        assert!(Line::parse(1, b"\"\xff").unwrap_err().contains("UTF-8"));
        assert!(Line::parse(1, b"\xff\xfe{\0").unwrap_err().contains("UTF-16"));
        let two_times = r#"{"stream":"order-1","type":"A","data":1,"metadata":{"occurred_at":"x"},"occurred_at":"2010-10-02T09:20:39Z"}"#;
        assert!(refusal(two_times).contains("keep one"));
    }
}
