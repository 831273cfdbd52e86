//! What to do next: pure decisions, without I/O, clock and randomness of its own.
//!
//! The shell reports deliveries, takes each next [`Task`] until there is none, carries it out, and returns its result ([`Done`]).
//! The rules that keep the promises:
//!
//! - A stream has one request under way, and its events are applied one after the other. Whether an event is next is decided by the
//!   projection, in the transaction that stores its effect: what is known here is a hint.
//! - A message is acknowledged when its event is known as applied, or when the mark of its parked stream covers its version.
//! - A mark covers all versions up to the newest acknowledged one, and is removed only when these are applied.
//! - Messages are never requeued one by one. What is kept too long comes again by a new connection, in order.
//! - Streams, requests, events held and what is remembered are bounded.

mod bounds;
mod lane;
mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    num::NonZeroUsize,
    time::Duration,
};

use fastrand::Rng;
use lru::LruCache;
use streambox::{
    StreamId,
    message::{MessageError, Received},
};
use tokio::time::Instant;

use self::lane::{Lane, Phase, Step};
pub use self::{
    bounds::Bounds,
    lane::Waits,
    task::{Claimed, DeliveryId, Done, Parking, RetryAt, StorePage, Task},
};
use crate::{Applied, Position};

/// What a consumer has, beside its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// It can read the events table.
    pub has_store: bool,
    /// It can note parked streams. Without a store nothing could be read when they are retried.
    pub has_inbox: bool,
    /// The shortest time from one check of a stream's history to the next.
    pub check_interval: Duration,
}

/// Counts of what was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Events whose effect was stored.
    pub applied: u64,
    /// Of them, those that were read from the store.
    pub applied_from_store: u64,
    /// Messages of events that were applied before.
    pub duplicates: u64,
    /// Gaps that were noticed.
    pub gaps: u64,
    /// Attempts to apply an event that have failed.
    pub failures: u64,
    /// Streams that were parked, each time counted.
    pub parked: u64,
    /// Streams that were no longer parked after a retry.
    pub recovered: u64,
    /// Messages that are not events.
    pub rejected: u64,
    /// Connections that were given up because a message was held too long.
    pub reopened: u64,
}

/// The decisions of one consumer.
#[derive(Debug)]
pub struct Core {
    bounds: Bounds,
    means: Means,
    jitter: Rng,
    lanes: HashMap<StreamId, Lane>,
    /// Streams with something to do, in the order in which they came to have it. Each once.
    ready: VecDeque<StreamId>,
    /// Streams that wait until there is room for events of the store.
    waiting_for_room: VecDeque<StreamId>,
    resting: BTreeSet<(Instant, StreamId)>,
    positions: LruCache<StreamId, Position>,
    parked: LruCache<StreamId, ()>,
    /// Everything unacknowledged, and when it came.
    deliveries: BTreeMap<DeliveryId, Instant>,
    acknowledge: Vec<DeliveryId>,
    reject: Vec<DeliveryId>,
    under_way: usize,
    catching_up: usize,
    next_look: Instant,
    is_looking: bool,
    is_reopening: bool,
    is_stopping: bool,
    /// Why the last request that is nobody's fault has failed.
    trouble: Option<String>,
    totals: Totals,
}

impl Core {
    /// One that has nothing to do yet. `seed` is for the jitter of its delays.
    #[must_use]
    pub fn new(bounds: Bounds, has_store: bool, has_inbox: bool, seed: u64, now: Instant) -> Self {
        let means = Means { has_store, has_inbox: has_store && has_inbox, check_interval: bounds.check_interval };
        Self {
            means,
            jitter: Rng::with_seed(seed),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            waiting_for_room: VecDeque::new(),
            resting: BTreeSet::new(),
            positions: LruCache::new(bounds.remembered_streams),
            parked: LruCache::new(if means.has_inbox { bounds.remembered_parked } else { NonZeroUsize::MIN }),
            deliveries: BTreeMap::new(),
            acknowledge: Vec::new(),
            reject: Vec::new(),
            under_way: 0,
            catching_up: 0,
            next_look: now,
            is_looking: false,
            is_reopening: false,
            is_stopping: false,
            trouble: None,
            totals: Totals::default(),
            bounds,
        }
    }

    /// A message has come.
    pub fn delivered(&mut self, delivery: DeliveryId, message: Result<Received, MessageError>, now: Instant) {
        self.deliveries.insert(delivery, now);
        let (stream, message) = match message {
            Err(MessageError::NotAnEvent) => {
                self.totals.rejected += 1;
                return self.reject.push(delivery);
            }
            Ok(end) if end.is_replay_end() => return self.acknowledge.push(delivery),
            Ok(event) => (event.stream_id.clone(), Ok(event)),
            Err(error @ MessageError::Broken { .. }) => {
                let why = error.to_string();
                let MessageError::Broken { stream_id, .. } = error else { return };
                (stream_id, Err(why))
            }
        };
        let lane = self.lane(&stream);
        match message {
            Ok(event) => lane.add(delivery, event),
            Err(why) => lane.add_unreadable(delivery, why),
        }
        self.make_ready(stream);
    }

