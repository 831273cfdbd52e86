//! The outbox as the source of the lanes: the index shows which streams have entries, Queries read them, a visibility check
//! shows whether the previous entry is published, and confirmed entries are deleted.

use streambox::{
    StreamId,
    outbox::{PendingKey, WorkerId},
};
use tokio::time::Instant;

use super::{
    CoreSettings, MAX_ATTEMPTS, Totals, Until,
    bounds::Jitter,
    deletes::Deletes,
    group::Group,
    lanes::{Admission, Lanes, Notice},
    scan::Scan,
    task::{Done, IndexPage, Task, WorkerBeat},
};
use crate::model::Backlog;

#[derive(Debug)]
pub(super) struct OutboxSource {
    until: Until,
    scan: Scan,
    deletes: Deletes,
    group: Option<Group>,
    /// Rows of workers that are to be removed.
    to_forget: Vec<WorkerId>,
    leaving: Leaving,
}

/// How far this worker has left its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    UnderWay,
    Done,
}

impl OutboxSource {
    pub(super) fn new(settings: &CoreSettings, now: Instant) -> Self {
        Self {
            until: settings.until,
            scan: Scan::new(settings.poll_interval, settings.busy_poll_interval, now),
            deletes: Deletes::default(),
            group: settings.group.clone().map(|group| Group::new(group, now)),
            to_forget: Vec::new(),
            leaving: Leaving::No,
        }
    }

    /// The next task that is not publishing.
    pub(super) fn next_task(
        &mut self,
        is_stopping: bool,
        lanes: &mut Lanes,
        jitter: &mut Jitter,
        now: Instant,
    ) -> Option<Task> {
        let deletes = self.next_deletes(lanes, now);
        if !deletes.is_empty() {
            return Some(Task::Delete(deletes));
        }
        if is_stopping {
            return self.leave();
        }
        if let Some(beat) = self.group.as_mut().and_then(|group| group.next_beat(jitter, now)) {
            return Some(Task::Beat(beat));
        }
        if let Some(id) = self.to_forget.pop() {
            return Some(Task::Forget(id));
        }
        self.admit(lanes, now);
        if lanes.take_look_again() {
            self.scan.hasten(now);
        }
        if !self.is_joining()
            && let Some(from_start) = self.scan.next(now)
        {
            return Some(Task::Scan { from_start });
        }
        lanes.next_read().map(Task::Read)
    }

    /// Takes the result of a task of this source.
    pub(super) fn done(
        &mut self,
        done: Done,
        lanes: &mut Lanes,
        jitter: &mut Jitter,
        totals: &mut Totals,
        now: Instant,
    ) {
        match done {
            Done::Scanned(page) => self.scanned(page, lanes, jitter, now),
            Done::Read(read, answer) => lanes.answered(&read, answer, jitter, now),
            Done::Deleted { asked, left } => {
                totals.deleted += (asked.len() - left.len()) as u64;
                for key in asked.iter().filter(|key| !left.contains(key)) {
                    lanes.deleted(key, now);
                }
                self.deletes.done(asked.len(), left, lanes.bounds(), jitter, now);
            }
            Done::Beaten(rows) => self.beaten(rows, lanes, now),
            Done::Left => self.leaving = Leaving::Done,
            _ => {}
        }
    }

    pub(super) fn next_due(&self, is_stopping: bool) -> Option<Instant> {
        let deletes = self.deletes.next_due();
        if is_stopping {
            return deletes;
        }
        let beat = self.group.as_ref().and_then(Group::next_due);
        let scan = self.scan.next_due().filter(|_| !self.is_joining());
        deletes.into_iter().chain(scan).chain(beat).min()
    }

    pub(super) fn next_deletes(&mut self, lanes: &Lanes, now: Instant) -> Vec<PendingKey> {
        self.deletes.next(lanes.bounds(), now)
    }

    /// An entry was published as a whole.
    pub(super) fn published(&mut self, entry: PendingKey) {
        self.deletes.push(entry);
    }

