//! The model: a list of events for each stream, and what an append does to it.

use streambox::Uuid;

/// A stream as it has to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Stored>,
    /// The pending entries, by the last public version of their appends.
    pub(crate) pending: Vec<u64>,
}

/// An event as it has to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) payload: String,
    pub(crate) is_private: bool,
    pub(crate) append: Append,
}

/// The append that an event came with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Append {
    pub(crate) id: Uuid,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// By the store's clock.
    pub(crate) recorded_at_ms: i64,
}

/// Where an append is to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Anywhere,
    /// At the end, behind at least one event.
    BehindSome,
    Behind(u64),
}

/// What an append does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Its events become these versions.
    Stored { first: u64, last: u64 },
    /// It was stored before.
    StoredBefore(Append),
    /// The stream is at this version, and not where it was expected.
    Conflict { current: u64 },
}

impl History {
    /// The version of the newest event.
    pub(crate) fn version(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn event(&self, version: u64) -> Option<&Stored> {
        self.events.get(usize::try_from(version.checked_sub(1)?).expect("few events"))
    }

    /// What an append of this many events does.
    pub(crate) fn outcome(&self, id: Uuid, place: Place, events: usize) -> Outcome {
        let version = match (place, self.events.last()) {
            (Place::Behind(version), _) => version,
            // A repeat is recognised while it is the newest.
            (Place::Anywhere | Place::BehindSome, Some(newest)) if newest.append.id == id => newest.append.first - 1,
            (Place::BehindSome, None) => return Outcome::Conflict { current: 0 },
            (Place::Anywhere | Place::BehindSome, _) => self.version(),
        };
        match self.event(version + 1) {
            None if version == self.version() => Outcome::Stored { first: version + 1, last: version + events as u64 },
            Some(next) if next.append.id == id && next.append.first == version + 1 => {
                Outcome::StoredBefore(next.append)
            }
            _ => Outcome::Conflict { current: self.version() },
        }
    }

    /// Adds the events of an append: payload, and whether it is private.
    pub(crate) fn store(&mut self, id: Uuid, events: &[(String, bool)], recorded_at_ms: i64) {
        let first = self.version() + 1;
        let last = self.version() + events.len() as u64;
        let append = Append { id, first, last, recorded_at_ms };
        self.events.extend(events.iter().map(|(payload, is_private)| Stored {
            payload: payload.clone(),
            is_private: *is_private,
            append,
        }));
        let public = events.iter().rposition(|(_, is_private)| !is_private);
        self.pending.extend(public.map(|place| first + place as u64));
    }

    /// The last public version before another one, and when it was recorded.
    pub(crate) fn public_before(&self, version: u64) -> Option<(u64, i64)> {
        let mut before = (1..version).rev().filter_map(|version| Some((version, self.event(version)?)));
        before.find(|(_, event)| !event.is_private).map(|(version, event)| (version, event.append.recorded_at_ms))
    }

    /// The public events of an append.
    pub(crate) fn public(&self, append: Append) -> Vec<(u64, &Stored)> {
        let events = (append.first..=append.last).filter_map(|version| Some((version, self.event(version)?)));
        events.filter(|(_, event)| !event.is_private).collect()
    }
}
