//! A model of the table: transactions that become visible item by item, an index that lags and has no order, deletes.

use std::collections::BTreeMap;

use streambox::{
    Corrupt, StreamId, Uuid,
    outbox::{OutboxEvent, PendingEntry, PendingPage, Predecessor, Previous, WorkerId},
};
use streambox_relay::core::WorkerBeat;

use super::scenario::{AppendPlan, Ms, NIGHT_MS};

/// By some moment in the middle of its life: the times that writers give are about this.
const EPOCH_MS: i64 = 1_780_000_000_000;

/// An append with everything that the table knows of it.
#[derive(Clone, Debug)]
pub(super) struct Append {
    pub(super) stream: u8,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The versions to publish: none if there is no pending entry.
    pub(super) public: Vec<u64>,
    has_copies: bool,
    recorded_at_ms: i64,
    previous: Option<Previous>,
    events_visible_at: Ms,
    entry_visible_at: Ms,
    index_shows_at: Ms,
    index_forgets_after: Ms,
    deleted_at: Option<Ms>,
}

impl Append {
    /// The last version to publish, by which its entry is found; 0 if there is none.
    pub(super) fn key(&self) -> u64 {
        self.public.last().copied().unwrap_or(0)
    }

    fn is_pending(&self, now: Ms) -> bool {
        !self.public.is_empty() && self.deleted_at.is_none_or(|at| now < at)
    }

    fn is_whole(&self, now: Ms) -> bool {
        now >= self.events_visible_at && (self.public.is_empty() || now >= self.entry_visible_at)
    }

    fn in_index(&self, now: Ms) -> bool {
        let is_gone = self.deleted_at.is_some_and(|at| now >= at + self.index_forgets_after);
        !self.public.is_empty() && now >= self.index_shows_at && !is_gone
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order of the commits, so each stream's in the order of versions.
    appends: Vec<Append>,
    rows: BTreeMap<WorkerId, u64>,
}

/// The stream of a number.
pub(super) fn stream_id(number: u8) -> StreamId {
    StreamId::new(format!("order-{number}")).expect("a valid stream id")
}

/// The number of a stream.
pub(super) fn number(stream: &StreamId) -> u8 {
    stream.as_str().strip_prefix("order-").and_then(|number| number.parse().ok()).expect("a simulated stream")
}

impl Table {
    /// When a writer can append to a stream: it has to see the events before.
    pub(super) fn writable_at(&self, stream: u8) -> Ms {
        self.of(stream).map(|append| append.events_visible_at).max().unwrap_or(0)
    }

    fn of(&self, stream: u8) -> impl DoubleEndedIterator<Item = &Append> {
        self.appends.iter().filter(move |append| append.stream == stream)
    }

    pub(super) fn append(&mut self, plan: &AppendPlan, is_after_night: bool, now: Ms) -> &Append {
        let before = self.of(plan.stream).next_back().map_or(0, |append| append.last);
        let previous = self.of(plan.stream).rfind(|append| !append.public.is_empty());
        let previous = previous.map(|append| Previous { version: append.key(), recorded_at_ms: append.recorded_at_ms });
        let night_ms = if is_after_night { NIGHT_MS } else { 0 };
        let versions = (before + 1..).zip(&plan.public);
        self.appends.push(Append {
            stream: plan.stream,
            first: before + 1,
            last: before + plan.public.len() as u64,
            public: versions.filter(|(_, is_public)| **is_public).map(|(version, _)| version).collect(),
            has_copies: plan.has_copies,
            recorded_at_ms: EPOCH_MS + now.cast_signed() + night_ms + plan.clock_ms,
            previous,
            events_visible_at: now + plan.events_after_ms,
            entry_visible_at: now + plan.entry_after_ms,
            index_shows_at: now + plan.index_after_ms.0,
            index_forgets_after: plan.index_after_ms.1,
            deleted_at: None,
        });
        self.appends.last().expect("just pushed")
    }

