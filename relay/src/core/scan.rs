//! Passes over the index, one after the other: which page is read when, and what a pass has shown.
//!
//! The time from one pass to the next adapts. A pass that has found work is followed by another one soon, since what is appended
//! comes in bursts; each pass that finds none waits half as long again, up to the poll interval of an idle relay. Work is a stream
//! that was begun: a stream that is halted or under way stays in the index however often it is read.
//!
//! Every worker of a group reads the whole index. Beyond [`WORKERS_AT_FULL_PACE`] live workers each one reads it less often, so that the
//! looks of all of them together do not grow with their number.

use std::{collections::VecDeque, time::Duration};

use streambox::StreamId;
use tokio::time::Instant;

use super::{
    bounds::{Bounds, Jitter},
    lanes::Admission,
    task::IndexPage,
};
use crate::model::Backlog;

/// The longest rest after a pass that has found nothing but streams that are halted or under way. They stay in the index, a
/// read unit for some 80 entries each time.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// The most live workers that all look again after the busy poll interval. Twice as many wait twice as long.
const WORKERS_AT_FULL_PACE: u32 = 8;

/// How far a pass has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassProgress {
    /// No page of it was read.
    Start,
    /// There is a page behind the last one that was read.
    Middle,
    /// The last page was read; its streams are still being admitted.
    End,
}

/// What a pass has found, the more the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Nothing,
    /// Halted streams whose next attempt is not due, or is under way.
    Halted,
    /// Halted streams of which another attempt was begun.
    Attempts,
    /// Streams that are worked on already.
    UnderWay,
    /// A stream that was begun.
    Work,
}

#[derive(Debug)]
pub(super) struct Scan {
    /// The time from one pass to the next while there is nothing to do.
    poll_interval: Duration,
    /// The time to the next pass after one that has found work, of a worker that is alone.
    busy_poll_interval: Duration,
    /// Live workers, this one included.
    workers: u32,
    /// The time to the next pass after the last one.
    wait: Duration,
    /// The streams of the page that was read last, as far as they are not admitted yet.
    found: VecDeque<StreamId>,
    is_under_way: bool,
    progress: PassProgress,
    pass_began: Instant,
    /// When the next page may be read.
    next_at: Instant,
    /// The most that this pass has found.
    seen: Seen,
    /// The pages that it has read.
    pages: u32,
    /// When the first of the passes began that have found nothing that could be worked on, one after the other.
    empty_since: Option<Instant>,
    /// Whether they have done so for a poll interval: the index lags.
    is_empty: bool,
    failures: u32,
    /// What this pass has shown so far.
    pass: Option<Backlog>,
    /// What is known: from this pass, unless the one before has shown more.
    backlog: Option<Backlog>,
}

impl Scan {
    pub(super) fn new(poll_interval: Duration, busy_poll_interval: Duration, now: Instant) -> Self {
        Self {
            poll_interval,
            busy_poll_interval,
            workers: 1,
            wait: poll_interval,
            found: VecDeque::new(),
            is_under_way: false,
            progress: PassProgress::Start,
            pass_began: now,
            next_at: now,
            seen: Seen::Nothing,
            pages: 0,
            empty_since: None,
            is_empty: false,
            failures: 0,
            pass: None,
            backlog: None,
        }
    }

    /// So many workers are alive, this one included.
    pub(super) fn shared_by(&mut self, workers: usize) {
        self.workers = workers.try_into().unwrap_or(u32::MAX);
    }

    /// The time to the next pass after one that has found work.
    fn busy_wait(&self) -> Duration {
        let all_together = self.busy_poll_interval.saturating_mul(self.workers.max(WORKERS_AT_FULL_PACE));
        (all_together / WORKERS_AT_FULL_PACE).min(self.poll_interval)
    }

    pub(super) fn backlog(&self) -> Option<Backlog> {
        self.backlog
    }

    /// Whether nothing that could be worked on was found for a while.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// When the next page is to be read; never before there is room for what the last one has brought.
    pub(super) fn next_due(&self) -> Option<Instant> {
        (!self.is_under_way && self.found.is_empty() && self.progress != PassProgress::End).then_some(self.next_at)
    }

    /// Begins to read the next page, if it is time. Whether it is the first one of a pass.
    pub(super) fn next(&mut self, now: Instant) -> Option<bool> {
        if self.next_due().is_none_or(|at| now < at) {
            return None;
        }
        self.is_under_way = true;
        let from_start = self.progress == PassProgress::Start;
        if from_start {
            self.pass_began = now;
        }
        Some(from_start)
    }

