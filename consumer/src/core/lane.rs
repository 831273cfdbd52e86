//! One stream that is worked on: what is known of it, and its next step.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use streambox::{StreamId, Uuid, message::Received};
use tokio::time::Instant;

use super::{
    Means,
    task::{Claimed, DeliveryId, Parking, RetryAt, StorePage, Task},
};
use crate::Position;

/// A stream that is worked on. One request of it is under way at a time.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about what was read and what is asked for"
)]
pub(super) struct Lane {
    position: Known,
    /// When the store was last seen to have the event that the position names.
    checked_at: Option<Instant>,
    /// By version and event: two events of one version are of different histories.
    messages: BTreeMap<(u64, Uuid), Message>,
    /// Messages of this stream that can't be read, and why the first one can't.
    unreadable: Vec<DeliveryId>,
    unreadable_why: Option<String>,
    /// Read from the store and not applied yet.
    history: VecDeque<Arc<Received>>,
    /// The version up to which the store was read.
    read_through: u64,
    /// Whether the store had nothing behind that, at a time when every message of the lane was there.
    is_end: bool,
    /// Whether a message has come since the store was last asked.
    is_read_late: bool,
    pub(super) phase: Phase,
    pub(super) is_under_way: bool,
    pub(super) is_queued: bool,
    /// It is not worked on before.
    pub(super) not_before: Option<Instant>,
    /// Failed attempts in a row.
    pub(super) attempts: u32,
    /// Why it is not worked on, since when.
    pub(super) waits: Option<Waits>,
    /// It rests because events are missing that can't be read: a message ends the rest.
    misses: bool,
}

/// Why a stream with unacknowledged messages makes no progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    /// Why, as a sentence.
    pub why: String,
    /// Since when.
    pub since: Instant,
}

/// What is known of how far the stream is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Known {
    /// Nothing: the next message may be assumed to be the next event. The projection refuses it if it is not.
    #[default]
    Nothing,
    /// The projection has refused an event at this version: its position has to be read.
    NotAt(Option<u64>),
    At(Position),
}

#[derive(Debug)]
struct Message {
    event: Arc<Received>,
    deliveries: Vec<DeliveryId>,
}

/// Where a stream is in its life.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Phase {
    /// It is applied from its messages.
    #[default]
    Live,
    /// It could not be applied, which is being noted.
    Parking(Parking),
    /// It is noted as parked: its messages are acknowledged.
    Parked,
    /// It is parked, and was to be retried at this time.
    Due(RetryAt),
    /// It is parked, and this consumer retries it.
    Retrying(Claimed),
}

/// What a lane does next.
pub(super) enum Step {
    Do(Task),
    /// It can't be applied, for this reason.
    Fail(String),
    /// Nothing, until something comes.
    Nothing,
}

impl Lane {
    /// One that is remembered to be parked, or at this position.
    pub(super) fn remembered(position: Option<Position>, is_parked: bool) -> Self {
        let phase = if is_parked { Phase::Parked } else { Phase::Live };
        Self { position: position.map_or(Known::Nothing, Known::At), phase, ..Self::default() }
    }

    pub(super) fn position(&self) -> Option<Position> {
        if let Known::At(position) = self.position { Some(position) } else { None }
    }

    pub(super) fn add(&mut self, delivery: DeliveryId, event: Received) {
        (self.is_end, self.is_read_late) = (false, true);
        if self.position().is_some_and(|position| contradicts(position, &event)) {
            // A check from before it came says nothing about it.
            self.checked_at = None;
        }
        let message = self.messages.entry((event.version, event.event_id));
        let message = message.or_insert_with(|| Message { event: Arc::new(event), deliveries: Vec::new() });
        message.deliveries.push(delivery);
        if std::mem::take(&mut self.misses) {
            self.not_before = None;
        }
    }

    pub(super) fn add_unreadable(&mut self, delivery: DeliveryId, why: String) {
        (self.is_end, self.is_read_late) = (false, true);
        self.checked_at = None;
        self.unreadable.push(delivery);
        self.unreadable_why.get_or_insert(why);
    }