    /// One page of the index behind a place in it, in its order: by stream, then by the time that the writer gave.
    pub(super) fn scan(&self, behind: Option<IndexKey>, most: usize, now: Ms) -> (Vec<IndexKey>, bool) {
        let mut keys: Vec<_> = self.appends.iter().filter(|append| append.in_index(now)).map(IndexKey::of).collect();
        keys.sort_unstable();
        keys.retain(|key| behind.is_none_or(|behind| *key > behind));
        let has_more = keys.len() >= most;
        keys.truncate(most);
        (keys, has_more)
    }

    /// A consistent Query.
    pub(super) fn pending(&self, stream: u8, from: u64, most: usize, is_unreadable: bool, now: Ms) -> PendingPage {
        let visible = self
            .of(stream)
            .filter(|append| append.key() >= from && append.is_pending(now) && now >= append.entry_visible_at);
        let mut entries: Vec<_> = visible.take(most).map(entry).collect();
        let has_more = entries.len() == most;
        let mut unreadable = None;
        if is_unreadable && let Some(last) = entries.pop() {
            let at = format!("pending#{:020}", last.last);
            unreadable = Some(Corrupt::new(last.stream_id, at, "events is not a list"));
        }
        PendingPage::new(entries, unreadable, has_more)
    }

    /// What a relay would take for the pending entries that believes in the index: what it shows, in its order.
    pub(super) fn pending_by_index(&self, stream: u8, now: Ms) -> PendingPage {
        let mut shown: Vec<_> = self.of(stream).filter(|append| append.in_index(now)).collect();
        shown.sort_by_key(|append| append.recorded_at_ms);
        let without_check = |append: &&Append| {
            let mut entry = entry(append);
            // Long ago, so that it is not looked for.
            entry.previous = entry.previous.map(|previous| Previous { recorded_at_ms: 0, ..previous });
            entry
        };
        PendingPage::new(shown.iter().map(without_check).collect(), None, false)
    }

    /// Events, private ones included, behind the public version `previous`; none where one is not visible.
    pub(super) fn events(
        &self,
        stream: u8,
        (from, to): (u64, u64),
        mut previous: Option<u64>,
        now: Ms,
    ) -> Option<Vec<OutboxEvent>> {
        let is_visible = |version: u64| {
            let append = self.of(stream).find(|append| (append.first..=append.last).contains(&version));
            append.is_some_and(|append| now >= append.events_visible_at)
        };
        let mut read = |version| {
            let event = event(version, previous);
            if self.append_of(stream, version).is_some_and(|append| append.public.contains(&version)) {
                previous = Some(version);
            }
            event
        };
        (from..=to).map(|version| is_visible(version).then(|| read(version))).collect()
    }

    /// The public version before another one.
    pub(super) fn public_before(&self, stream: u8, version: u64) -> Option<u64> {
        self.of(stream).flat_map(|append| append.public.iter().copied()).filter(|public| *public < version).max()
    }

    /// All events, stream by stream: stream, version, and whether it is public.
    pub(super) fn history(&self) -> Vec<(u8, u64, bool)> {
        let events = self.appends.iter().flat_map(|append| {
            (append.first..=append.last).map(|version| (append.stream, version, append.public.contains(&version)))
        });
        let mut events: Vec<_> = events.collect();
        events.sort_unstable();
        events
    }

    /// The serializable read.
    pub(super) fn predecessor(&self, stream: u8, last: u64, now: Ms) -> Predecessor {
        match self.of(stream).find(|append| append.key() == last) {
            Some(append) if !append.is_whole(now) => Predecessor::Unsettled,
            Some(append) if append.is_pending(now) => Predecessor::Pending,
            Some(_) => Predecessor::Published,
            None => Predecessor::Unsettled,
        }
    }

    /// Deletes an entry. Returns its versions, if it was there.
    pub(super) fn delete(&mut self, stream: u8, last: u64, now: Ms) -> Option<Vec<u64>> {
        let append = self.appends.iter_mut().find(|append| append.stream == stream && append.key() == last)?;
        if !append.is_pending(now) {
            return None;
        }
        append.deleted_at = Some(now);
        Some(append.public.clone())
    }