    pub(super) fn failed(&mut self, bounds: &Bounds, jitter: &mut Jitter, now: Instant) {
        self.is_under_way = false;
        self.next_at = now + jitter.shorten(bounds.delay(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn read(
        &mut self,
        page: IndexPage,
        owns: impl Fn(&StreamId) -> bool,
        is_halted: impl Fn(&StreamId) -> bool,
        now: Instant,
    ) {
        self.is_under_way = false;
        self.failures = 0;
        self.pages = self.pages.saturating_add(1);
        let so_far = self.pass.get_or_insert(Backlog::empty(now));
        let mut last: Option<(StreamId, bool, bool)> = None;
        for (stream, since_ms) in page.streams.into_iter().zip(page.pending_since_ms) {
            // All entries of a stream stand next to each other.
            let (is_own, is_workable) = match &last {
                Some((same, is_own, is_workable)) if *same == stream => (*is_own, *is_workable),
                _ => {
                    let is_own = owns(&stream);
                    let is_workable = is_own && !is_halted(&stream);
                    if is_own {
                        self.found.push_back(stream.clone());
                    }
                    so_far.workable_streams += u64::from(is_workable);
                    last = Some((stream, is_own, is_workable));
                    (is_own, is_workable)
                }
            };
            so_far.entries += 1;
            so_far.own_entries += u64::from(is_own);
            so_far.halted_entries += u64::from(is_own && !is_workable);
            so_far.oldest_pending_since_ms = earlier(so_far.oldest_pending_since_ms, since_ms);
            if is_workable {
                so_far.oldest_workable_since_ms = earlier(so_far.oldest_workable_since_ms, since_ms);
            }
        }
        so_far.at_least = page.has_more;
        so_far.at = now;
        let so_far = *so_far;
        if !so_far.at_least || self.backlog.is_none_or(|known| known.at_least || known.entries <= so_far.entries) {
            self.backlog = Some(so_far);
        }
        self.progress = if page.has_more { PassProgress::Middle } else { PassProgress::End };
        self.next_at = now;
    }

    /// The next stream that was found and is not admitted yet.
    pub(super) fn front(&self) -> Option<&StreamId> {
        self.found.front()
    }

    /// The stream in front is dealt with.
    pub(super) fn pop(&mut self, found: Admission) {
        self.found.pop_front();
        self.seen = self.seen.max(match found {
            Admission::Admitted => Seen::Work,
            Admission::UnderWay => Seen::UnderWay,
            Admission::Retried => Seen::Attempts,
            Admission::Halted | Admission::NoRoom => Seen::Halted,
        });
        if self.seen >= Seen::Attempts {
            (self.empty_since, self.is_empty) = (None, false);
        }
    }

    /// A stream that a pass has found under way is not any more: what was appended to it meanwhile is looked for soon.
    pub(super) fn hasten(&mut self, now: Instant) {
        if self.progress != PassProgress::Start || self.is_under_way {
            self.seen = Seen::Work;
        } else if self.failures == 0 {
            self.wait = self.busy_wait();
            self.next_at = self.next_at.min(now + self.wait);
        }
    }

    /// Ends the pass, if everything that it has found is dealt with. Whether it has.
    pub(super) fn end_pass(&mut self, is_idle: bool, now: Instant) -> bool {
        if self.progress != PassProgress::End || !self.found.is_empty() {
            return false;
        }
        let is_empty = self.seen < Seen::Attempts && is_idle;
        self.empty_since = is_empty.then(|| self.empty_since.unwrap_or(self.pass_began));
        self.is_empty = self.empty_since.is_some_and(|since| self.pass_began - since >= self.poll_interval);
        let longer = (self.wait * 3 / 2).min(self.poll_interval);
        self.wait = if self.seen == Seen::Work { self.busy_wait() } else { longer };
        self.next_at = match self.seen {
            Seen::Nothing | Seen::Work => self.pass_began + self.wait,
            // However many pages they fill, a page costs a rest.
            Seen::Halted | Seen::Attempts | Seen::UnderWay => {
                now + self.wait.saturating_mul(self.pages).min(LONGEST_REST.max(self.poll_interval))
            }
        };
        (self.seen, self.pages) = (Seen::Nothing, 0);
        self.progress = PassProgress::Start;
        self.pass = None;
        true
    }

    /// Drops the streams that another worker owns now.
    pub(super) fn release(&mut self, owns: impl Fn(&StreamId) -> bool) {
        self.found.retain(owns);
    }
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}
