//! What to do next: pure decisions, no I/O, no clock and no randomness of its own.
//!
//! The shell asks for the next [`Task`] until there is none, carries each out, and tells what came of it ([`Done`]).
//! The rules that keep the promises:
//!
//! - A lane, that is a stream that is worked on, publishes one event at a time, in version order, and the next one only
//!   after the broker has confirmed it.
//! - An entry's deletion is asked for only after every event of it was confirmed.
//! - An entry is published only when the previous entry is known as published: by this relay, by its age (it can't be still
//!   becoming visible), or by a visibility check, a serializable read.
//! - An event that can't be published halts its own stream and no other. If the broker answers for more than one event (it
//!   closes a channel or a connection, or does not confirm), each of them is published alone until it is known which it was.
//! - Lanes, reads, batches, deletes under way and bytes held are bounded.
//! - Nothing depends on being the only one who works on a stream.

mod bounds;
mod deletes;
mod group;
mod halts;
mod lane;
mod lanes;
mod scan;
mod suspects;
mod task;

use std::time::Duration;

use serde::Serialize;
use streambox::{
    StreamId,
    outbox::{PendingKey, WorkerId},
};
use tokio::time::Instant;

pub use self::{
    bounds::Bounds,
    group::{
        DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_WORKER_TIMEOUT, GroupSettings, LEAST_TIMEOUT_INTERVALS,
        LONGEST_GAP_INTERVALS,
    },
    halts::Halt,
    lanes::Notice,
    task::{Answer, Done, IndexPage, Isolation, Outcome, Outgoing, Read, Task, WorkerBeat},
};
use self::{
    bounds::Jitter,
    deletes::Deletes,
    group::Group,
    lanes::{Admission, Lanes},
    scan::Scan,
};
use crate::model::Backlog;

/// How often `drain` tries a halted stream before it gives up on it.
pub const DRAIN_ATTEMPTS: u32 = 3;

/// What a core needs to know.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// Bounds and delays.
    pub bounds: Bounds,
    /// The shortest time from one scan of the index to the next.
    pub poll_interval: Duration,
    /// When it is done.
    pub until: Until,
    /// The group that it is in; without one it works on every stream.
    pub group: Option<GroupSettings>,
}

/// When a relay is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is told to stop.
    Stopped,
    /// When nothing is pending any more, or it is told to stop.
    Drained,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Events that the broker has confirmed.
    pub published: u64,
    /// Events that it could not or would not take: each halted its stream.
    #[serde(skip)]
    pub refused: u64,
    /// Events of which it said nothing: each was published again.
    #[serde(skip)]
    pub unknown: u64,
    /// Entries that were deleted.
    pub deleted: u64,
}

/// The decisions of one relay.
#[derive(Debug)]
pub struct Core {
    settings: CoreSettings,
    jitter: Jitter,
    scan: Scan,
    lanes: Lanes,
    deletes: Deletes,
    group: Option<Group>,
    batches_under_way: usize,
    /// Publishers that could take a batch now.
    ready_publishers: usize,
    /// Rows of workers that are to be removed.
    to_forget: Vec<WorkerId>,
    stop: Stop,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Nothing new is begun; the group is still to be left.
    Asked,
    Leaving,
    Left,
}

impl Core {
    /// A relay that has nothing to do yet. `seed` is for the jitter of its delays.
    #[must_use]
    pub fn new(settings: CoreSettings, seed: u64, now: Instant) -> Self {
        Self {
            jitter: Jitter::new(seed),
            scan: Scan::new(settings.poll_interval, now),
            lanes: Lanes::new(&settings.bounds),
            deletes: Deletes::default(),
            group: settings.group.clone().map(|group| Group::new(group, now)),
            batches_under_way: 0,
            ready_publishers: 0,
            to_forget: Vec::new(),
            stop: Stop::No,
            totals: Totals::default(),
            settings,
        }
    }

