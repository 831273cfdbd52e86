//! History as the source of the lanes: the events of a scan or of one stream, in the order in which they are read.
//!
//! A window of events is read ahead. To the lanes it is an outbox in memory: a stream's events in it that are not confirmed are
//! its one pending entry, which needs no visibility check and is not deleted. The position stands before the first event that
//! is not confirmed, whatever was confirmed behind it. What was read since the position was *kept* is never more than the
//! window: that much is published twice after an interruption.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use streambox::{
    StreamId,
    outbox::{OutboxEvent, PendingEntry, PendingKey, PendingPage, Predecessor},
};
use tokio::time::Instant;

use super::{
    Bounds, MAX_ATTEMPTS,
    bounds::Jitter,
    lanes::{Admission, Lanes},
    task::{Answer, Done, HistoryPage, HistoryPosition, Outgoing, Read, Task},
};

/// How often the position is kept, unless half a window is published earlier. Keeping it after each batch would take longer
/// than publishing.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Settings of a core that replays.
#[derive(Clone, Debug)]
pub struct HistorySettings {
    /// Bounds and delays; those of reads and deletes have no effect here.
    pub bounds: Bounds,
    /// Most events a second.
    pub rate: u32,
    /// Most events that are read and not kept as published.
    pub window_events: usize,
    /// Events that one read asks for: at most half of the window.
    pub page_events: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Events,
    /// Every event was read.
    End,
    /// The message that ends the replay was read, too.
    Closed,
}

/// An event that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    LeftOut,
    Waiting,
    Confirmed,
}

#[derive(Debug)]
pub(super) struct HistorySource {
    window_events: usize,
    page_events: usize,
    stage: Stage,
    is_reading: bool,
    /// Reads that failed in a row, and when the next one may begin.
    failures: u32,
    read_at: Instant,
    /// The events that were read after the position.
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first_slot: u64,
    /// The events of each stream that are not confirmed, with the numbers of their slots.
    pending: HashMap<StreamId, VecDeque<(u64, Arc<OutboxEvent>)>>,
    pending_bytes: usize,
    /// Streams with such events and without a lane.
    to_admit: VecDeque<StreamId>,
    position: HistoryPosition,
    /// Events that the position has passed since it was kept.
    unkept: usize,
    /// How many of these the position passes that is being kept.
    keeping: Option<usize>,
    keep_at: Instant,
    /// The next moment at which there may be something to do.
    due: Option<Instant>,
}

impl HistorySource {
    pub(super) fn new(settings: &HistorySettings, now: Instant) -> Self {
        Self {
            window_events: settings.window_events,
            page_events: settings.page_events,
            stage: Stage::Events,
            is_reading: false,
            failures: 0,
            read_at: now,
            slots: VecDeque::new(),
            first_slot: 0,
            pending: HashMap::new(),
            pending_bytes: 0,
            to_admit: VecDeque::new(),
            position: HistoryPosition::default(),
            unkept: 0,
            keeping: None,
            keep_at: now + KEEP_INTERVAL,
            due: None,
        }
    }

    /// The next task that is not publishing.
    pub(super) fn next_task(&mut self, lanes: &mut Lanes, jitter: &mut Jitter, now: Instant) -> Option<Task> {
        self.due = None;
        self.admit(lanes, now);
        while let Some(read) = lanes.next_read() {
            let answer = self.answer(&read);
            lanes.answered(&read, answer, jitter, now);
            self.admit_again(read.stream(), lanes);
        }
        if self.keeping.is_none()
            && self.unkept > 0
            && (self.unkept >= self.window_events / 2 || self.is_time(self.keep_at, now))
        {
            self.keeping = Some(self.unkept);
            return Some(Task::Keep(self.position));
        }
        let is_next = match self.stage {
            Stage::Events => {
                let ahead = self.slots.len() + self.unkept;
                let has_room = ahead + self.page_events <= self.window_events;
                has_room && self.pending_bytes < lanes.bounds().max_buffered_bytes
            }
            Stage::End => self.slots.is_empty(),
            Stage::Closed => false,
        };
        if !is_next || self.is_reading || !self.is_time(self.read_at, now) {
            return None;
        }
        self.is_reading = true;
        Some(if self.stage == Stage::End { Task::HistoryEnd } else { Task::History { most: self.page_events } })
    }

