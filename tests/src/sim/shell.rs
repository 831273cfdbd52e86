//! The simulated shell: carries out the tasks of a core on the models of table and broker, as badly as the faults in
//! force want it.

use std::sync::Arc;

use streambox::{
    limits::MAX_BATCH_DELETES,
    outbox::{PendingKey, Predecessor, WorkerId},
};
use streambox_relay::core::{Answer, Done, IndexPage, Notice, Outcome, Outgoing, Read, Task, WorkerBeat};

use super::{
    mutant::Mutant,
    oracle::Promise,
    queue::{Happening, Job},
    scenario::{FaultKind, Ms},
    table::{number, stream_id},
    world::World,
};

/// How long a request or its answer is under way.
const LATENCY_MS: std::ops::RangeInclusive<Ms> = 1..=15;
const SLOW_LATENCY_MS: std::ops::RangeInclusive<Ms> = 100..=4_000;

/// The most that one read returns. A read is always allowed, so this much may come on top of the bound of what is held.
const ONE_READ_BYTES: usize = 1_500_000;

/// More tasks than a core has to give at one moment.
const MAX_TASKS: usize = 1_000;

/// How a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// It is not carried out.
    Refused,
    /// It is carried out, and the answer is lost.
    Lost,
}

impl World<'_> {
    pub(super) fn latency(&mut self) -> Ms {
        let range = if self.faults.has(FaultKind::Slow) { SLOW_LATENCY_MS } else { LATENCY_MS };
        self.random.u64(range)
    }

    /// True in this percentage of cases.
    pub(super) fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(0..100) < percent
    }

    /// Takes everything that a core wants to be done.
    pub(super) fn pump(&mut self, number: usize, life: u32) {
        let instant = self.instant();
        let most = self.scenario.limits.max_batches;
        if let Some(worker) = self.worker(number) {
            let ready = most.saturating_sub(worker.core.batches_under_way());
            worker.core.set_ready_publishers(ready);
        }
        for tasks in 0.. {
            let Some(task) = self.worker(number).and_then(|worker| worker.core.next_task(instant)) else { break };
            if tasks > MAX_TASKS {
                self.oracle.broken(Promise::Bounded, self.now, "a core never runs out of tasks".to_owned());
                return;
            }
            self.begin(number, life, task);
        }
        self.check_bounds(number);
        let Some(worker) = self.worker(number) else { return };
        let (notices, due) = (worker.core.take_notices(), worker.core.next_due());
        worker.is_dead = worker.core.is_finished();
        let has_drained_all = worker.is_dead && worker.core.has_drained_all();
        let given_up = worker.core.given_up().map(|(stream, _)| super::table::number(stream));
        let replayed = worker.is_dead.then(|| worker.core.position());
        for notice in notices {
            match notice {
                Notice::Halted { stream, halt } => {
                    self.coverage.halts += 1;
                    let (version, reason) = (halt.version, halt.reason);
                    self.note(|| format!("worker {number}: {stream} halts at v{version}: {reason}"));
                }
                Notice::Members => {
                    self.coverage.members += 1;
                    let members = self.worker(number).and_then(|worker| worker.core.members());
                    let members = members.map(|(members, _)| members).unwrap_or_default();
                    self.note(|| format!("worker {number} sees {members:?}"));
                }
                notice => self.note(|| format!("worker {number}: {notice:?}")),
            }
        }
        if has_drained_all {
            self.check_drained(number);
        }
        if let Some(position) = replayed.filter(|_| self.is_replay()) {
            self.replay_ended(number, position, given_up);
        }
        // The due time lies within a millisecond.
        if let Some(due_ms) = due.map(|due| self.ms(due) + 1) {
            let now = self.now;
            let is_planned = self.worker(number).is_none_or(|worker| {
                let planned = worker.wakes_at.filter(|at| *at > now);
                worker.wakes_at = planned.or(Some(due_ms)).min(Some(due_ms));
                planned.is_some_and(|at| at <= due_ms)
            });
            if !is_planned {
                self.at(due_ms.max(now), Happening::Wake(number, life));
            }
        }
    }

    fn check_bounds(&mut self, number: usize) {
        let (limits, is_replay) = (self.scenario.limits, self.is_replay());
        let Some(worker) = self.worker(number) else { return };
        let core = &worker.core;
        let held = (core.open_streams(), core.reads_under_way(), core.buffered_bytes(), core.halted_streams());
        let (streams, reads, bytes, halts) = held;
        let most_halts = limits.remembered.max(if is_replay { limits.window_events } else { 0 });
        let is_bounded = streams <= limits.max_streams
            && reads <= limits.max_reads
            && bytes <= limits.max_buffered_bytes + ONE_READ_BYTES
            && halts <= most_halts
            && core.read_ahead() <= limits.window_events;
        if !is_bounded {
            let what = format!("worker {number} holds {held:?} (streams, reads, bytes, halts)");
            self.oracle.broken(Promise::Bounded, self.now, what);
        }
    }

    /// A relay says that nothing is pending any more.
    fn check_drained(&mut self, number: usize) {
        self.note(|| format!("worker {number}: everything is drained"));
        let last_pass_began = self.passes.get(&number).copied().unwrap_or(0);
        if let Some(append) = self.table.shown_and_pending(last_pass_began, self.now) {
            let what = format!("worker {number} has not seen the entry of s{} v{}", append.stream, append.first);
            self.oracle.broken(Promise::Drains, self.now, what);
        }
    }

    fn begin(&mut self, number: usize, life: u32, task: Task) {
        if let Some(text) = describe(&task) {
            self.note(|| format!("worker {number}: {text}"));
        }
        if let Task::Publish(batch) = &task {
            let mut streams: Vec<_> = batch.iter().map(|outgoing| &outgoing.stream).collect();
            streams.dedup();
            if batch.len() > self.scenario.limits.max_batch_events || streams.len() != batch.len() {
                self.oracle.broken(Promise::Bounded, self.now, format!("a batch of {}", batch.len()));
            }
            if self.mutant == Some(Mutant::DeleteBeforeConfirm) {
                let keys = self.entries_ending_with(batch.iter());
                self.at(self.now, Happening::Execute(number, life, Job::Delete(keys)));
            }
        }
        self.coverage.alone += u64::from(matches!(&task, Task::PublishAlone(..)));
        let published = match &task {
            Task::Publish(batch) => batch.as_slice(),
            Task::PublishAlone(outgoing, _) => std::slice::from_ref(outgoing),
            _ => &[],
        };
        for Outgoing { stream, event } in published {
            let before = self.table.public_before(super::table::number(stream), event.version);
            if event.previous_version != before {
                let named = event.previous_version;
                let what =
                    format!("{stream} v{} names {named:?} as the version before, it is {before:?}", event.version);
                self.oracle.broken(Promise::Chain, self.now, what);
            }
        }
        if let Task::Delete(keys) = &task {
            let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
            // DynamoDB refuses a batch that has a key twice, however often it is sent.
            if keys.len() > MAX_BATCH_DELETES || distinct.len() < keys.len() {
                self.oracle.broken(Promise::Bounded, self.now, format!("a batch of deletes of {keys:?}"));
            }
        }
        if let Task::Keep(position) = task {
            self.keep(position);
            return self.at(self.now, Happening::Result(number, life, Done::Kept));
        }
        let at = self.now + self.latency();
        self.at(at, Happening::Execute(number, life, Job::Task(task)));
    }

    /// The entries whose last message is among these.
    fn entries_ending_with<'a>(&self, batch: impl Iterator<Item = &'a Outgoing>) -> Vec<PendingKey> {
        let entry = |outgoing: &Outgoing| {
            let append = self.table.append_of(number(&outgoing.stream), outgoing.event.version)?;
            let key = PendingKey { stream_id: outgoing.stream.clone(), last: append.key() };
            append.public.last().is_some_and(|last| *last == outgoing.event.version).then_some(key)
        };
        batch.filter_map(entry).collect()
    }

    /// Carries out what a worker has sent off, if it has come so far.
    pub(super) fn execute(&mut self, number: usize, life: u32, job: Job) {
        let is_unsent = self.chance(50);
        match self.worker(number).filter(|worker| worker.life == life) {
            Some(worker) if worker.is_paused() && is_unsent => {
                worker.hold(Happening::Execute(number, life, job));
                return;
            }
            None if is_unsent => return,
            _ => {}
        }
        let is_alive = self.worker(number).is_some_and(|worker| worker.life == life);
        let task = match job {
            Job::Task(task) => task,
            Job::Delete(keys) => {
                self.delete(&keys);
                return;
            }
        };
        let done = match task {
            Task::Scan { from_start } => Done::Scanned(self.scan(number, from_start)),
            Task::Read(read) => self.read(read),
            Task::Delete(keys) => self.delete_batch(keys),
            Task::Publish(batch) => return self.publish(number, life, batch),
            Task::PublishAlone(outgoing, isolation) => {
                return self.publish_alone(number, life, outgoing, isolation);
            }
            Task::Beat(beat) => Done::Beaten(self.beat(number, beat)),
            Task::Forget(id) => {
                self.table.remove_row(&id);
                Done::Forgotten
            }
            Task::Leave => {
                if let Some(id) = self.worker(number).and_then(|worker| worker.id().cloned()) {
                    self.table.remove_row(&id);
                }
                Done::Left
            }
            // These are of the process itself.
            Task::History { .. } | Task::HistoryEnd | Task::Keep(_) if !is_alive => return,
            Task::History { most } => self.read_history(most),
            Task::HistoryEnd => Self::end_of_history(),
            Task::Keep(_) => Done::Kept,
        };
        self.answer(number, life, done);
    }

    pub(super) fn answer(&mut self, number: usize, life: u32, done: Done) {
        let at = self.now + self.latency();
        self.at(at, Happening::Result(number, life, done));
    }

    pub(super) fn result(&mut self, number: usize, life: u32, done: Done) {
        if let Some(worker) = self.worker(number).filter(|worker| worker.life == life && worker.is_paused()) {
            worker.hold(Happening::Result(number, life, done));
            return;
        }
        if let Some(text) = describe_result(&done) {
            self.note(|| format!("worker {number}: {text}"));
        }
        let published = match &done {
            Done::Published(batch, outcomes) => (batch.as_slice(), outcomes.as_slice()),
            Done::PublishedAlone(outgoing, _, outcome) => {
                (std::slice::from_ref(outgoing), std::slice::from_ref(outcome))
            }
            _ => (&[][..], &[][..]),
        };
        if self.mutant == Some(Mutant::DeleteInPart) {
            let (batch, outcomes) = published;
            let confirmed = batch.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Confirmed);
            let keys = confirmed.filter_map(|(outgoing, _)| {
                let append = self.table.append_of(super::table::number(&outgoing.stream), outgoing.event.version)?;
                Some(PendingKey { stream_id: outgoing.stream.clone(), last: append.key() })
            });
            let keys: Vec<_> = keys.collect();
            if !keys.is_empty() {
                self.at(self.now, Happening::Execute(number, life, Job::Delete(keys)));
            }
        }
        self.with_worker(number, life, |worker, instant| worker.core.done(done, instant));
    }

    pub(super) fn fate(&mut self) -> Fate {
        if !self.faults.has(FaultKind::TableErrors) {
            return Fate::Answered;
        }
        match self.random.u8(0..10) {
            0..=1 => Fate::Refused,
            2..=3 => Fate::Lost,
            _ => Fate::Answered,
        }
    }

    fn scan(&mut self, number: usize, from_start: bool) -> Option<IndexPage> {
        if self.fate() != Fate::Answered {
            return None;
        }
        if from_start {
            self.passes.insert(number, self.now);
        }
        let behind = self.cursors.get(&number).copied().filter(|_| !from_start);
        let (keys, has_more) = self.table.scan(behind, self.scenario.limits.page_entries, self.now);
        match keys.last() {
            Some(last) if has_more => _ = self.cursors.insert(number, *last),
            _ => _ = self.cursors.remove(&number),
        }
        Some(IndexPage {
            streams: keys.iter().map(|key| stream_id(key.stream)).collect(),
            pending_since_ms: keys.iter().map(|key| Some(key.pending_since_ms)).collect(),
            has_more,
        })
    }

    fn read(&mut self, read: Read) -> Done {
        if self.fate() != Fate::Answered {
            return Done::Read(read, Answer::Failed);
        }
        let stream = number(read.stream());
        let answer = match &read {
            Read::Pending { from, limit, .. } => {
                let is_unreadable = self.faults.has(FaultKind::Unreadable(stream));
                let page = if self.mutant == Some(Mutant::TrustIndex) {
                    self.table.pending_by_index(stream, self.now)
                } else {
                    self.table.pending(stream, *from, usize::from(*limit), is_unreadable, self.now)
                };
                self.coverage.stale += u64::from(*from == 1 && page.entries.is_empty());
                Answer::Pending(page)
            }
            Read::Events { from, last, previous, .. } => {
                let previous = previous.filter(|_| self.mutant != Some(Mutant::ForgetPrevious));
                // A page ends at a megabyte.
                let to = self.random.u64(*from..=*last);
                match self.table.events(stream, (*from, to), previous, self.now) {
                    Some(events) => Answer::Events(events.into_iter().map(Arc::new).collect()),
                    None => Answer::Unreadable(format!("an event from version {from} on is missing")),
                }
            }
            Read::VisibilityCheck { last, .. } => {
                self.coverage.visibility_checks += 1;
                let seen = self.table.predecessor(stream, *last, self.now);
                self.coverage.hidden += u64::from(seen == Predecessor::Pending);
                let is_forgotten = self.mutant == Some(Mutant::SkipVisibilityCheck);
                Answer::VisibilityCheck(if is_forgotten { Predecessor::Published } else { seen })
            }
        };
        Done::Read(read, answer)
    }

    fn delete_batch(&mut self, asked: Vec<PendingKey>) -> Done {
        let fate = self.fate();
        let (mut left, mut done) = (Vec::new(), Vec::new());
        for key in &asked {
            let is_unprocessed = self.faults.has(FaultKind::Unprocessed) && self.chance(50);
            if is_unprocessed { left.push(key.clone()) } else { done.push(key.clone()) }
        }
        if fate == Fate::Refused {
            done.clear();
        }
        self.delete(&done);
        if fate != Fate::Answered {
            left.clone_from(&asked);
        }
        self.coverage.failed_deletes += left.len() as u64;
        Done::Deleted { asked, left }
    }

    fn delete(&mut self, keys: &[PendingKey]) {
        for key in keys {
            let stream = number(&key.stream_id);
            if let Some(versions) = self.table.delete(stream, key.last, self.now) {
                self.note(|| format!("the entry of s{stream} v{} is deleted", key.last));
                self.oracle.deleted(stream, &versions, self.now);
            }
        }
    }

    fn beat(&mut self, number: usize, beat: u64) -> Option<Vec<WorkerBeat>> {
        let is_wrong = self.faults.has(FaultKind::WrongRows);
        let id = self.worker(number).and_then(|worker| worker.id().cloned())?;
        if self.fate() != Fate::Refused && !(is_wrong && self.chance(40)) {
            self.table.put_row(&id, beat);
        }
        if self.fate() != Fate::Answered {
            return None;
        }
        let mut rows = self.table.rows();
        if is_wrong {
            match self.random.u8(0..4) {
                0 => return None,
                1 => rows.retain(|_| self.random.bool()),
                2 => {
                    let ghost = WorkerId::new(format!("ghost-{}", self.random.u8(0..4))).expect("a valid worker id");
                    rows.push(WorkerBeat { id: ghost, beat: self.random.u64(0..4) });
                }
                _ => rows.iter_mut().for_each(|row| row.beat = row.beat.saturating_sub(self.random.u64(0..3))),
            }
        }
        Some(rows)
    }
}

