//! What to do next: pure decisions, no I/O, no clock and no randomness of its own.
//!
//! The shell takes each next [`Task`] until there is none, carries them out, and returns their results ([`Done`]).
//! The rules that keep the promises:
//!
//! - A lane, which is a stream that is worked on, publishes one event at a time, in version order, and the next one only
//!   after the broker has confirmed it.
//! - An entry's deletion is asked for only after every event of it was confirmed.
//! - An entry is published only when the previous entry is known as published: by this relay, by its age (it can't be still
//!   becoming visible), or by a visibility check, a serializable read.
//! - An event that can't be published halts its own stream and no other. If the broker answers for more than one event (it
//!   closes a channel or a connection, or does not confirm), each of them is published alone until it is known which it was.
//! - Lanes, reads, batches, deletes under way and bytes held are bounded.
//! - Nothing depends on being the only one who works on a stream.
//!
//! The lanes do not know where their entries come from: the outbox (`outbox`) or, in a replay, history (`history`).

mod bounds;
mod deletes;
mod group;
mod halts;
mod history;
mod lane;
mod lanes;
mod outbox;
mod pace;
mod scan;
mod size;
mod suspects;
mod task;

use std::{num::NonZeroUsize, time::Duration};

use serde::Serialize;
use streambox::{StreamId, outbox::WorkerId};
use tokio::time::Instant;

pub use self::{
    bounds::Bounds,
    group::{
        DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_WORKER_TIMEOUT, GroupSettings, LEAST_TIMEOUT_INTERVALS,
        LONGEST_GAP_INTERVALS,
    },
    halts::Halt,
    history::HistorySettings,
    lanes::Notice,
    task::{
        Answer, Done, HistoryPage, HistoryPosition, IndexPage, Isolation, Outcome, Outgoing, Read, Task, WorkerBeat,
    },
};
use self::{bounds::Jitter, history::HistorySource, lanes::Lanes, outbox::OutboxSource, pace::Pace};
use crate::model::Backlog;

/// How often `drain` and a replay try a halted stream before they give up.
pub const MAX_ATTEMPTS: u32 = 3;

/// Settings of a core that relays.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// Bounds and delays.
    pub bounds: Bounds,
    /// The longest time from one scan of the index to the next: while there is nothing to do.
    pub poll_interval: Duration,
    /// The time to the next scan after one that has found work; at most the poll interval. Each scan after it that finds none
    /// waits half as long again.
    pub busy_poll_interval: Duration,
    /// When the relay is done.
    pub until: Until,
    /// The group that it is in; without one it works on every stream.
    pub group: Option<GroupSettings>,
}

/// When a relay is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is stopped.
    Stopped,
    /// When nothing is pending any more, or it is stopped.
    Drained,
}

/// Counts of what has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Events that the broker has confirmed.
    pub published: u64,
    /// Events that the broker did not take: each halted its stream.
    #[serde(skip)]
    pub refused: u64,
    /// Events whose outcome was unknown: each was published again.
    #[serde(skip)]
    pub unknown: u64,
    /// Entries that were deleted.
    pub deleted: u64,
}

/// The decisions of one relay, or of one replay.
#[derive(Debug)]
pub struct Core {
    jitter: Jitter,
    lanes: Lanes,
    source: Source,
    /// How fast it may publish, if that is limited.
    pace: Option<Pace>,
    batches_under_way: usize,
    /// Publishers that could take a batch now.
    ready_publishers: usize,
    /// Nothing new is begun; a group is still to be left.
    is_stopping: bool,
    totals: Totals,
}

/// The source of the lanes' entries, which also learns when they are published.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Source {
    Outbox(OutboxSource),
    History(HistorySource),
}

impl Core {
    /// A relay that has nothing to do yet. `seed` is for the jitter of its delays.
    #[must_use]
    pub fn new(settings: CoreSettings, seed: u64, now: Instant) -> Self {
        let source = Source::Outbox(OutboxSource::new(&settings, now));
        Self::with(source, settings.bounds, None, seed)
    }

    /// A replay that has published nothing yet.
    #[must_use]
    pub fn replaying(settings: &HistorySettings, seed: u64, now: Instant) -> Self {
        let pace = Pace::new(settings.rate, now);
        let bounds = Bounds {
            max_batch_events: settings.bounds.max_batch_events.min(pace.most_at_once()),
            // Lanes come and go with the window.
            remembered_streams: NonZeroUsize::MIN,
            remembered_halts: NonZeroUsize::new(settings.window_events).unwrap_or(NonZeroUsize::MIN),
            // So that no stream halts without a try: a halt ends a replay.
            max_suspects: 2 * settings.window_events,
            ..settings.bounds.clone()
        };
        Self::with(Source::History(HistorySource::new(settings, now)), bounds, Some(pace), seed)
    }

    fn with(source: Source, bounds: Bounds, pace: Option<Pace>, seed: u64) -> Self {
        Self {
            jitter: Jitter::new(seed),
            lanes: Lanes::new(bounds),
            source,
            pace,
            batches_under_way: 0,
            ready_publishers: 0,
            is_stopping: false,
            totals: Totals::default(),
        }
    }

    /// The next thing to do, until there is none.
    pub fn next_task(&mut self, now: Instant) -> Option<Task> {
        self.lanes.wake(now);
        let is_stopping = self.begins_nothing();
        let task = match &mut self.source {
            Source::Outbox(outbox) => outbox.next_task(is_stopping, &mut self.lanes, &mut self.jitter, now),
            Source::History(_) if is_stopping => None,
            Source::History(history) => history.next_task(&mut self.lanes, &mut self.jitter, now),
        };
        if task.is_some() || is_stopping || self.pace.as_mut().is_some_and(|pace| !pace.is_time(now)) {
            return task;
        }
        let task = self.publish()?;
        if let Some(pace) = &mut self.pace {
            pace.published(if let Task::Publish(batch) = &task { batch.len() } else { 1 }, now);
        }
        Some(task)
    }