    /// Whether it does not know yet which streams it owns: until the first read of the rows has succeeded or failed.
    fn is_joining(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.read_at().is_none() && group.is_beating())
    }

    fn leave(&mut self) -> Option<Task> {
        // A heartbeat that is under way might write the row again.
        let is_beating = self.group.as_ref()?.is_beating();
        if self.leaving != Leaving::No || is_beating {
            return None;
        }
        self.leaving = Leaving::UnderWay;
        Some(Task::Leave)
    }

    /// Whether it can end: the group is left, and what was confirmed is deleted.
    pub(super) fn is_closed(&self) -> bool {
        (self.group.is_none() || self.leaving == Leaving::Done) && self.deletes.outstanding() == 0
    }

    /// Whether it was to drain the outbox and has: the streams that still have pending entries are given up.
    pub(super) fn is_drained(&self, lanes: &Lanes) -> bool {
        self.until == Until::Drained
            && self.scan.is_empty()
            && lanes.len() == 0
            && lanes.halts().iter().all(|(_, halt)| halt.is_given_up())
    }

    /// Confirmed entries that are not known as deleted.
    pub(super) fn deletes_waiting(&self) -> usize {
        self.deletes.outstanding()
    }

    pub(super) fn backlog(&self) -> Option<Backlog> {
        self.scan.backlog()
    }

    pub(super) fn members(&self) -> Option<(Vec<WorkerId>, Option<Instant>)> {
        self.group.as_ref().map(|group| (group.live().cloned().collect(), group.read_at()))
    }

    fn scanned(&mut self, page: Option<IndexPage>, lanes: &mut Lanes, jitter: &mut Jitter, now: Instant) {
        let Some(page) = page else {
            self.scan.failed(lanes.bounds(), jitter, now);
            return;
        };
        let (group, halts) = (self.group.as_ref(), lanes.halts());
        let owns = |stream: &StreamId| group.is_none_or(|group| group.owns(stream));
        self.scan.read(page, owns, |stream| halts.contains(stream), now);
        self.admit(lanes, now);
    }

    /// Opens lanes for the streams that the scan has found, as many as there is room for.
    fn admit(&mut self, lanes: &mut Lanes, now: Instant) {
        while let Some(stream) = self.scan.front().cloned() {
            match self.found(&stream, lanes, now) {
                Admission::NoRoom => return,
                found => self.scan.pop(found),
            }
        }
        if self.scan.end_pass(lanes.len() == 0, now) {
            lanes.scanned_all();
        }
    }

    pub(super) fn found(&self, stream: &StreamId, lanes: &mut Lanes, now: Instant) -> Admission {
        let max_attempts = (self.until == Until::Drained).then_some(MAX_ATTEMPTS);
        lanes.found(stream, max_attempts, now)
    }

    /// An entry of a stream was just committed.
    pub(super) fn wake(&mut self, stream: &StreamId, lanes: &mut Lanes, now: Instant) {
        let is_own = self.group.as_ref().is_none_or(|group| group.owns(stream));
        // A worker that does not know its group yet scans the index as soon as it does.
        if self.is_joining() || !is_own || lanes.committed(stream, now) {
            return;
        }
        if self.found(stream, lanes, now) == Admission::NoRoom {
            self.scan.hasten(now);
        }
    }

    fn beaten(&mut self, rows: Option<Vec<WorkerBeat>>, lanes: &mut Lanes, now: Instant) {
        let Some(group) = &mut self.group else { return };
        let change = group.beaten(rows, now);
        self.to_forget = change.forget;
        if change.duplicate_id {
            lanes.notify(Notice::DuplicateId);
        }
        if change.members {
            self.scan.shared_by(group.live().len());
            self.scan.release(|stream| group.owns(stream));
            lanes.release(|stream| !group.owns(stream), now);
            lanes.notify(Notice::Members);
        }
    }
}
