//! Pending entries, compared with the events that they stand for.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{Findings, finding::Fault, newest::wrongly_named};
use crate::{
    error::Error,
    event::RecordedEvent,
    limits::MAX_EVENTS_PER_APPEND,
    outbox::entry::{OutboxEvent, PendingEntry},
    read,
    schema::{self, APPEND_ID},
    stream::StreamId,
    table::Table,
};

/// Entries of one stream that follow each other, so that one read has the events of all of them.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<PendingEntry>);

impl Entries {
    /// Adds an entry; returns those before it if it does not follow them, or would make them too many.
    pub(super) fn add(&mut self, entry: PendingEntry) -> Option<Vec<PendingEntry>> {
        let before = match (self.0.first(), self.0.last()) {
            (Some(first), Some(last))
                if entry.first > last.last && entry.last - first.first < MAX_EVENTS_PER_APPEND as u64 =>
            {
                None
            }
            _ => self.take(),
        };
        self.0.push(entry);
        before
    }

    pub(super) fn take(&mut self) -> Option<Vec<PendingEntry>> {
        (!self.0.is_empty()).then(|| std::mem::take(&mut self.0))
    }
}

pub(super) async fn check_entries(
    table: &Table,
    entries: &[PendingEntry],
    findings: &mut Findings,
) -> Result<(), Error> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let stream = &first.stream_id;
    // The event before says which version the first entry has to name.
    let from = first.first.saturating_sub(1).max(1);
    let mut events = read_events(table, stream, from..=last.last, findings).await?;
    // What is behind the last public event of an append has to be private.
    if let Some(Some(end)) = events.get(&last.last)
        && end.append.last > last.last
    {
        let rest = last.last + 1..=end.append.last;
        events.extend(read_events(table, stream, rest, findings).await?);
    }
    for entry in entries {
        if let Some(fault) = check_entry(entry, &events) {
            findings.found(stream, schema::pending_key(entry.last), fault);
        }
    }
    Ok(())
}

/// Events by their versions; none where one can't be read, which is a finding of its own.
type Events = BTreeMap<u64, Option<RecordedEvent>>;

async fn read_events(
    table: &Table,
    stream: &StreamId,
    versions: RangeInclusive<u64>,
    findings: &mut Findings,
) -> Result<Events, Error> {
    let (items, read_units) = read::visible_events(table, stream, versions).await?;
    findings.read_units += read_units;
    Ok(items.into_iter().map(|(version, item)| (version, schema::read_event(item).ok())).collect())
}

fn check_entry(entry: &PendingEntry, events: &Events) -> Option<Fault> {
    let missing: Vec<_> =
        (entry.first..=entry.last).filter(|version| !events.contains_key(version)).map(|v| v.to_string()).collect();
    if !missing.is_empty() {
        let what = format!("of versions {} to {}, these are missing: {}", entry.first, entry.last, missing.join(", "));
        return Some(Fault::EntryWithoutEvents { what });
    }
    let newest = match entry.first {
        1 => Some(None),
        first => events.get(&(first - 1)).and_then(Option::as_ref).map(|before| before.newest_public),
    };
    if let Some(newest) = newest.filter(|newest| *newest != entry.previous) {
        return Some(Fault::PreviousEntry { what: wrongly_named(entry.previous, newest) });
    }
    let disagrees = |what| Some(Fault::EntryDisagrees { what });
    let own = events.get(&entry.last).and_then(Option::as_ref).map(|last| last.append);
    let behind = events.range(entry.last + 1..).map_while(|(_, event)| event.as_ref());
    let mut behind = behind.take_while(|event| Some(event.append) == own);
    if let Some(event) = behind.find(|event| !event.is_private) {
        return disagrees(format!("event {} of its append is public, too, and stands behind it", event.version));
    }
    let events = (entry.first..=entry.last).filter_map(|version| events.get(&version)?.as_ref());
    for event in events.clone() {
        if own.is_some_and(|own| own != event.append) {
            return disagrees(format!("events {} and {} are of two appends", event.version, entry.last));
        }
        if event.recorded_at_ms != entry.pending_since_ms {
            return disagrees(format!(
                "it was recorded at {} ms, event {} at {} ms",
                entry.pending_since_ms, event.version, event.recorded_at_ms
            ));
        }
        let is_public = entry.public.as_ref().is_none_or(|public| public.contains(&event.version));
        if is_public == event.is_private {
            let (entry, event_is) = if is_public { ("to be published", "private") } else { ("private", "public") };
            return disagrees(format!(
                "the entry has event {} as {entry}; the event itself is {event_is}",
                event.version
            ));
        }
    }
    let copies = entry.events.as_ref()?;
    for event in events {
        let Some(copy) = copies.iter().find(|copy| copy.version == event.version) else { continue };
        if let Some(what) = difference(copy, event) {
            return disagrees(format!("the {what} of its copy of event {} differs", event.version));
        }
    }
    None
}

fn difference(copy: &OutboxEvent, event: &RecordedEvent) -> Option<&'static str> {
    let differs = [
        (APPEND_ID, copy.event_id != event.event_id()),
        ("event_type", copy.event_type != event.event_type),
        ("payload", copy.payload != event.payload),
        ("metadata", copy.metadata != event.metadata),
    ];
    differs.into_iter().find_map(|(name, differs)| differs.then_some(name))
}