    /// Whether it is time. If not, `due` is at the latest that time.
    fn is_time(&mut self, at: Instant, now: Instant) -> bool {
        if at > now {
            self.due = self.due.into_iter().chain([at]).min();
        }
        at <= now
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the result of a task of this source.
    pub(super) fn done(&mut self, done: Done, lanes: &Lanes, jitter: &mut Jitter, now: Instant) {
        match done {
            Done::History(Some(page)) => self.read(page),
            Done::History(None) => {
                self.is_reading = false;
                self.read_at = now + jitter.shorten(lanes.bounds().delay(self.failures));
                self.failures = self.failures.saturating_add(1);
            }
            Done::Kept => {
                self.unkept -= self.keeping.take().unwrap_or(0);
                self.keep_at = now + KEEP_INTERVAL;
            }
            _ => {}
        }
    }

    fn read(&mut self, page: HistoryPage) {
        (self.is_reading, self.failures) = (false, 0);
        if self.stage == Stage::End {
            self.stage = Stage::Closed;
        } else if !page.has_more {
            self.stage = Stage::End;
        }
        for event in page.events {
            let Some(Outgoing { stream, event }) = event else {
                self.slots.push_back(Slot::LeftOut);
                continue;
            };
            let pending = self.pending.entry(stream.clone()).or_default();
            if pending.is_empty() {
                self.to_admit.push_back(stream);
            }
            self.pending_bytes += event.payload.len();
            pending.push_back((self.first_slot + self.slots.len() as u64, event));
            self.slots.push_back(Slot::Waiting);
        }
        self.pass();
    }

    /// Takes the outcome of an event. `entry`: the stream's entry that it completed.
    pub(super) fn published(
        &mut self,
        outgoing: &Outgoing,
        is_confirmed: bool,
        entry: Option<&PendingKey>,
        lanes: &mut Lanes,
        now: Instant,
    ) {
        if is_confirmed && let Some(pending) = self.pending.get_mut(&outgoing.stream) {
            if let Some((slot, event)) = pending.pop_front() {
                self.pending_bytes -= event.payload.len();
                let index = usize::try_from(slot - self.first_slot).expect("a slot of the window");
                self.slots[index] = Slot::Confirmed;
                self.position.ahead += u64::from(self.stage != Stage::Closed);
            }
            if pending.is_empty() {
                self.pending.remove(&outgoing.stream);
            }
            self.pass();
        }
        if let Some(entry) = entry {
            lanes.deleted(entry, now);
        }
        self.admit_again(&outgoing.stream, lanes);
    }

    /// Moves the position over everything that is confirmed or left out, up to the first event that is not.
    fn pass(&mut self) {
        while let Some(slot) = self.slots.pop_front_if(|slot| *slot != Slot::Waiting) {
            self.first_slot += 1;
            // The message that ends a replay is not an event.
            if self.stage != Stage::Closed {
                self.unkept += 1;
                if slot == Slot::LeftOut {
                    self.position.left_out += 1;
                } else {
                    self.position.published += 1;
                    self.position.ahead -= 1;
                }
            }
        }
        self.position.is_done = self.stage == Stage::Closed && self.slots.is_empty();
    }

    /// Opens lanes for the streams that have something to publish, as many as there is room for.
    fn admit(&mut self, lanes: &mut Lanes, now: Instant) {
        for _ in 0..self.to_admit.len() {
            let Some(stream) = self.to_admit.pop_front() else { return };
            match lanes.found(&stream, Some(MAX_ATTEMPTS), now) {
                Admission::Admitted | Admission::Retried | Admission::UnderWay => {}
                Admission::NoRoom => return self.to_admit.push_front(stream),
                Admission::Halted => {
                    if let Some(at) = lanes.halts().retry_at(&stream) {
                        self.is_time(at, now);
                    }
                    self.to_admit.push_back(stream);
                }
            }
        }
    }

    /// A lane that was closed is opened anew, if its stream has more, or is tried again.
    fn admit_again(&mut self, stream: &StreamId, lanes: &Lanes) {
        if self.pending.contains_key(stream) && !lanes.contains(stream) {
            self.to_admit.push_back(stream.clone());
        }
    }

    /// Answers a read as the outbox would.
    fn answer(&self, read: &Read) -> Answer {
        let pending = || self.pending.get(read.stream()).into_iter().flatten();
        match read {
            Read::Pending { stream, .. } => {
                let versions: Vec<_> = pending().map(|(_, event)| event.version).collect();
                let mut entries = Vec::new();
                if let (Some(first), Some(last)) = (versions.first(), versions.last()) {
                    let mut entry = PendingEntry::new(stream.clone(), *first, *last, 0, None, None);
                    entry.public = Some(versions);
                    entries.push(entry);
                }
                Answer::Pending(PendingPage::new(entries, None, false))
            }
            Read::Events { from, last, .. } => {
                let events = pending().map(|(_, event)| event).filter(|event| (*from..=*last).contains(&event.version));
                Answer::Events(events.cloned().collect())
            }
            // No entry names a previous one.
            Read::VisibilityCheck { .. } => Answer::VisibilityCheck(Predecessor::Published),
        }
    }

    pub(super) fn position(&self) -> HistoryPosition {
        self.position
    }

    /// Events that were read, and that the kept position does not include.
    pub(super) fn read_ahead(&self) -> usize {
        self.slots.len() + self.unkept
    }
}
