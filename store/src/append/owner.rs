//! Whose the items are that stand where those of a call should go, and what the call did if they are its own.

use futures_util::TryStreamExt as _;

use super::{Appended, Part, call::Call, cancelled::Existing, prepare::Slot};
use crate::{
    error::{Corrupt, Error},
    event::RecordedEvent,
    read::{self, EventStream, ReadOptions},
    schema,
    stream::{ExpectedVersion, StreamId, StreamPosition},
};

/// A part that was stored before; so the whole transaction was.
pub(super) struct StoredPart {
    pub(super) part: usize,
    pub(super) appended: Appended,
}

pub(super) enum Owner {
    /// At least one of the parts is known.
    Ours(Vec<StoredPart>),
    /// Other writers have the places of these parts.
    Others(Vec<usize>),
}

impl Call<'_> {
    pub(super) async fn owner(&self, positions: &[StreamPosition], existing: Vec<Existing>) -> Result<Owner, Error> {
        let marked = self.marked(&existing).await?;
        if !marked.is_empty() {
            return Ok(Owner::Ours(marked));
        }
        let mut taken = Vec::new();
        // Beside an event that exists, nothing else matters.
        let events = existing.iter().any(|existing| matches!(existing.slot, Slot::Event { .. }));
        // The last event of an append says what the others don't: which version was public last.
        for Existing { slot, item } in existing.into_iter().rev() {
            let (part, index) = match slot {
                Slot::Event { part, index } => (part, index),
                Slot::Entry { part } if !events => {
                    let at = schema::pending_key(self.parts[part].last_public(positions[part].version()));
                    return Err(self.corrupt(part, at, "a pending entry without its event"));
                }
                _ => continue,
            };
            let first = positions[part].version() + 1;
            let event = match item {
                Some(item) => schema::read_event(item)?,
                None => self.event(&self.parts[part].stream, first + index as u64).await?,
            };
            if self.is_ours(&event, first) {
                let appended = self.repeated(event).await?;
                return Ok(Owner::Ours(vec![StoredPart { part, appended }]));
            }
            if !taken.contains(&part) {
                taken.push(part);
            }
        }
        taken.reverse();
        Ok(Owner::Others(taken))
    }

    /// The parts whose markers are there: the command was carried out, wherever their events stand.
    async fn marked(&self, existing: &[Existing]) -> Result<Vec<StoredPart>, Error> {
        let mut parts = Vec::new();
        for Existing { slot, item } in existing {
            let &Slot::Marker { part } = slot else { continue };
            let stream = &self.parts[part].stream;
            let marker = match item {
                Some(item) => Some(schema::read_marker(item.clone())?),
                None => self.in_time(read::marker(self.table, stream, self.append_id)).await?,
            };
            let missing =
                || self.corrupt(part, schema::command_key(self.append_id), "it was there and is not any more");
            let appended = Appended::marked(self.table, stream, &marker.ok_or_else(missing)?);
            parts.push(StoredPart { part, appended });
        }
        Ok(parts)
    }

    pub(super) fn is_ours(&self, event: &RecordedEvent, first: u64) -> bool {
        event.append.id == self.append_id && event.append.first == first
    }

    /// What a transaction that was stored before has done.
    pub(super) async fn stored_before(&self, mut stored: Vec<StoredPart>) -> Result<Vec<Appended>, Error> {
        let mut results = Vec::with_capacity(self.parts.len());
        for (part, append) in self.parts.iter().enumerate() {
            let known = stored.iter().position(|known| known.part == part);
            results.push(match known {
                Some(known) => stored.swap_remove(known).appended,
                None => self.repeated(self.find_stored(part, append).await?).await?,
            });
        }
        Ok(results)
    }

    /// An event of an append that is known to be stored.
    async fn find_stored(&self, part: usize, append: &Part) -> Result<RecordedEvent, Error> {
        let at = match &append.expected {
            ExpectedVersion::At(position) => Some(position.version()),
            ExpectedVersion::NoStream => Some(0),
            ExpectedVersion::Exact(version) => Some(*version),
            ExpectedVersion::Any | ExpectedVersion::StreamExists => None,
        };
        if let Some(version) = at {
            let event = self.in_time(read::event_at(self.table, &append.stream, version + 1)).await?;
            if let Some(event) = event.filter(|event| self.is_ours(event, version + 1)) {
                return Ok(event);
            }
        }
        // A marker has shown that the transaction was stored, maybe at other places than today's.
        self.search(part, append).await
    }

    /// The newest event of an append that is known to be stored somewhere in its stream.
    pub(super) async fn search(&self, part: usize, append: &Part) -> Result<RecordedEvent, Error> {
        let mut newest = EventStream::new(self.table.clone(), append.stream.clone(), ReadOptions::backward());
        while let Some(event) = self.in_time(newest.try_next()).await? {
            if event.append.id == self.append_id {
                return Ok(event);
            }
        }
        Err(self.missing(part))
    }

    /// The result of the append that an event came with.
    pub(super) async fn repeated(&self, event: RecordedEvent) -> Result<Appended, Error> {
        let (first, recorded_at_ms) = (event.append.first, event.recorded_at_ms);
        Ok(Appended::stored_before(first, self.behind(event).await?, recorded_at_ms))
    }

    fn missing(&self, part: usize) -> Error {
        let what = "an event of the transaction is missing, but its other events are there";
        self.corrupt(part, format!("append {}", self.append_id), what)
    }

    async fn event(&self, stream: &StreamId, version: u64) -> Result<RecordedEvent, Error> {
        let missing = || {
            let (at, what) = (schema::event_key(version), "the event is missing".to_owned());
            Corrupt { stream: stream.clone(), at, what }.into()
        };
        self.in_time(read::event_at(self.table, stream, version)).await?.ok_or_else(missing)
    }
}
