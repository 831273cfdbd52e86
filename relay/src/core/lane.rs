//! One stream that is being worked on.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use streambox::{
    Corrupt,
    outbox::{OutboxEvent, PendingEntry, PendingPage, SkipTarget},
};

use super::{
    size::{ENTRY_OVERHEAD_BYTES, entry_bytes, event_bytes},
    task::Isolation,
};
use crate::text::shell_word;

/// If this many connections in a row ended under an event without a reason and without a confirm, the event itself is
/// suspected.
const MAX_UNKNOWN: u32 = 2;

/// What a lane needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The pending entries that end at a version or later.
    ReadPending { from: u64 },
    /// The events of the entry in front, from a version on, and the public version before them.
    ReadEvents { from: u64, last: u64, previous: Option<u64> },
    /// Whether the previous entry, which ends with version `last`, was published.
    CheckVisibility { last: u64 },
    /// Its next event can be published.
    Publish,
    /// An event is in flight, a read is under way, or confirmed entries are not deleted yet.
    Wait,
    /// Nothing is left to do.
    Close,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// The entries that were read and are not published yet, in order.
    entries: VecDeque<PendingEntry>,
    /// The events of the entry in front that are at hand: the first one is the next to publish.
    events: VecDeque<Arc<OutboxEvent>>,
    /// How far the entry in front is published; 0 before it was begun.
    begun_through: u64,
    /// How far an entry was published when it was dropped: that part is not published again on the next attempt.
    progress: Option<Progress>,
    /// Whether the previous entry is known as published.
    front_is_checked: bool,
    under_way: UnderWay,
    /// Where the next read of entries begins; none once the end was reached.
    read_from: Option<u64>,
    /// Why the entry behind `entries` can't be read.
    unreadable: Option<Cause>,
    /// Why nothing more can be published for now.
    halted: Option<Cause>,
    /// Whether another worker owns the stream from now on.
    is_released: bool,
    /// The last version of the entry that this relay has published last, as a whole.
    published_through: u64,
    /// The last versions of confirmed entries that are not deleted yet: their keys.
    undeleted: BTreeSet<u64>,
    /// Reads that failed in a row.
    failures: u32,
    /// How often in a row the visibility check of the entry in front failed.
    failed_checks: u32,
    /// How far the next event is isolated; none if it may be part of a batch.
    isolation: Option<Isolation>,
    /// How often in a row the outcome of the next event was unknown.
    unknown: u32,
    /// Whether the stream was halted, and nothing of it was confirmed since.
    is_retry: bool,
    /// What was heard of new entries since the last read of entries began.
    heard: Heard,
    bytes: usize,
}

/// One thing of a lane is under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    /// A read, also one that has failed and rests.
    Read,
    /// The first event at hand.
    Event,
}

/// What was heard of entries that a lane has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    /// The index shows entries, which may be those that were read.
    Seen,
    /// One was just committed.
    Committed,
}

/// Why a stream is halted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The version that can't be published; 0 if it is not known.
    pub(super) version: u64,
    /// Why, for the operator.
    pub(super) reason: String,
}

/// An entry that was published in part. The time distinguishes it from an entry with the same key of a table that was created
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    last: u64,
    pending_since_ms: i64,
    through: u64,
}

/// How a halted stream is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    /// How far the entry that it halted at was published.
    progress: Option<Progress>,
    /// How far the event that it halted at is isolated.
    isolation: Option<Isolation>,
}