/// Polling and heartbeats go without saying.
fn describe(task: &Task) -> Option<String> {
    match task {
        Task::Publish(batch) => Some(format!("publishes {}", messages(batch))),
        Task::PublishAlone(outgoing, isolation) => {
            Some(format!("publishes {} on a {isolation:?} of its own", messages(std::slice::from_ref(outgoing))))
        }
        Task::Delete(keys) => Some(format!("deletes {keys:?}")),
        Task::Forget(_) | Task::Leave => Some(format!("{task:?}")),
        Task::Keep(position) => Some(format!("keeps {position:?}")),
        Task::Scan { .. } | Task::Read(_) | Task::Beat(_) | Task::History { .. } | Task::HistoryEnd => None,
    }
}

fn describe_result(done: &Done) -> Option<String> {
    match done {
        Done::Scanned(Some(page)) if page.streams.is_empty() => None,
        Done::Scanned(Some(page)) => Some(format!("the index shows {:?}", page.streams)),
        Done::Published(batch, outcomes) => Some(format!("{}: {outcomes:?}", messages(batch))),
        Done::PublishedAlone(outgoing, _, outcome) => {
            Some(format!("{}, alone: {outcome:?}", messages(std::slice::from_ref(outgoing))))
        }
        Done::Read(read, Answer::Pending(page)) => {
            let entries: Vec<_> =
                page.entries.iter().map(|entry| format!("v{} to v{}", entry.first, entry.last)).collect();
            let unreadable = page.unreadable.as_ref().map(|corrupt| format!(" and {} unreadable", corrupt.at));
            let (from, entries) = (read.stream(), entries.join(", "));
            Some(format!("a Query of {from} shows [{entries}]{}", unreadable.unwrap_or_default()))
        }
        Done::Read(read, Answer::Events(events)) => Some(format!("{read:?} has brought {} events", events.len())),
        Done::History(Some(page)) => {
            let events: Vec<_> = page.events.iter().flatten().cloned().collect();
            Some(format!("reads {}, more: {}", messages(&events), page.has_more))
        }
        Done::Deleted { left, .. } if left.is_empty() => None,
        Done::Beaten(Some(_)) | Done::Kept => None,
        Done::Scanned(None)
        | Done::Read(..)
        | Done::Deleted { .. }
        | Done::Beaten(None)
        | Done::History(None)
        | Done::Forgotten
        | Done::Left => Some(format!("{done:?}")),
    }
}

fn messages(batch: &[Outgoing]) -> String {
    let message = |outgoing: &Outgoing| format!("s{} v{}", number(&outgoing.stream), outgoing.event.version);
    batch.iter().map(message).collect::<Vec<_>>().join(", ")
}
