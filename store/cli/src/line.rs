//! One line of an import or an export: what it must be, the event that it becomes, and the line that an event becomes.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use streambox::{Error, Metadata, NewEvent, RecordedEvent, StreamId};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Where the time at which an event occurred is kept in its metadata.
pub(crate) const OCCURRED_AT: &str = "occurred_at";

const SHAPE: &str = "a line is a JSON object with `stream` and `type` (texts), `data` (any JSON) or `data_text` (the same \
                     as a text), and optionally `metadata` (an object) or `metadata_text` (the same as a text), `occurred_at` \
                     (RFC 3339) and `private` (true)";

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

/// A line as it is read and written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    data_text: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    metadata_text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
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
        let data = given("data", fields.data, fields.data_text.as_deref())?;
        let data = data.ok_or_else(|| format!("missing field `data`; {SHAPE}"))?;
        let event = NewEvent::from_json_text(fields.event_type, data).map_err(|error| error.to_string())?;
        let given = given("metadata", fields.metadata, fields.metadata_text.as_deref())?;
        let event = event.with_metadata(metadata(given, fields.occurred_at.as_deref())?);
        let event = if fields.private == Some(true) { event.private() } else { event };
        let bytes = event.check_for(&stream).map_err(|error| refused(&error))?;
        Ok(Some(Self { number, stream, event, bytes }))
    }
}

/// The value of a field that has two forms, of which a line has one at most.
fn given<'a>(name: &str, value: Option<&'a RawValue>, text: Option<&'a str>) -> Result<Option<&'a str>, String> {
    match (value, text) {
        (Some(_), Some(_)) => Err(format!("`{name}` and `{name}_text` are the same in two forms: keep one")),
        (value, text) => Ok(value.map(RawValue::get).or(text)),
    }
}

/// The line that [`Line::parse`] makes the same event of, without a line break. The error says why there is none.
pub(crate) fn text(event: &RecordedEvent) -> Result<String, String> {
    let wrong = |what: String| format!("{} version {}: {what}", event.stream_id, event.version);
    let (data, data_text) = bare(&event.payload).map_err(|error| wrong(format!("the payload is not JSON: {error}")))?;
    let (rest, occurred_at) = without_time(&event.metadata);
    let metadata = rest.as_deref().map(bare).transpose();
    let metadata = metadata.map_err(|error| wrong(format!("the metadata are not JSON: {error}")))?;
    let (metadata, metadata_text) = metadata.unwrap_or_default();
    let line = Fields {
        stream: event.stream_id.as_str().into(),
        event_type: event.event_type.as_str().into(),
        occurred_at: occurred_at.map(Cow::Owned),
        data,
        data_text,
        metadata,
        metadata_text,
        private: event.is_private.then_some(true),
    };
    serde_json::to_string(&line).map_err(|error| wrong(error.to_string()))
}

/// A JSON text as it stands in a line: as it is, or as a text. As it is, a line has no break; and a parser of the line leaves out
/// the white space around the value.
fn bare(text: &str) -> Result<(Option<&RawValue>, Option<Cow<'_, str>>), serde_json::Error> {
    let value: &RawValue = serde_json::from_str(text)?;
    let is_bare = !text.contains(['\n', '\r']) && value.get().len() == text.len();
    Ok(if is_bare { (Some(value), None) } else { (None, Some(text.into())) })
}

/// The text of the metadata without the time of occurrence, and that time: if it stands as an import puts it. Otherwise it
/// stays in its place, so that an import makes the same text again.
fn without_time(metadata: &Metadata) -> (Option<Cow<'_, str>>, Option<String>) {
    let text = metadata.as_json_text();
    let whole = (!metadata.is_empty()).then_some(Cow::Borrowed(text));
    let time = metadata.text(OCCURRED_AT).filter(|time| OffsetDateTime::parse(time, &Rfc3339).is_ok());
    let Some(time) = time.map(Cow::into_owned) else { return (whole, None) };
    let alone = Metadata::new().with(OCCURRED_AT, time.as_str());
    let last = alone.as_json_text().replacen('{', ",", 1);
    match text.strip_suffix(&last) {
        _ if *metadata == alone => (None, Some(time)),
        Some(rest) => (Some(Cow::Owned(format!("{rest}}}"))), Some(time)),
        None => (whole, None),
    }
}