    /// The key of the first pending entry of a stream, if it is visible: an operator may skip no other.
    pub(super) fn front(&self, stream: u8, now: Ms) -> Option<u64> {
        let front = self.of(stream).find(|append| append.is_pending(now))?;
        front.is_whole(now).then_some(front.key())
    }

    /// The append that a version belongs to.
    pub(super) fn append_of(&self, stream: u8, version: u64) -> Option<&Append> {
        self.of(stream).find(|append| (append.first..=append.last).contains(&version))
    }

    /// The next version that is to be published, if it is visible.
    pub(super) fn next_public(&self, stream: u8, version: u64, now: Ms) -> Option<u64> {
        let mut public = self.of(stream).flat_map(|append| append.public.iter().map(move |next| (*next, append)));
        let (next, append) = public.find(|(next, _)| *next > version)?;
        (now >= append.entry_visible_at).then_some(next)
    }

    /// A pending entry that the index has shown since before a moment.
    pub(super) fn shown_and_pending(&self, since: Ms, now: Ms) -> Option<&Append> {
        self.appends.iter().find(|append| append.is_pending(now) && append.index_shows_at <= since)
    }

    /// The first pending entry, but for those of one stream.
    pub(super) fn first_pending(&self, but: Option<u8>, now: Ms) -> Option<&Append> {
        self.appends.iter().find(|append| append.is_pending(now) && Some(append.stream) != but)
    }

    /// Whether the index shows what the table has, but for the entries of one stream: it lags.
    pub(super) fn index_is_empty(&self, but: Option<u8>, now: Ms) -> bool {
        !self.appends.iter().any(|append| append.in_index(now) && Some(append.stream) != but)
    }

    /// Whether a public event of a stream is still pending.
    pub(super) fn has_pending(&self, stream: u8, now: Ms) -> bool {
        self.of(stream).any(|append| append.is_pending(now))
    }

    pub(super) fn put_row(&mut self, id: &WorkerId, beat: u64) {
        self.rows.insert(id.clone(), beat);
    }

    pub(super) fn remove_row(&mut self, id: &WorkerId) {
        self.rows.remove(id);
    }

    pub(super) fn rows(&self) -> Vec<WorkerBeat> {
        self.rows.iter().map(|(id, beat)| WorkerBeat { id: id.clone(), beat: *beat }).collect()
    }
}

/// The key of an item of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IndexKey {
    pub(super) stream: u8,
    pub(super) pending_since_ms: i64,
    last: u64,
}

impl IndexKey {
    fn of(append: &Append) -> Self {
        Self { stream: append.stream, pending_since_ms: append.recorded_at_ms, last: append.key() }
    }
}

pub(super) fn event(version: u64, previous: Option<u64>) -> OutboxEvent {
    let mut event = OutboxEvent::new(version, Uuid::from_u128(version.into()), "Counted", "{}");
    event.previous_version = previous;
    event
}

fn entry(append: &Append) -> PendingEntry {
    let stream = stream_id(append.stream);
    let (first, last) = (append.public[0], append.key());
    let mut entry = PendingEntry::new(stream, first, last, append.recorded_at_ms, append.previous, None);
    let is_mixed = append.public.len() as u64 != last - first + 1;
    entry.public = is_mixed.then(|| append.public.clone());
    let copy = |version: &u64| event(*version, entry.public_before(*version));
    entry.events = append.has_copies.then(|| append.public.iter().map(copy).collect());
    entry
}

/// What a replay publishes, and how far it is.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Stream, version, and whether the event is to be published, in the order in which a scan shows them.
    pub(super) events: Vec<(u8, u64, bool)>,
    /// Events before the position that was kept last.
    pub(super) kept: usize,
    /// Where this life has begun, and how far it has read.
    pub(super) begun_at: usize,
    pub(super) read: usize,
    pub(super) is_done: bool,
    /// The stream that ended the last life with an error.
    pub(super) given_up: Option<u8>,
}
