//! `streambox streams`: the streams of the table and where they end.

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use streambox::{Error, EventStore, StreamSummary};
use streambox_programs::{Failure, iso_8601};

use crate::{
    cli::{Format, ScanArgs},
    output::{Reader, Table, count, note, print, visible},
};

/// Streams that are printed at once.
const CHUNK_STREAMS: usize = 256;

pub(crate) async fn run(store: &EventStore, options: &ScanArgs, format: Format) -> Result<(), Failure> {
    let chunks = store.scan_streams(&options.options())?.try_chunks(CHUNK_STREAMS);
    let mut chunks = chunks.map(|chunk| chunk.map_or_else(|error| (error.0, Some(error.1)), |chunk| (chunk, None)));
    let mut table = Table::new(&["STREAM", "EVENTS", "LAST RECORDED", "LAST TYPE"]);
    let mut is_empty = true;
    let mut damaged = 0_u64;
    while let Some((chunk, error)) = chunks.next().await {
        is_empty &= chunk.is_empty();
        let lines = match format {
            Format::Text => table.lines(chunk.iter().map(cells).collect()),
            Format::Json => chunk.iter().map(line).collect(),
        };
        if print(&lines)? == Reader::HasGone {
            return Ok(());
        }
        match error {
            None => {}
            // Of one stream: the others follow.
            Some(Error::Corrupt(corrupt)) => {
                damaged += 1;
                note(&format!("damaged: {corrupt}"));
            }
            Some(error) => return Err(error.into()),
        }
    }
    if damaged > 0 {
        let streams = count(damaged, "damaged stream is", "damaged streams are");
        return Err(Failure::new(format!("{streams} not in the list: `streambox verify` lists all that is wrong")));
    }
    if is_empty {
        let of = options.category.as_ref().map_or(String::new(), |category| format!(" of category {category}"));
        note(&format!("the table has no stream{of}"));
    }
    Ok(())
}

fn cells(stream: &StreamSummary) -> Vec<String> {
    let events = if stream.events == stream.version {
        stream.events.to_string()
    } else {
        format!("{} (at version {})", stream.events, stream.version)
    };
    vec![visible(stream.stream_id.as_str()), events, iso_8601(stream.last_recorded_at_ms), visible(&stream.last_type)]
}

fn line(stream: &StreamSummary) -> String {
    json!({
        "stream": stream.stream_id.as_str(),
        "events": stream.events,
        "version": stream.version,
        "last_type": stream.last_type,
        "last_recorded_at": iso_8601(stream.last_recorded_at_ms),
    })
    .to_string()
}