    /// The connection is gone: everything unacknowledged comes again.
    pub fn connection_lost(&mut self) {
        self.is_reopening = false;
        self.deliveries.clear();
        self.acknowledge.clear();
        self.reject.clear();
        for lane in self.lanes.values_mut() {
            lane.forget_messages();
        }
        let idle: Vec<_> =
            self.lanes.iter().filter(|(_, lane)| lane.is_idle()).map(|(stream, _)| stream.clone()).collect();
        for stream in idle {
            self.close(&stream);
        }
    }

    /// The next thing to do, until there is none.
    pub fn next_task(&mut self, now: Instant) -> Option<Task> {
        while let Some((_, stream)) = self.resting.first().filter(|(until, _)| *until <= now).cloned() {
            self.resting.pop_first();
            if let Some(lane) = self.lanes.get_mut(&stream).filter(|lane| lane.not_before.is_some_and(|at| at <= now)) {
                lane.wake();
            }
            self.make_ready(stream);
        }
        if let Some(delivery) = self.reject.pop() {
            self.deliveries.remove(&delivery);
            return Some(Task::Reject(delivery));
        }
        if self.acknowledge.is_empty()
            && !self.is_stopping
            && let Some(task) = self.next_work(now)
        {
            return Some(task);
        }
        // Also what the steps above have found to be done with.
        if self.acknowledge.is_empty() {
            return None;
        }
        let done_with = std::mem::take(&mut self.acknowledge);
        for delivery in &done_with {
            self.deliveries.remove(delivery);
        }
        Some(Task::Acknowledge(done_with))
    }

    fn next_work(&mut self, now: Instant) -> Option<Task> {
        let is_too_old = self.oldest().is_some_and(|at| now >= at + self.bounds.hold_limit);
        if is_too_old && !self.is_reopening {
            self.is_reopening = true;
            self.totals.reopened += 1;
            return Some(Task::Reopen);
        }
        if self.means.has_inbox && !self.is_looking && now >= self.next_look {
            self.is_looking = true;
            return Some(Task::FindDue);
        }
        while self.under_way < self.bounds.concurrency {
            if self.catching_up < self.bounds.max_catching_up
                && let Some(stream) = self.waiting_for_room.pop_front()
            {
                self.ready.push_front(stream);
            }
            let stream = self.ready.pop_front()?;
            if let Some(task) = self.step(&stream, now) {
                self.under_way += 1;
                return Some(task);
            }
        }
        None
    }

    /// The next step of a stream that was ready.
    fn step(&mut self, stream: &StreamId, now: Instant) -> Option<Task> {
        let lane = self.lanes.get_mut(stream)?;
        lane.is_queued = false;
        if lane.is_under_way || lane.not_before.is_some() {
            return None;
        }
        if let Phase::Due(retry_at) = lane.phase {
            let retry_in = self.bounds.retry_delay(lane.attempts.saturating_add(1), &mut self.jitter);
            lane.is_under_way = true;
            return Some(Task::Claim(stream.clone(), retry_at, retry_in));
        }
        let (was_waiting, before) = (lane.waits.is_some(), self.acknowledge.len());
        match lane.step(stream, self.means, now, &mut self.acknowledge) {
            Step::Do(task) => {
                self.totals.duplicates += (self.acknowledge.len() - before) as u64;
                if matches!(task, Task::ReadStore(..)) {
                    if self.catching_up >= self.bounds.max_catching_up {
                        lane.is_queued = true;
                        self.waiting_for_room.push_back(stream.clone());
                        return None;
                    }
                    self.catching_up += 1;
                    self.totals.gaps += u64::from(lane.begins_to_read());
                }
                let lane = self.lanes.get_mut(stream)?;
                lane.is_under_way = true;
                Some(task)
            }
            Step::Fail(why) => {
                self.fail(stream, why, 0, now);
                None
            }
            Step::Nothing => {
                self.totals.duplicates += (self.acknowledge.len() - before) as u64;
                let Some((last, missing)) = lane.gap() else {
                    if lane.is_idle() {
                        self.close(stream);
                    }
                    return None;
                };
                if !was_waiting {
                    self.totals.gaps += 1;
                    let why = format!(
                        "version {missing} has not come, and the last one that was applied is {last}: a message was lost or is late. Without \
                         access to the events table it can only be waited for, or replayed to this queue by `streambox-relay replay`"
                    );
                    lane.waits = Some(Waits { why, since: now });
                }
                lane.miss();
                let delay = self.bounds.retry_delay(lane.attempts, &mut self.jitter);
                self.let_rest(stream, now + delay.min(self.bounds.hold_limit / 4));
                None
            }
        }
    }

