//! `streambox read`: a stream's events in order, page by page.

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::value::RawValue;
use streambox::{Error, EventStore, RecordedEvent, StreamId};
use streambox_programs::{Failure, iso_8601};

use crate::{
    cli::{Format, ReadOptions},
    output::{Reader, Table, note, print, visible},
};

/// Events that are printed at once.
const CHUNK_EVENTS: usize = 256;

pub(crate) async fn run(store: &EventStore, options: &ReadOptions, format: Format) -> Result<(), Failure> {
    let stream = StreamId::new(&options.stream)?;
    // The events before an error, or before one that is not JSON, are printed, too.
    let chunks = store.read_stream(&stream, part(options)).try_ready_chunks(CHUNK_EVENTS);
    let mut chunks = chunks.map(|chunk| chunk.map_or_else(|error| (error.0, Some(error.1)), |chunk| (chunk, None)));
    let mut table = Table::new(&["VERSION", "RECORDED", "TYPE", "DATA"]);
    let mut is_empty = true;
    while let Some((chunk, error)) = chunks.next().await {
        is_empty &= chunk.is_empty();
        let mut failure = error.map(|error| {
            let is_damage = matches!(error, Error::Corrupt(_));
            let more = is_damage.then(|| format!("; `streambox verify --stream {stream}` lists all that is wrong"));
            Failure::from(error).followed_by(&more.unwrap_or_default())
        });
        let lines: Vec<_> = match format {
            Format::Text => table.lines(chunk.iter().map(cells).collect()),
            Format::Json => {
                let lines = chunk.iter().map(json);
                lines.map_while(|line| line.map_err(|error| failure = Some(error)).ok()).collect()
            }
        };
        if print(&lines)? == Reader::HasGone {
            return Ok(());
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    if is_empty {
        let part = if options.from.is_some() || options.limit.is_some() { " in this part" } else { "" };
        note(&format!("stream {stream} has no events{part}"));
    }
    if table.is_cut {
        note("lines are cut to the terminal's width; --format json, or a pipe, shows all");
    }
    Ok(())
}

fn part(options: &ReadOptions) -> streambox::ReadOptions {
    let all = if options.backward { streambox::ReadOptions::backward() } else { streambox::ReadOptions::forward() };
    let from = options.from.map_or(all, |version| all.from_version(version));
    options.limit.map_or(from, |events| from.limit(events))
}

fn cells(event: &RecordedEvent) -> Vec<String> {
    let mut data = visible(&event.payload);
    if !event.metadata.is_empty() {
        data += &visible(&format!("  metadata {}", event.metadata.as_json_text()));
    }
    if event.is_private {
        data += "  private";
    }
    vec![event.version.to_string(), iso_8601(event.recorded_at_ms), visible(&event.event_type), data]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
}

fn json(event: &RecordedEvent) -> Result<String, Failure> {
    // One object a line. In JSON, line breaks stand between tokens only, and a space does as well.
    let in_a_line = |text: &str| text.replace(['\n', '\r'], " ");
    let (payload, metadata) = (in_a_line(&event.payload), in_a_line(event.metadata.as_json_text()));
    let metadata = (!event.metadata.is_empty()).then(|| serde_json::from_str(&metadata)).transpose();
    let printed = serde_json::from_str(&payload).and_then(|data: &RawValue| {
        serde_json::to_string(&Printed {
            stream: event.stream_id.as_str(),
            version: event.version,
            event_id: event.event_id().to_string(),
            event_type: &event.event_type,
            recorded_at: iso_8601(event.recorded_at_ms),
            data,
            metadata: metadata?,
            private: event.is_private,
        })
    });
    printed.map_err(|error| {
        let (stream, version) = (&event.stream_id, event.version);
        Failure::new(format!("{stream} version {version}: the payload is not JSON: {error}; --format text shows it"))
    })
}
