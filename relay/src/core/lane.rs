//! One stream that is being worked on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use streambox::outbox::{OutboxEvent, PendingEntry, PendingPage};

/// What a lane needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The pending entries from a version on.
    ReadPending { from: u64 },
    /// The events of the entry in front, from a version on.
    ReadEvents { from: u64, last: u64 },
    /// Proof that the append which begins at `first` was published.
    Prove { first: u64 },
    /// Its next event can be published.
    Publish,
    /// An event is in flight, or confirmed entries are not deleted yet.
    Wait,
    /// Nothing is left to do.
    Close,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// What was read and is not published yet, in order.
    entries: VecDeque<PendingEntry>,
    /// The events of the entry in front that are at hand: the first one is the next to publish.
    events: VecDeque<Arc<OutboxEvent>>,
    /// How far the entry in front is published; 0 before it was begun.
    begun_through: u64,
    /// How far an entry was published when the stream halted: not published again on the next attempt.
    progress: Option<Progress>,
    /// Whether the append before the entry in front was proved published.
    front_is_settled: bool,
    /// Whether the first event of `events` is in flight.
    in_flight: bool,
    /// Where the next read of entries begins; none once the end was reached.
    read_from: Option<u64>,
    /// Why the entry behind `entries` can't be read.
    unreadable: Option<String>,
    /// Why nothing more can be published for now.
    halted: Option<String>,
    /// The last version of the entry that this relay has published last, as a whole.
    published_through: u64,
    /// Confirmed entries that are not deleted yet.
    undeleted: usize,
    /// Reads that failed in a row.
    failures: u32,
    bytes: usize,
}

/// An entry that was published in part. The time tells it from one at the same place of a table that was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    first: u64,
    pending_since_ms: i64,
    through: u64,
}

