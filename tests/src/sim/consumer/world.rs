//! The run of a scenario: what happens next in virtual time, and the parts that it happens to.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use streambox_consumer::core::{Done, Task};
use tokio::time::Instant;

use super::{
    super::{scenario::Ms, seeds, timeline::Timeline},
    broker::{Broker, Message, Tag},
    coverage::Coverage,
    inbox::{Inbox, Item},
    mutant::Mutant,
    oracle::{Oracle, Promise},
    process::Process,
    scenario::{FaultKind, Scenario},
    store::{EventNumber, Store},
    words,
};

/// When nothing has gone wrong for this long, nothing may be left to do.
const PATIENCE_MS: Ms = 150_000;

/// After the last fault the relay may still publish, and messages come that were put behind others.
const BELL_MS: Ms = 4_000;

/// After this time what waits will wait for ever: everything that was kept too long has come again.
const SETTLED_MS: Ms = 40_000;

/// More steps than any run needs: a consumer that never rests.
const MAX_STEPS: u64 = 200_000;

/// By some moment in the middle of its life.
pub(super) const EPOCH_MS: i64 = 1_780_000_000_000;

/// Something that happens.
pub(super) enum Happening {
    Append(usize),
    /// When all is calm, one more event comes in each stream.
    Bell,
    FaultBegins(usize),
    FaultEnds(usize),
    /// A restore returns to this moment.
    Snapshot(usize),
    /// The relay publishes an event.
    Publish(EventNumber),
    /// A message comes once more.
    Late(Message),
    /// A message comes behind its successors.
    Requeued(Message),
    /// A consumer's process starts.
    Start(usize),
    /// It has stopped.
    Stopped(usize, u32),
    Connect(usize, u32),
    Delivered(usize, u32, Tag),
    /// It learns that a connection is lost.
    Lost(usize, u32, u64),
    /// An acknowledgement reaches the broker.
    Acknowledge(usize, Tag),
    /// A consumer looks for what is due.
    Wake(usize, u32),
    /// A request is carried out.
    Execute(usize, u32, Task),
    /// A consumer learns the outcome.
    Result(usize, u32, Done),
    /// A mutant writes a position by itself.
    SetPosition(usize, u32, EventNumber),
}

/// Everything that a run consists of.
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) mutant: Option<Mutant>,
    pub(super) random: Rng,
    pub(super) now: Ms,
    /// The moment 0, for the cores.
    base: Instant,
    timeline: Timeline<Happening>,
    pub(super) store: Store,
    pub(super) broker: Broker,
    pub(super) inbox: Inbox,
    pub(super) oracle: Oracle,
    pub(super) coverage: Coverage,
    /// In force, each by the number of its fault.
    faults: BTreeMap<usize, FaultKind>,
    pub(super) processes: Vec<Option<Process>>,
    snapshots: BTreeMap<usize, (Ms, BTreeMap<u8, Item>)>,
    published_until: BTreeMap<u8, Ms>,
    has_rung: bool,
    trace: Option<Vec<String>>,
}

pub(super) type Ended = seeds::Ended<Promise, Coverage>;

/// Runs a scenario to its end or to the first promise that is broken.
pub(super) fn run(scenario: &Scenario, mutant: Option<Mutant>, is_traced: bool, base: Instant) -> Ended {
    let mut world = World {
        scenario,
        mutant,
        random: Rng::with_seed(scenario.seed),
        now: 0,
        base,
        timeline: Timeline::new(),
        store: Store::new(),
        broker: Broker::default(),
        inbox: Inbox::default(),
        oracle: Oracle::default(),
        coverage: Coverage::default(),
        faults: BTreeMap::new(),
        processes: scenario.consumers.iter().map(|_| None).collect(),
        snapshots: BTreeMap::new(),
        published_until: BTreeMap::new(),
        has_rung: !scenario.has(FaultKind::loses),
        trace: is_traced.then(Vec::new),
    };
    world.oracle.may_pass_forks = scenario.consumers.len() > 1
        || scenario.has(|kind| {
            let loses = kind.loses() && !matches!(kind, FaultKind::RestoreEvents(_));
            let shuffles = matches!(kind, FaultKind::Requeue | FaultKind::Cancel(_) | FaultKind::DeadLetter);
            loses || shuffles || matches!(kind, FaultKind::Skip(_))
        });
    world.oracle.may_remember = scenario.has(|kind| matches!(kind, FaultKind::RestoreInbox(_)));
    world.run();
    for number in 0..world.processes.len() {
        world.count_totals(number);
    }
    world.coverage.passed_after_notice = world.oracle.passed_after_notice;
    let violation = world.oracle.violation().cloned();
    Ended { violation, coverage: world.coverage, trace: world.trace.unwrap_or_default() }
}

