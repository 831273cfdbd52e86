//! One stream's checks. Its items come in the order of their keys: markers, events, pending entries, the snapshot.

use super::{
    Findings, Outcome, VerifiedCounts,
    entries::{Entries, check_entries},
    finding::Fault,
    markers::{self, Markers},
    newest::Newest,
};
use crate::{
    error::Error,
    event::{AppendRange, RecordedEvent},
    read,
    schema::{self, COMMAND_PREFIX, EVENT_PREFIX, Fields, Item, PENDING_PREFIX, PREVIOUS_VERSION, SNAPSHOT},
    stream::StreamId,
    table::Table,
};

#[derive(Debug)]
pub(super) struct StreamCheck {
    stream: StreamId,
    counts: VerifiedCounts,
    markers: Markers,
    tail: Option<Tail>,
    newest: Newest,
    entries: Entries,
    snapshot: Option<Item>,
}

/// The event that was seen last.
#[derive(Clone, Copy, Debug)]
struct Tail {
    version: u64,
    /// Unknown if it is unreadable.
    append: Option<(AppendRange, i64)>,
}

impl StreamCheck {
    pub(super) fn new(stream: StreamId, findings: &mut Findings) -> Self {
        if let Err(error) = StreamId::new(stream.as_str()) {
            findings.found(&stream, "its key", Fault::StreamId { why: error.to_string() });
        }
        let counts = VerifiedCounts { streams: 1, ..VerifiedCounts::default() };
        Self {
            stream,
            counts,
            markers: Markers::default(),
            tail: None,
            newest: Newest::default(),
            entries: Entries::default(),
            snapshot: None,
        }
    }

    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn report_counts(&mut self, findings: &mut Findings) {
        let counts = std::mem::take(&mut self.counts);
        findings.outcomes.push_back(Outcome::Counts { stream: self.stream.clone(), counts });
    }

    pub(super) async fn item(&mut self, table: &Table, item: Item, findings: &mut Findings) -> Result<(), Error> {
        let entity = schema::read_entity(&item).to_owned();
        if let Some(stray) = schema::stray(&item) {
            findings.found(&self.stream, &entity, Fault::Stray { what: stray.what });
        }
        if entity.starts_with(EVENT_PREFIX) {
            self.counts.events += 1;
            let Some(version) = schema::event_version(&entity) else {
                findings.found(&self.stream, entity, Fault::Key);
                return Ok(());
            };
            let next = self.tail.map_or(1, |tail| tail.version + 1);
            if version > next {
                self.recheck(table, next, version - 1, findings).await?;
            }
            // Else it has come with what was read again.
            if self.tail.is_none_or(|tail| tail.version < version) {
                self.event(version, item.into(), findings);
            }
        } else if entity.starts_with(PENDING_PREFIX) {
            self.counts.pending += 1;
            let copies = schema::copies(&item);
            match schema::read_pending(item) {
                Ok(entry) => {
                    if let Some(what) = copies.and_then(|copies| copies.broken_rule(&entry)) {
                        findings.found(&self.stream, entity, Fault::BrokenRule { what });
                    }
                    if let Some(full) = self.entries.add(entry) {
                        check_entries(table, &full, findings).await?;
                    }
                }
                Err(corrupt) => findings.found(&self.stream, entity, Fault::UnreadableEntry { what: corrupt.what }),
            }
        } else if entity.starts_with(COMMAND_PREFIX) {
            match schema::read_marker(item) {
                Ok(marker) => {
                    if let Some(marker) = self.markers.add(marker) {
                        markers::check(table, &self.stream, &marker, findings).await?;
                    }
                }
                Err(corrupt) => findings.found(&self.stream, entity, Fault::UnreadableMarker { what: corrupt.what }),
            }
        } else if entity == SNAPSHOT {
            self.snapshot = Some(item);
        } else {
            findings.found(&self.stream, entity, Fault::Key);
        }
        Ok(())
    }

    pub(super) async fn finish(mut self, table: &Table, findings: &mut Findings) -> Result<(), Error> {
        if let Some(Tail { version, append: Some((append, _)) }) = self.tail
            && version < append.last
        {
            self.recheck(table, version + 1, append.last, findings).await?;
        }
        for marker in self.markers.take_rest() {
            markers::check(table, &self.stream, &marker, findings).await?;
        }
        if let Some(entries) = self.entries.take() {
            check_entries(table, &entries, findings).await?;
        }
        if let Some(item) = self.snapshot.take() {
            self.check_snapshot(table, item, findings).await?;
        }
        self.report_counts(findings);
        Ok(())
    }