    /// The next thing to do, until there is none.
    pub fn next_task(&mut self, now: Instant) -> Option<Task> {
        self.lanes.wake(&self.settings.bounds, now);
        if let Some(keys) = Some(self.next_deletes(now)).filter(|keys| !keys.is_empty()) {
            return Some(Task::Delete(keys));
        }
        if self.stop != Stop::No {
            return self.leave();
        }
        if let Some(beat) = self.group.as_mut().and_then(|group| group.next_beat(&mut self.jitter, now)) {
            return Some(Task::Beat(beat));
        }
        if let Some(id) = self.to_forget.pop() {
            return Some(Task::Forget(id));
        }
        self.admit(now);
        if !self.is_joining()
            && let Some(from_start) = self.scan.next(now)
        {
            return Some(Task::Scan { from_start });
        }
        if let Some(read) = self.next_read() {
            return Some(Task::Read(read));
        }
        if self.ready_publishers > 0 {
            let batch = self.next_batch();
            if !batch.is_empty() {
                self.ready_publishers -= 1;
                return Some(Task::Publish(batch));
            }
        }
        let (outgoing, isolation) = self.lanes.next_alone(&self.settings.bounds)?;
        Some(Task::PublishAlone(outgoing, isolation))
    }

    /// How many publishers could take a batch now: those that are connected, are not blocked and have none.
    pub fn set_ready_publishers(&mut self, count: usize) {
        self.ready_publishers = count;
    }