/// The parser counts lines, too, but it has seen only one.
fn in_line(error: &serde_json::Error) -> String {
    format!("{} (column {})", without_place(&error.to_string()), error.column())
}

/// A parser's error without the place.
fn without_place(error: &str) -> &str {
    error.rsplit_once(" at line ").map_or(error, |(what, _)| what)
}

fn refused(error: &Error) -> String {
    // A line is an event of its own: it has no place in an append.
    error.to_string().replacen("event 0 of the append", "the event", 1)
}

fn metadata(given: Option<&str>, occurred_at: Option<&str>) -> Result<Metadata, String> {
    let metadata = match given {
        // The parser counts the places of the metadata alone.
        Some(text) => {
            Metadata::from_json_text(text).map_err(|error| format!("{}; {SHAPE}", without_place(&error.to_string())))?
        }
        None => Metadata::new(),
    };
    let Some(time) = occurred_at else { return Ok(metadata) };
    if let Err(error) = OffsetDateTime::parse(time, &Rfc3339) {
        return Err(format!(
            "occurred_at {time:?}: {error}; allowed is RFC 3339, for example 2026-01-31T09:30:00.250Z"
        ));
    }
    match metadata.json(OCCURRED_AT) {
        None => Ok(metadata.with(OCCURRED_AT, time)),
        Some(_) if metadata.text(OCCURRED_AT).as_deref() == Some(time) => Ok(metadata),
        Some(_) => Err("occurred_at stands in the line and, with another value, in its metadata; keep one".to_owned()),
    }
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
        let given = r#"{"by":"ann","occurred_at":"2010-10-02T09:20:39.266+02:00"}"#;
        assert_eq!(line.event.metadata().as_json_text(), given);
        assert_eq!(line.event.payload_text(), "null");
    }

    #[test]
    fn g12_a_line_keeps_its_metadata_byte_for_byte() {
        let given = r#"{ "id":12345678901234567890123, "a":1e2,"lat":9.5254291334151588 }"#;
        let line = |metadata: &str| format!(r#"{{"stream":"order-1","type":"A","data":1,{metadata}}}"#);
        let parsed = |metadata: &str| parsed(&line(metadata)).event.metadata().as_json_text().to_owned();
        assert_eq!(parsed(&format!("\"metadata\":{given}")), given);
        assert_eq!(parsed(r#""metadata_text":" {\n\"b\": 1.50 }\n""#), " {\n\"b\": 1.50 }\n");
        let with_time = given.replace(" }", " ,\"occurred_at\":\"2010-10-02T09:20:39Z\"}");
        assert_eq!(parsed(&format!("\"metadata\":{given},\"occurred_at\":\"2010-10-02T09:20:39Z\"")), with_time);
    }

    #[test]
    fn the_time_of_occurrence_stands_in_the_line_where_an_import_puts_it_back_to_its_place() {
        const TIME: &str = "2010-10-02T09:20:39Z";
        for (metadata, left) in [
            (r#"{"occurred_at":"T"}"#, Some("")),
            (r#"{"by":"ann","occurred_at":"T"}"#, Some(r#"{"by":"ann"}"#)),
            (r#"{"by":"ann" ,"occurred_at":"T"}"#, Some(r#"{"by":"ann" }"#)),
            (r#"{"occurred_at":"T","by":"ann"}"#, None),
            (r#"{"by":"ann", "occurred_at":"T"}"#, None),
            (r#"{"occurred_at":"T","b":{"x":1,"occurred_at":"T"}}"#, None),
            (r#"{"occurred_at":"yesterday"}"#, None),
        ] {
            let given = Metadata::from_json_text(metadata.replace('T', TIME)).unwrap();
            let (rest, time) = without_time(&given);
            assert_eq!(time.is_some(), left.is_some(), "{metadata}");
            assert_eq!(rest.as_deref().unwrap_or_default(), left.unwrap_or(given.as_json_text()), "{metadata}");
            assert_eq!(super::metadata(rest.as_deref(), time.as_deref()).unwrap(), given);
        }
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
            (
                r#"{"stream":"order-1","type":"A","data":1,"metadata":{"a":1,"a":2}}"#,
                "the name \"a\" is repeated",
                "each name stands once",
            ),
            (
                r#"{"stream":"order-1","type":"A","data":1,"metadata":{},"metadata_text":"{}"}"#,
                "`metadata_text`",
                "keep one",
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