impl Lane {
    pub(super) fn new(published_through: u64, progress: Option<Progress>) -> Self {
        Self {
            progress,
            entries: VecDeque::new(),
            events: VecDeque::new(),
            begun_through: 0,
            front_is_settled: false,
            in_flight: false,
            read_from: Some(1),
            unreadable: None,
            halted: None,
            published_through,
            undeleted: 0,
            failures: 0,
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn published_through(&self) -> u64 {
        self.published_through
    }

    pub(super) fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.progress
    }

    pub(super) fn step(&self, settle_window: Duration) -> Step {
        let finish = if self.undeleted > 0 { Step::Wait } else { Step::Close };
        if self.in_flight {
            return Step::Wait;
        }
        if self.halted.is_some() {
            return finish;
        }
        let Some(front) = self.entries.front() else {
            return self.read_from.map_or(finish, |from| Step::ReadPending { from });
        };
        if let Some(first) = self.unsettled(front, settle_window) {
            return Step::Prove { first };
        }
        if self.events.is_empty() {
            let from = front.next_public(self.begun_through).unwrap_or(front.first);
            return Step::ReadEvents { from, last: front.last_public() };
        }
        Step::Publish
    }

    /// The append before `front`, where it is not known to be published.
    fn unsettled(&self, front: &PendingEntry, settle_window: Duration) -> Option<u64> {
        let previous = front.previous?;
        if self.front_is_settled || self.published_through >= previous.first {
            return None;
        }
        // Times of two writers. Where their clocks disagree by more than the window, a proof is made that was not needed,
        // or one is left out that takes a transaction half visible for as long as the clocks are apart.
        let apart_ms = front.pending_since_ms.saturating_sub(previous.recorded_at_ms);
        let window_ms = i64::try_from(settle_window.as_millis()).unwrap_or(i64::MAX);
        (apart_ms <= window_ms).then_some(previous.first)
    }

    pub(super) fn take_pending(&mut self, page: PendingPage) {
        self.failures = 0;
        self.read_from = page.entries.last().filter(|_| page.has_more).map(|last| last.first + 1);
        self.unreadable = page.unreadable.map(|corrupt| corrupt.to_string());
        if self.unreadable.is_some() {
            self.read_from = None;
        }
        self.entries = page.entries.into();
        self.bytes += self.entries.iter().map(entry_bytes).sum::<usize>();
        self.begin_front();
    }

    /// Unpacks the copies that the entry in front carries, less what was published of it before.
    fn begin_front(&mut self) {
        self.front_is_settled = false;
        self.begun_through = 0;
        let Some(front) = self.entries.front_mut() else {
            self.halted = self.unreadable.take();
            return;
        };
        if let Some(progress) = self.progress
            && (progress.first, progress.pending_since_ms) == (front.first, front.pending_since_ms)
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

    pub(super) fn take_events(&mut self, mut events: Vec<OutboxEvent>) {
        self.failures = 0;
        // Private events stand between those that are to be published.
        if let Some(public) = self.entries.front().and_then(|front| front.public.as_ref()) {
            events.retain(|event| public.binary_search(&event.version).is_ok());
        }
        self.bytes += events.iter().map(event_bytes).sum::<usize>();
        self.events = events.into_iter().map(Arc::new).collect();
    }

    pub(super) fn predecessor_is_published(&mut self) {
        self.failures = 0;
        self.front_is_settled = true;
    }

    /// Forgets what was read: it is read again from the first entry on.
    pub(super) fn restart(&mut self) {
        let begun = self.entries.front().filter(|_| self.begun_through > 0).map(|front| Progress {
            first: front.first,
            pending_since_ms: front.pending_since_ms,
            through: self.begun_through,
        });
        let progress = begun.or(self.progress);
        *self = Self { undeleted: self.undeleted, ..Self::new(self.published_through, progress) };
    }

    /// Counts a failed read. Returns how long to wait.
    pub(super) fn fail(&mut self, first: Duration, longest: Duration) -> Duration {
        let wait = delay(self.failures, first, longest);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Gives up for now: what was read is let go.
    pub(super) fn halt(&mut self, reason: String) {
        self.restart();
        self.read_from = None;
        self.halted = Some(reason);
    }

    /// The event to publish next, which is in flight from now on.
    pub(super) fn take_off(&mut self) -> Option<Arc<OutboxEvent>> {
        let event = self.events.front()?;
        self.in_flight = true;
        Some(Arc::clone(event))
    }

    pub(super) fn publish_again(&mut self) {
        self.in_flight = false;
    }

    /// The event in flight has arrived. Returns the first version of its entry, if that is now published as a whole.
    pub(super) fn confirmed(&mut self) -> Option<u64> {
        self.in_flight = false;
        let event = self.events.pop_front()?;
        let front = self.entries.front()?;
        let (first, last, last_public) = (front.first, front.last, front.last_public());
        self.bytes = self.bytes.saturating_sub(event_bytes(&event));
        self.begun_through = event.version;
        if event.version < last_public {
            return None;
        }
        self.published_through = last;
        self.entries.pop_front();
        self.bytes = self.bytes.saturating_sub(ENTRY_OVERHEAD_BYTES);
        self.undeleted += 1;
        self.begin_front();
        Some(first)
    }

    pub(super) fn deleted(&mut self) {
        self.undeleted = self.undeleted.saturating_sub(1);
    }
}

/// About what an entry and an event take in memory beside their texts.
const ENTRY_OVERHEAD_BYTES: usize = 128;
const EVENT_OVERHEAD_BYTES: usize = 256;

fn entry_bytes(entry: &PendingEntry) -> usize {
    ENTRY_OVERHEAD_BYTES + entry.events.iter().flatten().map(event_bytes).sum::<usize>()
}

fn event_bytes(event: &OutboxEvent) -> usize {
    EVENT_OVERHEAD_BYTES + event.event_type.len() + event.payload.len()
}

/// Doubles with each failure.
pub(super) fn delay(failures: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
}