    /// What came of a task.
    pub fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Scanned(page) => self.scanned(page, now),
            Done::Read(read, answer) => self.answered(&read, answer, now),
            Done::Published(batch, outcomes) => {
                self.batches_under_way -= 1;
                for (outgoing, outcome) in batch.iter().zip(outcomes) {
                    self.published(outgoing, outcome, now);
                }
            }
            Done::PublishedAlone(outgoing, isolation, outcome) => {
                self.lanes.published_alone(isolation);
                self.published(&outgoing, outcome, now);
            }
            Done::Deleted { asked, left } => self.deleted(&asked, left, now),
            Done::Beaten(rows) => self.beaten(rows, now),
            Done::Forgotten => {}
            Done::Left => self.stop = Stop::Left,
        }
    }

    /// The time of the next thing that waits for a time.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let waiting = self.lanes.next_due().into_iter().chain(self.deletes.next_due());
        if self.stop != Stop::No {
            return waiting.min();
        }
        let beat = self.group.as_ref().and_then(Group::next_due);
        let scan = self.scan.next_due().filter(|_| !self.is_joining());
        waiting.chain(scan).chain(beat).min()
    }

    /// Whether it does not know yet whose stream is whose: until the rows were read for the first time, or could not
    /// be.
    fn is_joining(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.read_at().is_none() && group.is_beating())
    }

    /// Begins nothing new from now on: what is in flight comes to its end, what was confirmed is deleted, the group is
    /// left.
    pub fn stop(&mut self) {
        if self.stop == Stop::No {
            self.stop = if self.group.is_some() { Stop::Asked } else { Stop::Left };
        }
    }

    fn leave(&mut self) -> Option<Task> {
        // A heartbeat that is under way might write the row again.
        let is_beating = self.group.as_ref().is_some_and(Group::is_beating);
        if self.stop != Stop::Asked || is_beating {
            return None;
        }
        self.stop = Stop::Leaving;
        Some(Task::Leave)
    }

    /// Whether it is done: drained, or told to stop and nothing is in flight any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.stop {
            Stop::No => self.is_drained(),
            Stop::Asked | Stop::Leaving => false,
            Stop::Left => self.events_under_way() == 0 && self.deletes.outstanding() == 0,
        }
    }

    /// Batches that the shell has under way.
    #[must_use]
    pub fn batches_under_way(&self) -> usize {
        self.batches_under_way
    }

    fn events_under_way(&self) -> usize {
        self.batches_under_way + self.lanes.alone_under_way()
    }

    /// Whether it was to drain the outbox and has: what is still pending is of streams that are halted for good
    /// reasons.
    fn is_drained(&self) -> bool {
        let is_given_up = |halt: &Halt| halt.attempts >= DRAIN_ATTEMPTS;
        self.settings.until == Until::Drained
            && self.scan.is_empty()
            && self.lanes.len() == 0
            && self.lanes.halts().iter().all(|(_, halt)| is_given_up(halt))
    }

    /// Whether nothing was pending any more when it ended.
    #[must_use]
    pub fn has_drained_all(&self) -> bool {
        self.is_drained() && self.lanes.halts().len() == 0
    }

    /// What has been done so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The halted streams.
    pub fn halts(&self) -> impl Iterator<Item = (&StreamId, &Halt)> {
        self.lanes.halts().iter()
    }

    /// How many streams are halted.
    #[must_use]
    pub fn halted_streams(&self) -> usize {
        self.lanes.halts().len()
    }

    /// Streams that are worked on.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.lanes.len()
    }

    /// Reads under way.
    #[must_use]
    pub fn reads_under_way(&self) -> usize {
        self.lanes.reads_under_way()
    }

    /// Confirmed entries that are not known as deleted.
    #[must_use]
    pub fn deletes_waiting(&self) -> usize {
        self.deletes.outstanding()
    }

    /// Bytes of events that are held.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.lanes.buffered_bytes()
    }

    /// What the index has shown.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        self.scan.backlog()
    }

    /// The live workers of its group by their ids, itself included, and when their rows were read last.
    #[must_use]
    pub fn members(&self) -> Option<(Vec<WorkerId>, Option<Instant>)> {
        self.group.as_ref().map(|group| (group.live().cloned().collect(), group.read_at()))
    }

    /// What has happened since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.lanes.take_notices()
    }

    fn scanned(&mut self, page: Option<IndexPage>, now: Instant) {
        let Some(page) = page else {
            self.scan.failed(&self.settings.bounds, &mut self.jitter, now);
            return;
        };
        let (group, halts) = (self.group.as_ref(), self.lanes.halts());
        let owns = |stream: &StreamId| group.is_none_or(|group| group.owns(stream));
        self.scan.read(page, owns, |stream| halts.contains(stream), now);
        self.admit(now);
    }

    /// Opens lanes for the streams that the scan has found, as many as there is room for.
    fn admit(&mut self, now: Instant) {
        while let Some(stream) = self.scan.front().cloned() {
            match self.found(&stream, now) {
                Admission::NoRoom => return,
                found => self.scan.pop(found),
            }
        }
        if self.scan.end_pass(self.lanes.len() == 0, now) {
            self.lanes.scanned_all();
        }
    }

    fn found(&mut self, stream: &StreamId, now: Instant) -> Admission {
        let max_attempts = (self.settings.until == Until::Drained).then_some(DRAIN_ATTEMPTS);
        self.lanes.found(stream, max_attempts, &self.settings.bounds, now)
    }

    fn next_read(&mut self) -> Option<Read> {
        self.lanes.next_read(&self.settings.bounds)
    }

    fn answered(&mut self, read: &Read, answer: Answer, now: Instant) {
        self.lanes.answered(read, answer, &self.settings.bounds, &mut self.jitter, now);
    }

    fn next_batch(&mut self) -> Vec<Outgoing> {
        let batch = self.lanes.next_batch(&self.settings.bounds);
        self.batches_under_way += usize::from(!batch.is_empty());
        batch
    }

    fn published(&mut self, outgoing: &Outgoing, outcome: Outcome, now: Instant) {
        *match outcome {
            Outcome::Confirmed => &mut self.totals.published,
            Outcome::Refused(_) | Outcome::Poison(_) => &mut self.totals.refused,
            Outcome::Suspect(_) | Outcome::Unknown => &mut self.totals.unknown,
        } += 1;
        if let Some(entry) = self.lanes.published(outgoing, outcome, &self.settings.bounds, now) {
            self.deletes.push(entry);
        }
    }

    fn next_deletes(&mut self, now: Instant) -> Vec<PendingKey> {
        self.deletes.next(&self.settings.bounds, now)
    }

    fn deleted(&mut self, asked: &[PendingKey], left: Vec<PendingKey>, now: Instant) {
        self.totals.deleted += (asked.len() - left.len()) as u64;
        for key in asked.iter().filter(|key| !left.contains(key)) {
            self.lanes.deleted(key, &self.settings.bounds, now);
        }
        self.deletes.done(asked.len(), left, &self.settings.bounds, &mut self.jitter, now);
    }

    fn beaten(&mut self, rows: Option<Vec<WorkerBeat>>, now: Instant) {
        let Some(group) = &mut self.group else { return };
        let change = group.beaten(rows, now);
        self.to_forget = change.forget;
        if change.duplicate_id {
            self.lanes.notify(Notice::DuplicateId);
        }
        if change.members {
            self.scan.release(|stream| group.owns(stream));
            self.lanes.release(|stream| !group.owns(stream), &self.settings.bounds, now);
            self.lanes.notify(Notice::Members);
        }
    }
}

#[cfg(test)]
mod tests;