impl Lane {
    pub(super) fn new(published_through: u64, retry: Option<Attempt>) -> Self {
        let Attempt { progress, isolation } = retry.unwrap_or_default();
        Self {
            progress,
            isolation,
            unknown: 0,
            is_retry: retry.is_some(),
            heard: Heard::Nothing,
            entries: VecDeque::new(),
            events: VecDeque::new(),
            begun_through: 0,
            front_is_checked: false,
            under_way: UnderWay::Nothing,
            read_from: Some(1),
            unreadable: None,
            halted: None,
            is_released: false,
            published_through,
            undeleted: BTreeSet::new(),
            failures: 0,
            failed_checks: 0,
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn published_through(&self) -> u64 {
        self.published_through
    }

    pub(super) fn is_released(&self) -> bool {
        self.is_released
    }

    pub(super) fn is_retry(&self) -> bool {
        self.is_retry
    }

    /// A scan has found it under way.
    pub(super) fn found_again(&mut self) {
        self.heard = self.heard.max(Heard::Seen);
    }

    /// An entry was just committed.
    pub(super) fn committed(&mut self) {
        self.heard = Heard::Committed;
    }

    /// Whether a scan has found it since the last read of entries began.
    pub(super) fn was_found_again(&self) -> bool {
        self.heard != Heard::Nothing
    }

    pub(super) fn isolation(&self) -> Option<Isolation> {
        self.isolation
    }

    /// Why the stream is halted, and how it is tried again.
    pub(super) fn into_halt(self) -> Option<(Cause, Attempt)> {
        let attempt = Attempt { progress: self.progress, isolation: self.isolation };
        self.halted.map(|cause| (cause, attempt))
    }

    /// The next event, if it is at hand.
    pub(super) fn next_event(&self) -> Option<&OutboxEvent> {
        self.events.front().map(AsRef::as_ref)
    }

    pub(super) fn step(&self, settle_window: Duration) -> Step {
        if self.under_way != UnderWay::Nothing {
            return Step::Wait;
        }
        let finish = if self.undeleted.is_empty() { Step::Close } else { Step::Wait };
        if self.halted.is_some() || self.is_released {
            return finish;
        }
        let Some(front) = self.entries.front() else {
            return self.next_read_from().map_or(finish, |from| Step::ReadPending { from });
        };
        if let Some(last) = self.before(front, settle_window) {
            return Step::CheckVisibility { last };
        }
        if self.events.is_empty() {
            let from = front.next_public(self.begun_through).unwrap_or(front.first);
            return Step::ReadEvents { from, last: front.last, previous: front.public_before(from) };
        }
        Step::Publish
    }

    /// The last version of the entry before `front`, if it is not known to be published.
    fn before(&self, front: &PendingEntry, settle_window: Duration) -> Option<u64> {
        let previous = front.previous?;
        if self.front_is_checked || self.published_through >= previous.version {
            return None;
        }
        // Times of two writers. If their clocks disagree by less than the window, the worst case is a check that was not
        // needed.
        let apart_ms = front.pending_since_ms.saturating_sub(previous.recorded_at_ms);
        let window_ms = i64::try_from(settle_window.as_millis()).unwrap_or(i64::MAX);
        (apart_ms <= window_ms).then_some(previous.version)
    }

    /// Where the next read of entries begins. Everything up to the version that was published last has been published.
    fn next_read_from(&self) -> Option<u64> {
        self.read_from.or_else(|| (self.heard == Heard::Committed).then_some(self.published_through + 1))
    }

    pub(super) fn begin_read(&mut self) {
        self.under_way = UnderWay::Read;
        if self.entries.is_empty() {
            (self.read_from, self.heard) = (self.next_read_from(), Heard::Nothing);
        }
    }

    /// A read that had failed is made again.
    pub(super) fn rested(&mut self) {
        self.under_way = UnderWay::Nothing;
    }

    pub(super) fn take_pending(&mut self, page: PendingPage) {
        self.end_read();
        self.read_from = page.entries.last().filter(|_| page.has_more).map(|entry| entry.last + 1);
        self.unreadable = page.unreadable.as_ref().map(Cause::of);
        if self.unreadable.is_some() {
            self.read_from = None;
        }
        self.entries = page.entries.into();
        // An entry that is read again while its deletion is under way has been published.
        self.entries.retain(|entry| !self.undeleted.contains(&entry.last));
        self.bytes += self.entries.iter().map(entry_bytes).sum::<usize>();
        self.begin_front();
    }

    fn end_read(&mut self) {
        self.under_way = UnderWay::Nothing;
        self.failures = 0;
    }

    /// Unpacks the copies that the entry in front carries, without those that were published before.
    fn begin_front(&mut self) {
        self.front_is_checked = false;
        self.begun_through = 0;
        let Some(front) = self.entries.front_mut() else {
            self.halted = self.unreadable.take();
            return;
        };
        if let Some(progress) = self.progress
            && (progress.last, progress.pending_since_ms) == (front.last, front.pending_since_ms)
        {
            self.begun_through = progress.through;
        }
        self.progress = None;
        let mut copies = front.events.take().unwrap_or_default();
        let all_bytes: usize = copies.iter().map(event_bytes).sum();
        copies.retain(|event| event.version > self.begun_through);
        self.bytes -= all_bytes - copies.iter().map(event_bytes).sum::<usize>();
        self.events = copies.into_iter().map(Arc::new).collect();
    }

    pub(super) fn take_events(&mut self, mut events: Vec<Arc<OutboxEvent>>) {
        self.end_read();
        // Private events stand between those that are to be published.
        if let Some(public) = self.entries.front().and_then(|front| front.public.as_ref()) {
            events.retain(|event| public.binary_search(&event.version).is_ok());
        }
        self.bytes += events.iter().map(|event| event_bytes(event)).sum::<usize>();
        self.events = events.into();
    }

    pub(super) fn previous_is_published(&mut self) {
        self.end_read();
        self.failed_checks = 0;
        self.front_is_checked = true;
    }

    /// The previous entry is not known to be published: everything is read again, after a rest.
    /// Returns how often in a row that happened before.
    pub(super) fn previous_is_not_published(&mut self) -> u32 {
        let failed_checks = self.failed_checks;
        self.forget();
        self.failed_checks = failed_checks + 1;
        self.under_way = UnderWay::Read;
        failed_checks
    }

    /// The first version of the entry in front.
    pub(super) fn front(&self) -> u64 {
        self.entries.front().map_or(0, |front| front.first)
    }

    /// Forgets the entries that were read: they are read again from the first one on.
    fn forget(&mut self) {
        let begun = self.entries.front().filter(|_| self.begun_through > 0).map(|front| Progress {
            last: front.last,
            pending_since_ms: front.pending_since_ms,
            through: self.begun_through,
        });
        let attempt = Attempt { progress: begun.or(self.progress), isolation: self.isolation };
        let (is_released, is_retry, undeleted) = (self.is_released, self.is_retry, std::mem::take(&mut self.undeleted));
        *self = Self { is_released, undeleted, is_retry, ..Self::new(self.published_through, Some(attempt)) };
    }

    /// Counts a failed read, which rests. Returns how many failed in a row before.
    pub(super) fn fail(&mut self) -> u32 {
        let failures = self.failures;
        self.failures = self.failures.saturating_add(1);
        failures
    }

    /// Gives up for now, and forgets the entries that were read.
    pub(super) fn halt(&mut self, cause: Cause) {
        self.forget();
        self.read_from = None;
        self.halted = Some(cause);
    }

    /// Another worker owns the stream: nothing new is begun.
    pub(super) fn release(&mut self) {
        self.is_released = true;
    }

    /// Leaves the entries that were not read yet to a later lane, so that other streams get their turn.
    pub(super) fn leave_rest(&mut self) {
        (self.read_from, self.heard) = (None, self.heard.min(Heard::Seen));
    }

    /// The event to publish next, which is in flight from now on.
    pub(super) fn take_off(&mut self) -> Option<Arc<OutboxEvent>> {
        let event = self.events.front()?;
        self.under_way = UnderWay::Event;
        Some(Arc::clone(event))
    }

    /// The outcome of the event in flight is unknown.
    pub(super) fn publish_again(&mut self) {
        self.under_way = UnderWay::Nothing;
        self.unknown = self.unknown.saturating_add(1);
        if self.unknown >= MAX_UNKNOWN {
            self.isolate(Isolation::Channel);
        }
    }

    /// The event in flight may be the reason why its batch or connection broke: it is published again, isolated further.
    pub(super) fn suspect(&mut self) {
        self.under_way = UnderWay::Nothing;
        self.isolate(if self.isolation.is_none() { Isolation::Channel } else { Isolation::Connection });
    }

    /// Isolates the next event, at least as far as this.
    pub(super) fn isolate(&mut self, isolation: Isolation) {
        self.isolation = self.isolation.max(Some(isolation));
    }

    /// The event in flight has arrived. Returns the last version of its entry, if that is now published as a whole.
    pub(super) fn confirmed(&mut self) -> Option<u64> {
        self.under_way = UnderWay::Nothing;
        (self.isolation, self.unknown, self.is_retry) = (None, 0, false);
        let event = self.events.pop_front()?;
        let front = self.entries.front()?;
        let last = front.last;
        self.bytes = self.bytes.saturating_sub(event_bytes(&event));
        self.begun_through = event.version;
        if event.version < last {
            return None;
        }
        self.published_through = self.published_through.max(last);
        self.entries.pop_front();
        self.bytes = self.bytes.saturating_sub(ENTRY_OVERHEAD_BYTES);
        self.undeleted.insert(last);
        self.begin_front();
        Some(last)
    }

    pub(super) fn deleted(&mut self, last: u64) {
        self.undeleted.remove(&last);
    }
}

impl Cause {
    /// An item of the table can't be read. The version in its sort key identifies it, or the whole key if that has no version.
    fn of(corrupt: &Corrupt) -> Self {
        match corrupt.at.parse() {
            Ok(SkipTarget::Version(version)) => Self { version, reason: corrupt.to_string() },
            Ok(SkipTarget::Key(key)) => {
                let (stream, key) = (shell_word(corrupt.stream.as_str()), shell_word(&key));
                let reason = format!("{corrupt}; to give it up: streambox-relay skip {stream} {key} --reason TEXT");
                Self { version: 0, reason }
            }
            Err(_) => Self { version: 0, reason: corrupt.to_string() },
        }
    }
}