    /// Whether a snapshot is of this history: a load with it is to have the result of a load without it.
    async fn check_snapshot(&self, table: &Table, item: Item, findings: &mut Findings) -> Result<(), Error> {
        let snapshot = match schema::read_snapshot(item) {
            Ok(snapshot) => snapshot,
            Err(corrupt) => {
                findings.found(&self.stream, SNAPSHOT, Fault::UnreadableSnapshot { what: corrupt.what });
                return Ok(());
            }
        };
        let version = snapshot.version;
        // The stream may have grown since its events were looked at.
        let (mut items, read_units) = read::visible_events(table, &self.stream, version..=version).await?;
        findings.read_units += read_units;
        let end = self.tail.map_or(0, |tail| tail.version);
        let what = match items.remove(&version).map(schema::read_event) {
            Some(Ok(event)) if event.append.id != snapshot.append_id => format!(
                "it was taken at version {version} of append {}, and that version is of append {}",
                snapshot.append_id, event.append.id
            ),
            None if version > end => format!("it was taken at version {version}, and the stream is at version {end}"),
            // An event that is missing or can't be read is a finding of its own.
            _ => return Ok(()),
        };
        findings.found(&self.stream, SNAPSHOT, Fault::FalseSnapshot { what });
        Ok(())
    }

    /// Reads versions again that were not seen, which may have become visible since.
    async fn recheck(&mut self, table: &Table, from: u64, to: u64, findings: &mut Findings) -> Result<(), Error> {
        let (items, read_units) = read::visible_events(table, &self.stream, from..=to).await?;
        findings.read_units += read_units;
        let mut next = from;
        for (version, item) in items {
            self.missing(next, version - 1, findings);
            self.counts.events += 1;
            self.event(version, item, findings);
            next = version + 1;
        }
        self.missing(next, to, findings);
        Ok(())
    }

    fn missing(&mut self, from: u64, to: u64, findings: &mut Findings) {
        if from > to {
            return;
        }
        self.newest.forget();
        let at = if from == to { format!("version {from}") } else { format!("versions {from} to {to}") };
        let fault = match self.tail.and_then(|tail| tail.append) {
            Some((AppendRange { id, first, last }, _)) if last >= from => {
                Fault::HalfAppend { append_id: id, first, last }
            }
            _ => Fault::Gap,
        };
        findings.found(&self.stream, at, fault);
    }

    fn event(&mut self, version: u64, item: Fields, findings: &mut Findings) {
        let at = schema::event_key(version);
        let names_previous = item.has(PREVIOUS_VERSION);
        let event = match schema::read_event(item) {
            Ok(event) => event,
            Err(corrupt) => {
                findings.found(&self.stream, at, Fault::UnreadableEvent { what: corrupt.what });
                self.tail = Some(Tail { version, append: None });
                self.newest.forget();
                return;
            }
        };
        if let Err(error) = event.check_content() {
            findings.found(&self.stream, &at, Fault::BrokenRule { what: error.to_string() });
        }
        if names_previous && !event.is_private {
            let what = format!("a public event has the attribute {PREVIOUS_VERSION}, which private events alone have");
            findings.found(&self.stream, &at, Fault::BrokenRule { what });
        }
        if let Some(what) = self.newest.event(&event) {
            findings.found(&self.stream, &at, Fault::PreviousEntry { what });
        }
        if let Some(marker) = self.markers.take(&event) {
            markers::compare(&self.stream, &marker, &event, findings);
        }
        if let Some(what) = self.disagreement(&event) {
            findings.found(&self.stream, at, Fault::ForeignEvent { what });
        }
        self.tail = Some(Tail { version, append: Some((event.append, event.recorded_at_ms)) });
    }

    /// What an event says of itself and its append that can't be.
    fn disagreement(&self, event: &RecordedEvent) -> Option<String> {
        let AppendRange { id, first, last } = event.append;
        if id.is_nil() {
            return Some("its append id is nil".to_owned());
        }
        let before = self.tail.filter(|tail| tail.version + 1 == event.version)?;
        let (append, recorded_at_ms) = before.append?;
        if event.version <= append.last {
            let is_same = append == event.append && recorded_at_ms == event.recorded_at_ms;
            (!is_same).then(|| {
                format!(
                    "the event before is of append {} (versions {} to {}), recorded at {recorded_at_ms} ms; \
                this one of append {id} (versions {first} to {last}), recorded at {} ms",
                    append.id, append.first, append.last, event.recorded_at_ms
                )
            })
        } else {
            (first != event.version).then(|| {
                format!("it is of append {id} (versions {first} to {last}), whose first events are of another append")
            })
        }
    }
}
