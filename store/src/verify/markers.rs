//! The markers of a stream's commands, compared with the events that they stand for.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Findings, finding::Fault};
use crate::{
    error::Error,
    event::RecordedEvent,
    read,
    schema::{self, Marker},
    stream::StreamId,
    table::Table,
};

/// How many markers of a stream are held until its events come. Any further one is compared by a read of its own.
const MAX_HELD: usize = 65_536;

/// Markers whose events have not come yet: their sort keys are before those of the events.
#[derive(Debug, Default)]
pub(super) struct Markers(HashMap<Uuid, Marker>);

impl Markers {
    /// Adds a marker, and returns it if there are too many.
    pub(super) fn add(&mut self, marker: Marker) -> Option<Marker> {
        if self.0.len() == MAX_HELD {
            return Some(marker);
        }
        self.0.insert(marker.append.id, marker);
        None
    }

    /// The marker of the append that ends with an event.
    pub(super) fn take(&mut self, event: &RecordedEvent) -> Option<Marker> {
        self.0.get(&event.append.id).filter(|marker| marker.append.last == event.version)?;
        self.0.remove(&event.append.id)
    }

    /// Those whose events have not come, in the order of their versions.
    pub(super) fn take_rest(&mut self) -> Vec<Marker> {
        let mut rest: Vec<_> = std::mem::take(&mut self.0).into_values().collect();
        rest.sort_by_key(|marker| (marker.append.first, marker.append.id));
        rest
    }
}

/// Compares a marker with the last event of its append.
pub(super) fn compare(stream: &StreamId, marker: &Marker, event: &RecordedEvent, findings: &mut Findings) {
    let (own, other) = (marker.append, event.append);
    let what = if own != other {
        format!(
            "it is of append {} (versions {} to {}), and version {} is of append {} (versions {} to {})",
            own.id, own.first, own.last, event.version, other.id, other.first, other.last
        )
    } else if marker.recorded_at_ms != event.recorded_at_ms {
        format!("its append was recorded at {} ms, the events at {} ms", marker.recorded_at_ms, event.recorded_at_ms)
    } else if marker.newest_public != event.newest_public {
        "it names another version as the last public one than its last event does".to_owned()
    } else {
        return;
    };
    findings.found(stream, schema::command_key(own.id), Fault::FalseMarker { what });
}

/// Reads the last event of a marker's append, and compares it.
pub(super) async fn check(
    table: &Table,
    stream: &StreamId,
    marker: &Marker,
    findings: &mut Findings,
) -> Result<(), Error> {
    let last = marker.append.last;
    let (mut items, read_units) = read::visible_events(table, stream, last..=last).await?;
    findings.read_units += read_units;
    match items.remove(&last).map(schema::read_event) {
        Some(Ok(event)) => compare(stream, marker, &event, findings),
        // It is a finding of its own.
        Some(Err(_)) => {}
        None => {
            let what = format!("version {last}, with which its append ends, is missing");
            findings.found(stream, schema::command_key(marker.append.id), Fault::FalseMarker { what });
        }
    }
    Ok(())
}