    fn publish(&mut self) -> Option<Task> {
        if self.ready_publishers > 0 {
            let batch = self.lanes.next_batch();
            if !batch.is_empty() {
                self.batches_under_way += 1;
                self.ready_publishers -= 1;
                return Some(Task::Publish(batch));
            }
        }
        self.lanes.next_alone().map(|(outgoing, isolation)| Task::PublishAlone(outgoing, isolation))
    }

    /// How many publishers could take a batch now: those that are connected, are not blocked and have none.
    pub fn set_ready_publishers(&mut self, count: usize) {
        self.ready_publishers = count;
    }

    /// An entry of a stream was just committed, as the service that appended it says. If the stream is this worker's, it is read at
    /// once.
    ///
    /// It is a hint as the index is: one that is wrong costs a read, one that is missing, or that comes before the entry is visible,
    /// costs the time to the next scan. A stream of another worker is left to that one's scan: if two worked on it, each event would
    /// be published twice.
    pub fn wake(&mut self, stream: &StreamId, now: Instant) {
        if !self.begins_nothing()
            && let Source::Outbox(outbox) = &mut self.source
        {
            outbox.wake(stream, &mut self.lanes, now);
        }
    }

    /// Takes the result of a task.
    pub fn done(&mut self, done: Done, now: Instant) {
        match done {
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
            done => match &mut self.source {
                Source::Outbox(outbox) => {
                    outbox.done(done, &mut self.lanes, &mut self.jitter, &mut self.totals, now);
                }
                Source::History(history) => history.done(done, &self.lanes, &mut self.jitter, now),
            },
        }
    }

    fn published(&mut self, outgoing: &Outgoing, outcome: Outcome, now: Instant) {
        *match outcome {
            Outcome::Confirmed => &mut self.totals.published,
            Outcome::Refused(_) | Outcome::Poison(_) => &mut self.totals.refused,
            Outcome::Suspect(_) | Outcome::Unknown => &mut self.totals.unknown,
        } += 1;
        let is_confirmed = outcome == Outcome::Confirmed;
        let entry = self.lanes.published(outgoing, outcome, now);
        match (&mut self.source, entry) {
            (Source::Outbox(outbox), Some(entry)) => outbox.published(entry),
            (Source::Outbox(_), None) => {}
            (Source::History(history), entry) => {
                history.published(outgoing, is_confirmed, entry.as_ref(), &mut self.lanes, now);
            }
        }
    }

    /// The time of the next thing that waits for a time.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let is_stopping = self.begins_nothing();
        let source = match &self.source {
            Source::Outbox(outbox) => outbox.next_due(is_stopping),
            Source::History(history) => history.next_due().filter(|_| !is_stopping),
        };
        let pace = self.pace.as_ref().and_then(Pace::next_due).filter(|_| !is_stopping);
        self.lanes.next_due().into_iter().chain(source).chain(pace).min()
    }

    /// Begins nothing new from now on: finishes what is in flight, deletes what was confirmed, leaves the group.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    fn begins_nothing(&self) -> bool {
        self.is_stopping || self.given_up().is_some()
    }

    /// Whether it is done: drained, replayed, given up or stopped, and nothing is in flight any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let is_idle = self.batches_under_way + self.lanes.alone_under_way() == 0;
        match &self.source {
            Source::Outbox(outbox) if self.is_stopping => is_idle && outbox.is_closed(),
            Source::Outbox(outbox) => outbox.is_drained(&self.lanes),
            Source::History(history) => is_idle && (self.begins_nothing() || history.position().is_done),
        }
    }

    /// Batches that the shell has under way.
    #[must_use]
    pub fn batches_under_way(&self) -> usize {
        self.batches_under_way
    }

    fn outbox(&self) -> Option<&OutboxSource> {
        if let Source::Outbox(outbox) = &self.source { Some(outbox) } else { None }
    }

    fn history(&self) -> Option<&HistorySource> {
        if let Source::History(history) = &self.source { Some(history) } else { None }
    }

    /// Whether nothing was pending any more when it ended.
    #[must_use]
    pub fn has_drained_all(&self) -> bool {
        self.lanes.halts().len() == 0 && self.outbox().is_some_and(|outbox| outbox.is_drained(&self.lanes))
    }

    /// The stream that ends a replay: every attempt to publish one of its events failed.
    #[must_use]
    pub fn given_up(&self) -> Option<(&StreamId, &Halt)> {
        self.history().and_then(|_| self.lanes.halts().iter().find(|(_, halt)| halt.is_given_up()))
    }

    /// How far a replay has come.
    #[must_use]
    pub fn position(&self) -> HistoryPosition {
        self.history().map(HistorySource::position).unwrap_or_default()
    }

    /// Events that a replay has read, and that the kept position does not include.
    #[must_use]
    pub fn read_ahead(&self) -> usize {
        self.history().map_or(0, HistorySource::read_ahead)
    }

    /// Counts of what has been done so far.
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
        self.outbox().map_or(0, OutboxSource::deletes_waiting)
    }

    /// Bytes of events that are held.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.lanes.buffered_bytes()
    }

    /// The backlog that the index has shown.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        self.outbox().and_then(OutboxSource::backlog)
    }

    /// The live workers of its group by their ids, itself included, and when their rows were read last.
    #[must_use]
    pub fn members(&self) -> Option<(Vec<WorkerId>, Option<Instant>)> {
        self.outbox().and_then(OutboxSource::members)
    }

    /// The notices since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.lanes.take_notices()
    }
}

#[cfg(test)]
mod tests;