    /// Takes the result of a task.
    pub fn done(&mut self, done: Done, now: Instant) {
        let stream = match &done {
            Done::FoundDue(_) => {
                self.is_looking = false;
                let Done::FoundDue(found) = done else { return };
                return self.found_due(found, now);
            }
            Done::Applied(event, _) => event.stream_id.clone(),
            Done::ReadPosition(stream, _)
            | Done::ReadStore(stream, _)
            | Done::CheckedHistory(stream, _)
            | Done::Parked(stream, ..)
            | Done::NotedLatest(stream, ..)
            | Done::Claimed(stream, _)
            | Done::Unparked(stream, _) => stream.clone(),
        };
        self.under_way -= 1;
        let Some(lane) = self.lanes.get_mut(&stream) else { return };
        lane.is_under_way = false;
        let held_history = lane.holds_history() || matches!(done, Done::ReadStore(..));
        self.take(&stream, done, now);
        let Some(lane) = self.lanes.get(&stream) else { return };
        if held_history && !lane.holds_history() {
            self.catching_up -= 1;
        }
        if lane.not_before.is_none() {
            self.make_ready(stream);
        }
    }

    fn take(&mut self, stream: &StreamId, done: Done, now: Instant) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        match done {
            Done::Applied(event, Ok(Applied::Stored)) => {
                self.totals.applied += 1;
                self.totals.applied_from_store += u64::from(lane.holds_history());
                if lane.phase == Phase::Live {
                    lane.attempts = 0;
                }
                self.acknowledge.extend(lane.applied(&event, now));
            }
            Done::Applied(event, Ok(Applied::Moved)) => {
                let expected = lane.position().map_or(event.previous_version.unwrap_or(0), |position| position.version);
                lane.moved(expected);
            }
            Done::Applied(event, Err(why)) => self.fail(stream, why, event.version, now),
            Done::ReadPosition(_, Ok(position)) => {
                self.trouble = None;
                if let Err(why) = lane.set_position(position) {
                    self.fail(stream, why, 0, now);
                }
            }
            Done::ReadStore(_, Ok(page)) => lane.read(page),
            Done::ReadStore(_, Err(why)) if lane.phase == Phase::Parked => self.rest(stream, why, now),
            Done::ReadStore(_, Err(why)) => self.fail(stream, why, 0, now),
            Done::CheckedHistory(_, Ok(is_the_same)) => {
                if let Err(why) = lane.checked(is_the_same, now) {
                    self.fail(stream, why, 0, now);
                }
            }
            Done::Parked(_, parking, Ok(())) => {
                self.trouble = None;
                self.totals.parked += 1;
                lane.phase = Phase::Parked;
                lane.waits = None;
                let done_with = lane.take_through(parking.latest_version);
                self.acknowledge.extend(done_with);
                self.parked.put(stream.clone(), ());
                self.next_look = self.next_look.min(now + parking.retry_in);
            }
            Done::NotedLatest(_, version, Ok(is_parked)) => {
                self.trouble = None;
                if is_parked {
                    self.acknowledge.extend(lane.take_noted(version));
                } else {
                    // Another consumer has brought it up to date.
                    lane.phase = Phase::Live;
                    lane.forget_position();
                    self.parked.pop(stream);
                }
            }
            Done::Claimed(_, Ok(claimed)) => {
                self.trouble = None;
                lane.forget_position();
                // Without a claim another consumer retries it, or it is not parked any more, which the next message shows.
                lane.phase = claimed.map_or(Phase::Parked, Phase::Retrying);
                if let Some(claimed) = claimed {
                    lane.attempts = claimed.attempts;
                }
            }
            Done::Unparked(_, Ok(None)) => {
                self.trouble = None;
                self.totals.recovered += 1;
                lane.phase = Phase::Live;
                lane.attempts = 0;
                self.parked.pop(stream);
            }
            Done::Unparked(_, Ok(Some(latest_version))) => {
                if let Phase::Retrying(claimed) = &mut lane.phase {
                    claimed.latest_version = latest_version;
                }
                lane.read_anew();
            }
            Done::ReadPosition(_, Err(why))
            | Done::CheckedHistory(_, Err(why))
            | Done::Parked(_, _, Err(why))
            | Done::NotedLatest(_, _, Err(why))
            | Done::Claimed(_, Err(why))
            | Done::Unparked(_, Err(why)) => self.rest(stream, why, now),
            Done::FoundDue(_) => {}
        }
    }

    /// A stream can't be applied: it is parked, or waits with its messages.
    fn fail(&mut self, stream: &StreamId, reason: String, version: u64, now: Instant) {
        self.totals.failures += 1;
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        lane.failed();
        let retry_in = self.bounds.retry_delay(lane.attempts, &mut self.jitter);
        if self.means.has_inbox {
            let latest_version = lane.latest_version(version);
            lane.phase = Phase::Parking(Parking { reason, latest_version, retry_in });
            self.make_ready(stream.clone());
            return;
        }
        let since = lane.waits.as_ref().map_or(now, |waits| waits.since);
        lane.waits = Some(Waits { why: reason, since });
        // Another consumer may apply what this one can't, or an operator skip it.
        lane.forget_position();
        self.let_rest(stream, now + retry_in.min(self.bounds.hold_limit / 4));
    }

    /// A request has failed that is not the stream's fault.
    fn rest(&mut self, stream: &StreamId, why: String, now: Instant) {
        self.trouble = Some(why);
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        lane.attempts = lane.attempts.saturating_add(1);
        let delay = self.bounds.retry_delay(lane.attempts, &mut self.jitter).min(self.bounds.hold_limit / 4);
        self.let_rest(stream, now + delay);
    }

    fn let_rest(&mut self, stream: &StreamId, until: Instant) {
        if let Some(lane) = self.lanes.get_mut(stream) {
            lane.not_before = Some(until);
            self.resting.insert((until, stream.clone()));
        }
    }

    fn found_due(&mut self, found: Result<Vec<(StreamId, RetryAt)>, String>, now: Instant) {
        self.next_look = now + self.bounds.due_interval;
        match found {
            Ok(found) => {
                for (stream, retry_at) in found {
                    let lane = self.lane(&stream);
                    // What is being done about it needs no retry.
                    if matches!(lane.phase, Phase::Live | Phase::Parked) && !lane.is_under_way {
                        lane.phase = Phase::Due(retry_at);
                        self.make_ready(stream);
                    }
                }
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    fn lane(&mut self, stream: &StreamId) -> &mut Lane {
        let (positions, parked) = (&mut self.positions, &mut self.parked);
        self.lanes
            .entry(stream.clone())
            .or_insert_with(|| Lane::remembered(positions.pop(stream), parked.get(stream).is_some()))
    }

    /// A stream that has nothing to do is remembered.
    fn close(&mut self, stream: &StreamId) {
        if let Some(lane) = self.lanes.remove(stream)
            && let Some(position) = lane.position()
        {
            self.positions.put(stream.clone(), position);
        }
    }

    fn make_ready(&mut self, stream: StreamId) {
        if let Some(lane) = self.lanes.get_mut(&stream)
            && !lane.is_queued
            && !lane.is_under_way
            && lane.not_before.is_none()
        {
            lane.is_queued = true;
            self.ready.push_back(stream);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.deliveries.first_key_value().map(|(_, at)| *at)
    }

    /// The time of the next thing that waits for a time.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        if self.is_stopping {
            return None;
        }
        let rest = self.resting.first().map(|(until, _)| *until);
        let look = (self.means.has_inbox && !self.is_looking).then_some(self.next_look);
        let hold = self.oldest().filter(|_| !self.is_reopening).map(|at| at + self.bounds.hold_limit);
        rest.into_iter().chain(look).chain(hold).min()
    }

    /// Begins nothing new from now on.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether it was stopped, and nothing is under way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_stopping
            && self.under_way == 0
            && self.acknowledge.is_empty()
            && self.reject.is_empty()
            && !self.is_looking
    }

    /// Counts of what was done so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Messages that are not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.deliveries.len()
    }

    /// The first delivery that is not done with.
    #[must_use]
    pub fn first_open(&self) -> Option<DeliveryId> {
        self.deliveries.first_key_value().map(|(delivery, _)| *delivery)
    }

    /// Since when the oldest message is not acknowledged.
    #[must_use]
    pub fn oldest_unacknowledged(&self) -> Option<Instant> {
        self.oldest()
    }

    /// Streams that are worked on.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.lanes.len()
    }

    /// Requests under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Streams of which events of the store are held or being read.
    #[must_use]
    pub fn catching_up(&self) -> usize {
        self.catching_up
    }

    /// Why the last request failed that is not a stream's fault; none if one has succeeded since.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The streams that make no progress while their messages are kept, and why.
    pub fn waiting(&self) -> impl Iterator<Item = (&StreamId, &Waits)> {
        self.lanes.iter().filter_map(|(stream, lane)| Some((stream, lane.waits.as_ref()?)))
    }
}
