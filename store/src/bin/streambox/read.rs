//! `streambox read`: a stream's events in order, page by page.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use serde_json::value::RawValue;
use streambox::{EventStore, Metadata, RecordedEvent, StreamId};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{cli::Format, failure::Failure};

pub(crate) async fn run(store: &EventStore, stream: &StreamId, format: Format) -> Result<(), Failure> {
    let mut reader = store.reader(stream);
    while let Some(page) = reader.next_page().await? {
        match print(&page, format, &mut io::stdout().lock()) {
            Ok(()) => {}
            // Whoever reads, `head` for instance, has had enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::new(format!("standard output can't be written: {error}"))),
        }
    }
    if reader.position().version() == 0 {
        eprintln!("stream {stream} has no events");
    }
    Ok(())
}

fn print(events: &[RecordedEvent], format: Format, out: &mut impl Write) -> io::Result<()> {
    for event in events {
        match format {
            Format::Text => writeln!(out, "{}", text(event))?,
            Format::Json => writeln!(out, "{}", json(event)?)?,
        }
    }
    out.flush()
}

fn recorded_at(event: &RecordedEvent) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.recorded_at_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} ms", event.recorded_at_ms))
}

fn text(event: &RecordedEvent) -> String {
    let text = format!("{:>6}  {:24}  {}  {}", event.version, recorded_at(event), event.event_type, event.payload);
    // A payload may contain what moves the cursor of a terminal.
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[derive(Serialize)]
struct Printed<'a> {
    stream: &'a str,
    version: u64,
    event_id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    recorded_at: String,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
}

fn json(event: &RecordedEvent) -> io::Result<String> {
    // One object a line. In JSON, line breaks stand between tokens only, and a space does as well.
    let payload = event.payload.replace(['\n', '\r'], " ");
    let data: &RawValue = serde_json::from_str(&payload)?;
    Ok(serde_json::to_string(&Printed {
        stream: event.stream_id.as_str(),
        version: event.version,
        event_id: event.event_id.to_string(),
        event_type: &event.event_type,
        recorded_at: recorded_at(event),
        data,
        metadata: &event.metadata,
    })?)
}