    /// It rests until then because events are missing, unless a message comes.
    pub(super) fn miss(&mut self) {
        self.misses = true;
    }

    /// Its rest is over.
    pub(super) fn wake(&mut self) {
        self.not_before = None;
        if std::mem::take(&mut self.misses) {
            // Another consumer has applied what is missing, or an operator has skipped it.
            self.attempts = self.attempts.saturating_add(1);
            self.forget_position();
        }
    }

    /// Forgets all messages: the broker delivers them again.
    pub(super) fn forget_messages(&mut self) {
        self.messages.clear();
        self.unreadable.clear();
        self.unreadable_why = None;
        self.waits = None;
    }

    /// Whether there is nothing to do for it until a message comes.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty()
            && self.unreadable.is_empty()
            && self.history.is_empty()
            && !self.is_under_way
            && matches!(self.phase, Phase::Live | Phase::Parked)
    }

    /// Whether it holds events of the store.
    pub(super) fn holds_history(&self) -> bool {
        !self.history.is_empty()
    }

    /// The newest version that there is a message of, or that one was acknowledged of.
    pub(super) fn latest_version(&self, at_least: u64) -> u64 {
        let claimed = if let Phase::Retrying(claimed) = self.phase { claimed.latest_version } else { 0 };
        self.messages.keys().next_back().map_or(0, |(version, _)| *version).max(claimed).max(at_least)
    }

    /// The mark covers everything up to a version: the deliveries of that.
    pub(super) fn take_noted(&mut self, version: u64) -> Vec<DeliveryId> {
        let mut done_with = self.take_through(version);
        if self.is_end {
            done_with.append(&mut self.unreadable);
            self.unreadable_why = None;
        }
        done_with
    }

    /// The deliveries of all messages up to a version.
    pub(super) fn take_through(&mut self, version: u64) -> Vec<DeliveryId> {
        let behind = self.messages.split_off(&(version.saturating_add(1), Uuid::nil()));
        let taken = std::mem::replace(&mut self.messages, behind);
        taken.into_values().flat_map(|message| message.deliveries).collect()
    }

    /// Decides what is next. What is known as applied goes to `done_with`.
    pub(super) fn step(
        &mut self,
        stream: &StreamId,
        means: Means,
        now: Instant,
        done_with: &mut Vec<DeliveryId>,
    ) -> Step {
        match &self.phase {
            Phase::Parking(parking) => {
                let latest_version = self.latest_version(parking.latest_version);
                Step::Do(Task::Park(stream.clone(), Parking { latest_version, ..parking.clone() }))
            }
            Phase::Parked => {
                let latest = self.messages.keys().next_back().map(|(version, _)| *version);
                match latest {
                    // What can't be read is covered when everything is that the store has.
                    _ if !self.unreadable.is_empty() && !self.is_end => {
                        let last = self.position().map_or(0, |position| position.version);
                        Step::Do(Task::ReadStore(stream.clone(), last.max(self.read_through), last))
                    }
                    None if self.unreadable.is_empty() => Step::Nothing,
                    _ => Step::Do(Task::NoteLatest(stream.clone(), self.read_through.max(latest.unwrap_or(0)))),
                }
            }
            Phase::Due(_) => unreachable!("the core claims it"),
            Phase::Live => self.advance(None, stream, means, now, done_with),
            Phase::Retrying(claimed) => self.advance(Some(*claimed), stream, means, now, done_with),
        }
    }

    fn advance(
        &mut self,
        retrying: Option<Claimed>,
        stream: &StreamId,
        means: Means,
        now: Instant,
        done_with: &mut Vec<DeliveryId>,
    ) -> Step {
        let needs_position = retrying.is_some() || !self.unreadable.is_empty();
        match self.position {
            Known::NotAt(_) => return Step::Do(Task::ReadPosition(stream.clone())),
            Known::Nothing if needs_position => return Step::Do(Task::ReadPosition(stream.clone())),
            Known::Nothing => {}
            Known::At(position) => {
                let is_recent =
                    self.checked_at.is_some_and(|at| now.saturating_duration_since(at) < means.check_interval);
                let can_check = means.has_store && position.event_id.is_some() && !is_recent;
                // A retry begins with a check, and an old event may be the first one of another history. So may one that can't be read.
                let first = self.messages.values().next().map(|message| &message.event);
                let is_old = first.is_some_and(|event| event.version <= position.version);
                let contradicts = self.is_contradicted(position);
                if can_check && (needs_position || is_old || contradicts) {
                    return Step::Do(Task::CheckHistory(stream.clone(), position));
                }
                if !means.has_store && contradicts {
                    return Step::Fail(other_history(position.version));
                }
                done_with.extend(self.take_through(position.version));
                if let Some(event) = self.history.front() {
                    return Step::Do(Task::Apply(Arc::clone(event), position.version));
                }
                if let Some(step) = self.catch_up(retrying, position.version, stream, means, done_with) {
                    return step;
                }
            }
        }
        let Some(message) = self.messages.values().next() else { return Step::Nothing };
        let (event, previous) = (&message.event, message.event.previous_version.unwrap_or(0));
        let last = self.position().map_or(previous, |position| position.version);
        // One that contradicts the position, though the store has what the position names, is of a history that is no more.
        let is_contradicting = self.position().is_some_and(|position| contradicts(position, event));
        if previous <= last && !is_contradicting {
            return Step::Do(Task::Apply(Arc::clone(event), last));
        }
        self.read_on(last, event.version, stream, means)
    }

    /// Whether a message that is next, or was, belongs to another history than the position.
    fn is_contradicted(&self, position: Position) -> bool {
        let through = self.messages.range((position.version, Uuid::nil())..);
        let mut seen = through.map(|(_, message)| &message.event);
        seen.any(|event| contradicts(position, event))
    }

    /// What is to be read beside what a message shows: for a retry, and for messages that can't be read.
    fn catch_up(
        &mut self,
        retrying: Option<Claimed>,
        last: u64,
        stream: &StreamId,
        means: Means,
        done_with: &mut Vec<DeliveryId>,
    ) -> Option<Step> {
        if let Some(claimed) = retrying {
            // Of what was read everything is applied; behind the last one there may be private events.
            let through = last.max(self.read_through);
            return Some(if through >= claimed.latest_version {
                Step::Do(Task::Unpark(stream.clone(), through))
            } else {
                self.read_on(last, claimed.latest_version, stream, means)
            });
        }
        let why = self.unreadable_why.as_ref()?;
        if !means.has_store {
            return Some(Step::Fail(why.clone()));
        }
        if !self.is_end {
            return Some(Step::Do(Task::ReadStore(stream.clone(), last.max(self.read_through), last)));
        }
        // Whatever they were, everything that the store has is applied.
        done_with.append(&mut self.unreadable);
        self.unreadable_why = None;
        None
    }

    /// A version is missing that the store has, or that will still come.
    fn read_on(&self, last: u64, wanted: u64, stream: &StreamId, means: Means) -> Step {
        if !means.has_store {
            return Step::Nothing;
        }
        if self.read_through >= wanted {
            return Step::Fail(format!(
                "there was a message of version {wanted} of this stream, which is not a public event of the events table: is it the table \
                 that the relay publishes from, or was it restored?"
            ));
        }
        if self.is_end {
            return Step::Fail(format!(
                "the events table has this stream up to version {}, and there was a message of version {wanted}: is it the table that \
                 the relay publishes from, or was it restored?",
                self.read_through,
            ));
        }
        Step::Do(Task::ReadStore(stream.clone(), last.max(self.read_through), last))
    }

    /// The store is read. Whether that begins to read what is missing.
    pub(super) fn begins_to_read(&mut self) -> bool {
        self.is_read_late = false;
        self.read_through == 0 && self.gap().is_some()
    }

    /// The versions between which events are missing, if it waits for them.
    pub(super) fn gap(&self) -> Option<(u64, u64)> {
        let (last, first) = (self.position()?.version, self.messages.values().next()?);
        let previous = first.event.previous_version.unwrap_or(0);
        (previous > last).then_some((last, previous))
    }

    pub(super) fn set_position(&mut self, position: Position) -> Result<(), String> {
        let before = std::mem::replace(&mut self.position, Known::At(position));
        self.doubt_check(position);
        match before {
            Known::NotAt(Some(refused)) if refused == position.version => Err(format!(
                "the projection did not store an event at version {refused}, and its position is still {refused}: `apply` has to store \
                 it, or return an error"
            )),
            _ => Ok(()),
        }
    }

    /// Its effect is stored. Returns the deliveries of its message: any other, even of its version, may be of another history.
    pub(super) fn applied(&mut self, event: &Received, now: Instant) -> Vec<DeliveryId> {
        let position = Position { version: event.version, event_id: Some(event.event_id) };
        self.position = Known::At(position);
        if self.history.front().is_some_and(|first| first.version <= event.version) {
            self.history.pop_front();
            // It was read from the store.
            self.checked_at = Some(now);
        }
        self.waits = None;
        let message = self.messages.remove(&(event.version, event.event_id));
        self.doubt_check(position);
        message.map_or_else(Vec::new, |message| message.deliveries)
    }

    /// A check from before it was at this position says nothing about a message that contradicts it.
    fn doubt_check(&mut self, position: Position) {
        if self.is_contradicted(position) {
            self.checked_at = None;
        }
    }

    /// The projection is not at the version that was expected.
    pub(super) fn moved(&mut self, expected: u64) {
        // What was assumed may have been wrong; what was read may not.
        let refused = if let Known::At(position) = self.position { Some(position.version) } else { None };
        self.position = Known::NotAt(refused.filter(|version| *version == expected));
        self.drop_history();
    }

    /// Its position has to be read.
    pub(super) fn forget_position(&mut self) {
        self.position = Known::NotAt(None);
        self.checked_at = None;
        self.drop_history();
    }

    /// The store has more than it had.
    pub(super) fn read_anew(&mut self) {
        self.is_end = false;
    }

    fn drop_history(&mut self) {
        self.history.clear();
        (self.read_through, self.is_end) = (0, false);
    }

    pub(super) fn read(&mut self, page: StorePage) {
        let last = self.position().map_or(0, |position| position.version);
        // Of a parked stream nothing but its end is wanted.
        if self.phase != Phase::Parked {
            self.history.extend(page.events.into_iter().filter(|event| event.version > last));
        }
        self.read_through = page.through.max(self.read_through);
        // The message may be of an event that was appended after the read.
        self.is_end = page.is_end && !self.is_read_late;
    }

    /// Whether the store has the event that the position names.
    pub(super) fn checked(&mut self, is_the_same: bool, now: Instant) -> Result<(), String> {
        if is_the_same {
            self.checked_at = Some(now);
            return Ok(());
        }
        Err(other_history(self.position().map_or(0, |position| position.version)))
    }

    /// It can't be applied: nothing that was read is held meanwhile.
    pub(super) fn failed(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.drop_history();
    }
}

/// Whether the position and an event can't be of the same history: the event has its version and another id, or is behind it
/// without having seen it.
fn contradicts(position: Position, event: &Received) -> bool {
    let Some(event_id) = position.event_id else { return false };
    match event.version.cmp(&position.version) {
        Ordering::Less => false,
        Ordering::Equal => event.event_id != event_id,
        Ordering::Greater => event.previous_version.unwrap_or(0) < position.version,
    }
}

fn other_history(version: u64) -> String {
    format!(
        "version {version} of this stream is another event than the one that was applied: the events table was restored, and its history has gone on \
         differently. Rebuild the projection in a new generation"
    )
}
