//! The simulated shell: carries out the tasks of a core on the models, as badly as the faults in force want it.

use std::ops::RangeInclusive;

use streambox::message::MessageError;
use streambox_consumer::{
    Applied,
    core::{Claimed, Done, RetryAt, Task},
};

use super::{
    super::scenario::Ms,
    broker::{Message, Tag},
    mutant::Mutant,
    oracle::Promise,
    scenario::FaultKind,
    store::{EventNumber, event_number, number, stream_id},
    words,
    world::{EPOCH_MS, Happening, World},
};

/// How long a request, its answer, or a message is under way.
const LATENCY_MS: RangeInclusive<Ms> = 1..=15;
const SLOW_LATENCY_MS: RangeInclusive<Ms> = 100..=3_000;

/// More tasks than a core has to give at one moment.
const MAX_TASKS: usize = 1_000;

/// How a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It is not carried out.
    Refused,
    /// It is carried out, and the answer is lost.
    Lost,
}

impl World<'_> {
    pub(super) fn latency(&mut self) -> Ms {
        let range = if self.has(FaultKind::Slow) { SLOW_LATENCY_MS } else { LATENCY_MS };
        self.random.u64(range)
    }

    /// The broker sends what consumers have room for.
    pub(super) fn deliver(&mut self) {
        while let Some((number, tag)) = {
            let random = &mut self.random;
            self.broker.deliver(|count| random.usize(0..count))
        } {
            let (latency, now) = (self.latency(), self.now);
            let Some(life) = self.life(number) else { continue };
            let Some(process) = self.process(number, life) else { continue };
            process.last_arrival = (now + latency).max(process.last_arrival);
            let at = process.last_arrival;
            self.at(at, Happening::Delivered(number, life, tag));
        }
    }

    pub(super) fn connect(&mut self, number: usize, life: u32) {
        if self.process(number, life).is_none() {
            return;
        }
        if u8::try_from(number).is_ok_and(|number| self.has(FaultKind::Disconnect(number))) {
            return self.at(self.now + 400, Happening::Connect(number, life));
        }
        let connection = self.broker.connect(number, self.scenario.consumers[number].prefetch);
        if let Some(process) = self.process(number, life) {
            process.connection = Some(connection);
        }
        self.note(|| format!("consumer {number} is connected"));
    }

    /// The connection of a consumer ends.
    pub(super) fn disconnect(&mut self, number: usize) {
        let (Some(life), Some((connection, returned))) = (self.life(number), self.broker.disconnect(number)) else {
            return;
        };
        self.coverage.returned += returned as u64;
        let at = self.now + self.latency();
        self.at(at, Happening::Lost(number, life, connection));
    }

    pub(super) fn lost(&mut self, number: usize, life: u32, connection: u64) {
        self.note(|| format!("consumer {number} has lost its connection"));
        self.with_process(number, life, |process, _| {
            if process.connection == Some(connection) {
                process.connection = None;
                process.tags.clear();
                process.core.connection_lost();
            }
        });
        let at = self.now + self.latency();
        self.at(at, Happening::Connect(number, life));
    }

    pub(super) fn delivered(&mut self, number: usize, life: u32, tag: Tag) {
        let Some(message) = self.broker.message(number, tag) else { return };
        self.note(|| format!("consumer {number} gets {message:?}"));
        let received = match message {
            Message::Foreign => Err(MessageError::NotAnEvent),
            Message::Damaged(event) => Err(MessageError::Broken {
                stream_id: stream_id(self.store.event(event).stream),
                part: "header version",
                why: "is damaged".to_owned(),
            }),
            Message::Event(event) => {
                let mut received = self.store.received(event);
                if self.mutant == Some(Mutant::SkipGaps) {
                    let position = self.inbox.item(self.store.event(event).stream).position.version;
                    let previous = received.previous_version.unwrap_or(0).min(position);
                    received.previous_version = Some(previous).filter(|previous| *previous > 0);
                }
                Ok(received)
            }
        };
        if self.mutant == Some(Mutant::AckFirst) {
            self.acknowledge(number, tag);
        }
        self.with_process(number, life, |process, instant| {
            if process.connection == Some(tag.connection) {
                process.next_delivery += 1;
                process.tags.insert(process.next_delivery, tag);
                process.core.delivered(process.next_delivery, received, instant);
            }
        });
    }

    /// A consumer sends an acknowledgement.
    fn acknowledge(&mut self, number: usize, tag: Tag) {
        if let Some(event) = self.broker.message(number, tag).and_then(Message::event) {
            let item = self.inbox.item(self.store.event(event).stream);
            let has_store = self.scenario.consumers[number].has_store;
            self.note(|| format!("consumer {number} acknowledges event {event}"));
            self.oracle.acknowledged(&self.store, &item, has_store, event, self.now);
        }
        let at = self.now + self.latency();
        self.at(at, Happening::Acknowledge(number, tag));
    }

    /// Takes everything that a core wants to be done.
    pub(super) fn pump(&mut self, number: usize, life: u32) {
        let instant = self.instant();
        for tasks in 0.. {
            let Some(task) = self.process(number, life).and_then(|process| process.core.next_task(instant)) else {
                break;
            };
            if tasks > MAX_TASKS {
                return self.oracle.broken(Promise::Bounded, self.now, "a core never runs out of tasks".to_owned());
            }
            self.begin(number, life, task);
        }
        self.check(number, life);
        let Some(process) = self.process(number, life) else { return };
        if process.core.is_finished() {
            let at = self.now + 3_000;
            return self.at(at, Happening::Stopped(number, life));
        }
        // The due time lies within a millisecond.
        let Some(due) = process.core.next_due() else { return };
        let (due_ms, now) = (self.ms(due) + 1, self.now);
        let Some(process) = self.process(number, life) else { return };
        let planned = process.wakes_at.filter(|at| *at > now);
        if planned.is_none_or(|at| at > due_ms) {
            process.wakes_at = Some(due_ms);
            self.at(due_ms.max(now), Happening::Wake(number, life));
        }
    }

    fn check(&mut self, number: usize, life: u32) {
        let (limits, plan) = (self.scenario.limits, self.scenario.consumers[number]);
        let Some(process) = self.process(number, life) else { return };
        let core = &process.core;
        let held = (core.under_way(), core.catching_up(), core.unacknowledged());
        let (under_way, catching_up, unacknowledged) = held;
        let is_bounded =
            under_way <= limits.concurrency && catching_up <= limits.max_catching_up && unacknowledged <= plan.prefetch;
        let noticed: Vec<_> = core
            .waiting()
            .filter(|(_, waits)| waits.why.contains("restored"))
            .map(|(stream, _)| super::store::number(stream))
            .collect();
        for stream in noticed {
            self.notice(stream);
        }
        if !is_bounded && self.mutant != Some(Mutant::AckFirst) {
            let what = format!("requests, streams catching up, messages: {held:?}");
            self.oracle.broken(Promise::Bounded, self.now, what);
        }
    }

    fn notice(&mut self, stream: u8) {
        if self.oracle.notices(stream) {
            self.note(|| format!("the changed history of s{stream} is noticed"));
            self.coverage.forks_noticed += 1;
        }
    }

    fn begin(&mut self, number: usize, life: u32, task: Task) {
        if let Some(words) = words::of_task(&task) {
            self.note(|| format!("consumer {number} wants {words}"));
        }
        let latency = self.latency();
        match task {
            Task::Acknowledge(deliveries) => {
                for delivery in deliveries {
                    let tag = self.process(number, life).and_then(|process| process.tags.remove(&delivery));
                    if let Some(tag) = tag {
                        self.acknowledge(number, tag);
                    }
                }
            }
            Task::Reject(delivery) => {
                if let Some(tag) = self.process(number, life).and_then(|process| process.tags.remove(&delivery)) {
                    self.at(self.now + latency, Happening::Acknowledge(number, tag));
                }
            }
            Task::Reopen if self.mutant == Some(Mutant::Requeue) => {
                self.broker.requeue(number);
                if let Some(process) = self.process(number, life) {
                    process.tags.clear();
                    process.core.connection_lost();
                }
            }
            Task::Reopen if self.mutant == Some(Mutant::RequeueUnsaid) => _ = self.broker.requeue(number),
            Task::Reopen => self.disconnect(number),
            task => self.at(self.now + latency, Happening::Execute(number, life, task)),
        }
    }

    fn fate(&mut self, task: &Task) -> Fate {
        let is_away = match task {
            Task::ReadStore(..) | Task::CheckHistory(..) => {
                self.has(FaultKind::StoreAway) || self.is_restoring_events()
            }
            _ => self.has(FaultKind::InboxAway) || self.is_restoring_inbox(),
        };
        let fails = self.has(FaultKind::InboxErrors) && !matches!(task, Task::ReadStore(..) | Task::CheckHistory(..));
        match self.random.u8(0..10) {
            _ if is_away => Fate::Refused,
            0..=2 if fails => Fate::Refused,
            3..=4 if fails => Fate::Lost,
            _ => Fate::Answered,
        }
    }

    /// A request reaches the database, whatever has become of its sender.
    pub(super) fn execute(&mut self, consumer: usize, life: u32, task: Task) {
        let fate = self.fate(&task);
        let failure = failed(&task);
        let handles =
            !matches!(&task, Task::Apply(event, _) if self.handler_fails(number(&event.stream_id), event.version));
        if !handles && self.mutant == Some(Mutant::RetryInPlace) {
            return self.at(self.now + 500, Happening::Execute(consumer, life, task));
        }
        let done = if fate == Fate::Refused || !handles { None } else { Some(self.perform(consumer, life, task)) };
        self.coverage.refused += u64::from(fate == Fate::Refused);
        self.coverage.lost_answers += u64::from(fate == Fate::Lost && handles);
        self.coverage.handler_failures += u64::from(fate != Fate::Refused && !handles);
        let done = done.filter(|_| fate == Fate::Answered).unwrap_or(failure);
        let done = self.mutated(done);
        let at = self.now + self.latency();
        self.at(at, Happening::Result(consumer, life, done));
        if self.has(FaultKind::DieAfterwards) && self.chance(15) && self.process(consumer, life).is_some() {
            self.coverage.died_afterwards += 1;
            self.end_life(consumer);
            let again_at = self.now + self.random.u64(100..2_000);
            self.at(again_at, Happening::Start(consumer));
        }
    }

    fn handler_fails(&self, stream: u8, version: u64) -> bool {
        let poison = self.scenario.poison;
        poison.is_some_and(|poison| poison.stream == stream && poison.version == version)
            || self.has(FaultKind::HandlerFails(stream))
    }

    fn perform(&mut self, consumer: usize, life: u32, task: Task) -> Done {
        let now = self.now;
        let clock = EPOCH_MS + i64::try_from(now).unwrap_or(i64::MAX) + self.scenario.consumers[consumer].clock_ms;
        let later = |delay: std::time::Duration| -> RetryAt { clock + i64::try_from(delay.as_millis()).unwrap_or(0) };
        match task {
            Task::ReadPosition(stream) => {
                let position = self.inbox.item(number(&stream)).position;
                Done::ReadPosition(stream, Ok(position))
            }
            Task::Apply(event, last) => {
                let applied = self.apply(consumer, life, event_number(event.event_id), last);
                Done::Applied(event, Ok(applied))
            }
            Task::ReadStore(stream, after, last) => {
                let page = self.store.page(number(&stream), after, last, self.scenario.limits.page_events);
                Done::ReadStore(stream, Ok(page))
            }
            Task::CheckHistory(stream, position) => {
                let is_the_same = self.store.has_position(number(&stream), position);
                Done::CheckedHistory(stream, Ok(is_the_same || self.mutant == Some(Mutant::SkipCheck)))
            }
            Task::Park(id, parking) => {
                let stream = number(&id);
                self.inbox.park(stream, &parking.reason, parking.latest_version, later(parking.retry_in), now);
                self.oracle.covers(stream, parking.latest_version);
                self.coverage.parked += 1;
                if parking.reason.contains("restored") {
                    self.notice(stream);
                }
                Done::Parked(id, parking, Ok(()))
            }
            Task::NoteLatest(id, version) => {
                let stream = number(&id);
                let notes = self.mutant != Some(Mutant::NoteNothing);
                let is_parked = !notes || self.inbox.note_latest(stream, version, now);
                if is_parked && notes {
                    self.oracle.covers(stream, version);
                }
                self.coverage.noted += u64::from(is_parked);
                self.coverage.not_parked += u64::from(!is_parked);
                Done::NotedLatest(id, version, Ok(is_parked))
            }
            Task::Claim(id, seen, retry_in) => {
                let claimed = if self.mutant == Some(Mutant::NoClaim) {
                    self.inbox.item(number(&id)).mark
                } else {
                    self.inbox.claim(number(&id), seen, later(retry_in), now)
                };
                self.coverage.claimed += u64::from(claimed.is_some());
                self.coverage.claims_lost += u64::from(claimed.is_none());
                let claimed =
                    claimed.map(|mark| Claimed { attempts: mark.attempts, latest_version: mark.latest_version });
                Done::Claimed(id, Ok(claimed))
            }
            Task::Unpark(id, last) => {
                let (stream, before) = (number(&id), self.inbox.item(number(&id)));
                let is_blind = self.mutant == Some(Mutant::UnparkBlindly);
                let latest = self.inbox.unpark(stream, if is_blind { u64::MAX } else { last }, now);
                self.coverage.marks_kept += u64::from(latest.is_some());
                // A consumer may remember a position from before the restore.
                if latest.is_none() && !self.oracle.may_remember {
                    self.oracle.unparked(&self.store, stream, &before, now);
                }
                Done::Unparked(id, Ok(latest))
            }
            Task::FindDue => {
                let lag = self.random.u64(0..=self.scenario.limits.index_lag_ms);
                let due = self.inbox.due(clock, now.saturating_sub(lag));
                Done::FoundDue(Ok(due.into_iter().map(|(stream, at)| (stream_id(stream), at)).collect()))
            }
            Task::Acknowledge(_) | Task::Reject(_) | Task::Reopen => unreachable!("it is not a request"),
        }
    }

    fn apply(&mut self, consumer: usize, life: u32, event: EventNumber, last: u64) -> Applied {
        let (stream, version, now) = (self.store.event(event).stream, self.store.event(event).version, self.now);
        let before = self.inbox.item(stream);
        let last = if self.mutant == Some(Mutant::NoCondition) { before.position.version } else { last };
        if before.position.version != last {
            self.coverage.moved += 1;
            return Applied::Moved;
        }
        self.note(|| format!("the effect of s{stream} v{version}, event {event}, is stored"));
        self.coverage.effects += 1;
        self.oracle.applies(&self.store, &before, event, now);
        if self.mutant == Some(Mutant::PositionApart) {
            self.inbox.add_effect(stream, event, now);
            let at = now + self.latency();
            self.at(at, Happening::SetPosition(consumer, life, event));
            return Applied::Stored;
        }
        self.inbox.apply(stream, event, version, last, now)
    }

    /// A mutant's second request.
    pub(super) fn set_position(&mut self, consumer: usize, life: u32, event: EventNumber) {
        if self.process(consumer, life).is_some() {
            let id = super::store::event_id(event);
            let (stream, version) = (self.store.event(event).stream, self.store.event(event).version);
            self.inbox.set_position(stream, version, Some(id), self.now);
        }
    }

    /// What a mutant makes of a result.
    fn mutated(&self, done: Done) -> Done {
        match (self.mutant, done) {
            (Some(Mutant::TrustAssumed), Done::Applied(event, Ok(Applied::Moved)))
            | (Some(Mutant::TrustErrors), Done::Applied(event, Err(_))) => Done::Applied(event, Ok(Applied::Stored)),
            (Some(Mutant::TrustPark), Done::Parked(stream, parking, Err(_))) => Done::Parked(stream, parking, Ok(())),
            (_, done) => done,
        }
    }
}

/// The result of a request without an answer.
fn failed(task: &Task) -> Done {
    let why = || "there is no answer".to_owned();
    match task.clone() {
        Task::ReadPosition(stream) => Done::ReadPosition(stream, Err(why())),
        Task::Apply(event, _) => Done::Applied(event, Err(why())),
        Task::ReadStore(stream, ..) => Done::ReadStore(stream, Err(why())),
        Task::CheckHistory(stream, _) => Done::CheckedHistory(stream, Err(why())),
        Task::Park(stream, parking) => Done::Parked(stream, parking, Err(why())),
        Task::NoteLatest(stream, version) => Done::NotedLatest(stream, version, Err(why())),
        Task::Claim(stream, ..) => Done::Claimed(stream, Err(why())),
        Task::Unpark(stream, _) => Done::Unparked(stream, Err(why())),
        Task::FindDue => Done::FoundDue(Err(why())),
        Task::Acknowledge(_) | Task::Reject(_) | Task::Reopen => unreachable!("it is not a request"),
    }
}