impl World<'_> {
    fn run(&mut self) {
        for (number, append) in self.scenario.appends.iter().enumerate() {
            self.at(append.at_ms, Happening::Append(number));
        }
        for (number, fault) in self.scenario.faults.iter().enumerate() {
            if let FaultKind::RestoreEvents(back_ms) | FaultKind::RestoreInbox(back_ms) = fault.kind {
                self.at(fault.at_ms.saturating_sub(back_ms), Happening::Snapshot(number));
            }
            self.at(fault.at_ms, Happening::FaultBegins(number));
            self.at(fault.at_ms + fault.lasts_ms, Happening::FaultEnds(number));
        }
        for (number, consumer) in self.scenario.consumers.iter().enumerate() {
            self.at(consumer.starts_at_ms, Happening::Start(number));
        }
        let quiet_at = self.scenario.quiet_at_ms();
        self.at(quiet_at + BELL_MS, Happening::Bell);
        while let Some((at, what)) = self.timeline.pop() {
            self.now = at;
            self.coverage.steps += 1;
            self.step(what);
            self.deliver();
            let calm_ms = self.now.saturating_sub(quiet_at + BELL_MS);
            if self.oracle.violation().is_some() || (calm_ms > 0 && self.is_done(calm_ms > SETTLED_MS)) {
                return;
            }
            if self.now > quiet_at + PATIENCE_MS {
                return self.explain();
            }
            if self.coverage.steps > MAX_STEPS {
                self.oracle.broken(Promise::Bounded, self.now, "a consumer never rests".to_owned());
            }
        }
    }

    fn step(&mut self, what: Happening) {
        match what {
            Happening::Append(number) => {
                let plan = &self.scenario.appends[number];
                self.append(plan.stream, &plan.public, plan.published_after_ms, Happening::Append(number));
            }
            Happening::Bell => {
                if !std::mem::replace(&mut self.has_rung, true) {
                    for stream in self.store.streams().collect::<Vec<_>>() {
                        self.append(stream, &[true], 0, Happening::Bell);
                    }
                }
            }
            Happening::Snapshot(number) => {
                self.snapshots.insert(number, (self.now, self.inbox.snapshot()));
            }
            Happening::FaultBegins(number) => self.fault_begins(number),
            Happening::FaultEnds(number) => self.fault_ends(number),
            Happening::Publish(number) => self.publish(number),
            Happening::Late(message) => {
                self.coverage.duplicates += 1;
                self.broker.put(message);
            }
            Happening::Requeued(message) => self.broker.put(message),
            Happening::Start(number) => self.start(number),
            Happening::Stopped(number, life) => {
                if self.process(number, life).is_some() {
                    self.coverage.stopped += 1;
                    self.end_life(number);
                }
            }
            Happening::Connect(number, life) => self.connect(number, life),
            Happening::Delivered(number, life, tag) => self.delivered(number, life, tag),
            Happening::Lost(number, life, connection) => self.lost(number, life, connection),
            Happening::Acknowledge(number, tag) => {
                if self.broker.acknowledge(number, tag).is_some() {
                    self.coverage.acknowledged += 1;
                }
            }
            Happening::Wake(number, life) => self.with_process(number, life, |_, _| {}),
            Happening::Execute(number, life, task) => self.execute(number, life, task),
            Happening::Result(number, life, done) => {
                if let Some(words) = words::of_done(&done) {
                    self.note(|| format!("consumer {number} learns {words}"));
                }
                self.with_process(number, life, |process, instant| process.core.done(done, instant));
            }
            Happening::SetPosition(number, life, event) => self.set_position(number, life, event),
        }
    }

    fn append(&mut self, stream: u8, public: &[bool], published_after_ms: Ms, again: Happening) {
        if self.is_restoring_events() {
            return self.at(self.now + 500, again);
        }
        for is_public in public {
            let number = self.store.append(stream, *is_public, self.now);
            let event = self.store.event(number).clone();
            self.note(|| format!("append {event:?}"));
            if event.is_public {
                let until = self.published_until.entry(stream).or_default();
                *until = (self.now + published_after_ms).max(*until);
                let at = *until;
                self.at(at, Happening::Publish(number));
            }
        }
    }

    fn publish(&mut self, number: EventNumber) {
        if self.is_restoring_events() {
            return self.at(self.now + 500, Happening::Publish(number));
        }
        if !self.store.has(number) {
            return;
        }
        if self.has(FaultKind::Lose) && self.chance(50) {
            self.note(|| format!("the message of event {number} is lost"));
            self.coverage.lost += 1;
            return;
        }
        let is_damaged = self.has(FaultKind::Damage) && self.chance(40);
        self.coverage.damaged += u64::from(is_damaged);
        let message = if is_damaged { Message::Damaged(number) } else { Message::Event(number) };
        if self.has(FaultKind::Requeue) && self.chance(30) {
            self.note(|| format!("{message:?} comes later"));
            self.coverage.requeued += 1;
            let at = self.now + self.random.u64(0..3_000);
            return self.at(at, Happening::Requeued(message));
        }
        if self.has(FaultKind::DeadLetter) && self.chance(30) {
            self.note(|| format!("{message:?} goes to the dead letters"));
            self.coverage.dead_letters += 1;
            return self.broker.dead_letters.push_back(message);
        }
        self.note(|| format!("publish {message:?}"));
        self.broker.put(message);
        if self.has(FaultKind::Duplicates) && self.chance(50) {
            let late_ms = if self.chance(50) { 0 } else { self.random.u64(0..15_000) };
            self.at(self.now + late_ms, Happening::Late(message));
        }
    }

    fn fault_begins(&mut self, number: usize) {
        let fault = self.scenario.faults[number];
        self.note(|| format!("fault begins: {:?}, for {} ms", fault.kind, fault.lasts_ms));
        self.faults.insert(number, fault.kind);
        match fault.kind {
            FaultKind::Crash(consumer) => {
                self.coverage.crashes += 1;
                self.end_life(consumer.into());
            }
            FaultKind::Stop(consumer) => {
                if let Some(life) = self.life(consumer.into()) {
                    self.with_process(consumer.into(), life, |process, _| process.core.stop());
                }
            }
            FaultKind::Disconnect(consumer) => self.disconnect(consumer.into()),
            FaultKind::Requeue => self.coverage.requeued += u64::from(self.broker.put_back()),
            FaultKind::Cancel(consumer) => {
                self.coverage.requeued += self.broker.requeue(consumer.into()) as u64;
                self.disconnect(consumer.into());
            }
            FaultKind::Lose => self.coverage.lost += u64::from(self.broker.take_first().is_some()),
            FaultKind::Purge => self.coverage.lost += self.broker.purge() as u64,
            FaultKind::DeadLetter => {
                if let Some(message) = self.broker.take_first() {
                    self.coverage.dead_letters += 1;
                    self.broker.dead_letters.push_back(message);
                }
            }
            FaultKind::Foreign => {
                self.coverage.foreign += 1;
                self.broker.put(Message::Foreign);
            }
            FaultKind::Skip(stream) => self.skip(stream),
            _ => {}
        }
    }

    fn fault_ends(&mut self, number: usize) {
        let fault = self.scenario.faults[number];
        self.note(|| format!("fault ends: {:?}", fault.kind));
        self.faults.remove(&number);
        match fault.kind {
            FaultKind::Crash(consumer) | FaultKind::Stop(consumer) => {
                // One that was told to stop has done so by now, or is killed for it.
                let consumer = usize::from(consumer);
                if self.scenario.consumers[consumer].starts_at_ms <= self.now && !self.is_kept_down(consumer) {
                    self.end_life(consumer);
                    self.start(consumer);
                }
            }
            FaultKind::DeadLetter => {
                for message in std::mem::take(&mut self.broker.dead_letters) {
                    self.broker.put(message);
                }
            }
            FaultKind::RestoreEvents(_) => {
                let to = self.snapshots.get(&number).map_or(0, |(at, _)| *at);
                for stream in self.store.restore(to) {
                    self.note(|| format!("the history of s{stream} is what it was at {to} ms"));
                    self.coverage.forks += 1;
                    self.oracle.forked(stream);
                }
            }
            FaultKind::RestoreInbox(_) => {
                let Some((at, snapshot)) = self.snapshots.remove(&number) else { return };
                for stream in self.inbox.restore(&snapshot, self.now) {
                    self.note(|| format!("the effects of s{stream} are what they were at {at} ms"));
                    self.coverage.inbox_restores += 1;
                }
            }
            _ => {}
        }
    }

    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.faults.values().any(|other| *other == kind)
    }

    pub(super) fn is_restoring_events(&self) -> bool {
        self.faults.values().any(|kind| matches!(kind, FaultKind::RestoreEvents(_)))
    }

    pub(super) fn is_restoring_inbox(&self) -> bool {
        self.faults.values().any(|kind| matches!(kind, FaultKind::RestoreInbox(_)))
    }

    pub(super) fn is_kept_down(&self, number: usize) -> bool {
        self.faults.values().any(|kind| match kind {
            FaultKind::Crash(consumer) | FaultKind::Stop(consumer) => usize::from(*consumer) == number,
            _ => false,
        })
    }

    /// True in this percentage of cases.
    pub(super) fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(0..100) < percent
    }

    pub(super) fn at(&mut self, at: Ms, what: Happening) {
        self.timeline.push(at, what);
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + Duration::from_millis(self.now)
    }

    pub(super) fn ms(&self, instant: Instant) -> Ms {
        u64::try_from((instant - self.base).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} ms  {}", self.now, line()));
        }
    }
}
