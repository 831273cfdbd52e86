//! The run of a scenario: a queue of what happens next in virtual time, and the parts that it happens to.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use fastrand::Rng;
use streambox::outbox::WorkerId;
use streambox_relay::core::{Bounds, Core, CoreSettings, GroupSettings, HistorySettings, Until};
use tokio::time::Instant;

use super::{
    coverage::Coverage,
    faults::Faults,
    mutant::Mutant,
    oracle::{Oracle, Promise},
    queue::Happening,
    scenario::{FaultKind, Limits, Membership, Ms, Scenario},
    seeds,
    table::{History, IndexKey, Table, stream_id},
    timeline::Timeline,
    worker::Worker,
};

/// When nothing has gone wrong for this long, everything has to be published and deleted: a worker that was killed is
/// taken for dead, streams that were halted are tried again.
const PATIENCE_MS: Ms = 120_000;

/// More steps than any run needs: a relay that never rests.
const MAX_STEPS: u64 = 200_000;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(8);
const REPLAY_RATE: u32 = 1_000;
const POLL_INTERVAL: Duration = Duration::from_millis(700);
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(30);

/// Everything that a run consists of.
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) mutant: Option<Mutant>,
    pub(super) random: Rng,
    pub(super) now: Ms,
    /// The moment 0, for the cores.
    base: Instant,
    queue: Timeline<Happening>,
    pub(super) table: Table,
    pub(super) faults: Faults,
    pub(super) oracle: Oracle,
    pub(super) coverage: Coverage,
    workers: Vec<Option<Worker>>,
    /// Where a worker's scan continues.
    pub(super) cursors: BTreeMap<usize, IndexKey>,
    /// When a worker has begun its last pass over the index.
    pub(super) passes: BTreeMap<usize, Ms>,
    /// When the connection ended last that a worker's events with a channel each share.
    pub(super) shared_ended_at: BTreeMap<usize, Ms>,
    pub(super) history: History,
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
        queue: Timeline::new(),
        table: Table::default(),
        faults: Faults::default(),
        oracle: Oracle::default(),
        coverage: Coverage::default(),
        workers: scenario.workers.iter().map(|_| None).collect(),
        cursors: BTreeMap::new(),
        passes: BTreeMap::new(),
        shared_ended_at: BTreeMap::new(),
        history: History::default(),
        trace: is_traced.then(Vec::new),
    };
    world.run();
    let mut coverage = world.coverage;
    (coverage.delivered, coverage.duplicates) = (world.oracle.delivered, world.oracle.duplicates);
    Ended { violation: world.oracle.violation().cloned(), coverage, trace: world.trace.unwrap_or_default() }
}

impl World<'_> {
    fn run(&mut self) {
        for (number, append) in self.scenario.appends.iter().enumerate() {
            self.at(append.at_ms, Happening::Append(number));
        }
        for (number, fault) in self.scenario.faults.iter().enumerate() {
            self.at(fault.at_ms, Happening::FaultBegins(number));
            self.at(fault.at_ms + fault.lasts_ms, Happening::FaultEnds(number));
        }
        for (number, worker) in self.scenario.workers.iter().enumerate() {
            self.at(worker.starts_at_ms, Happening::Start(number));
        }
        let quiet_at = self.scenario.quiet_at_ms();
        while let Some((at, what)) = self.queue.pop() {
            self.now = at;
            self.coverage.steps += 1;
            self.step(what);
            if self.oracle.violation().is_some() || (self.now > quiet_at && self.is_done()) {
                return;
            }
            if self.now > quiet_at + PATIENCE_MS {
                self.explain();
                return;
            }
            if self.coverage.steps > MAX_STEPS {
                self.oracle.broken(Promise::Bounded, self.now, "a relay never rests".to_owned());
            }
        }
    }

    /// Whether everything is published and deleted, and every worker knows that and the others. A stream that can't be
    /// published is seen as halted by who looks after it.
    fn is_done(&self) -> bool {
        if self.is_replay() {
            return self.is_replayed();
        }
        let but = self.poisoned();
        self.table.first_pending(but, self.now).is_none()
            && self.table.index_is_empty(but, self.now)
            && self.oracle.missing(but).is_none()
            && self.workers.iter().flatten().all(Worker::is_idle)
            && self.is_seen_as_halted()
            && self.is_agreed()
    }

    /// The stream whose messages the broker never takes.
    pub(super) fn poisoned(&self) -> Option<u8> {
        self.scenario.poison.map(|poison| poison.stream)
    }

    fn is_seen_as_halted(&self) -> bool {
        let halted: Vec<_> = self
            .poisoned()
            .filter(|stream| self.table.has_pending(*stream, self.now))
            .map(stream_id)
            .into_iter()
            .collect();
        let mut living = self.workers.iter().flatten().filter(|worker| !worker.is_dead).peekable();
        let is_none_left = living.peek().is_none();
        // A worker sees its own streams alone.
        let (mut all_fit, mut any_sees) = (true, halted.is_empty() || is_none_left);
        for worker in living {
            let sees = worker.halts(&halted);
            any_sees |= sees;
            all_fit &= sees || worker.halts(&[]);
        }
        all_fit && any_sees
    }

    /// Whether all members of the group see the same members: themselves.
    fn is_agreed(&self) -> bool {
        let members = || self.workers.iter().flatten().filter_map(|worker| Some((worker.id()?, worker)));
        let mut live: Vec<_> = members().map(|(id, _)| id.clone()).collect();
        live.sort_unstable();
        // Two under one name are one to the others.
        live.dedup();
        members().all(|(_, worker)| worker.core.members().is_some_and(|(seen, _)| seen == live))
    }

    fn explain(&mut self) {
        let but = self.poisoned();
        let (now, mut promise) = (self.now, if but.is_some() { Promise::Isolation } else { Promise::Drains });
        let what = if self.is_replay() {
            format!("the replay does not end: {:?}", self.history)
        } else if let Some(append) = self.table.first_pending(but, now) {
            format!("the entry of s{} v{} to v{} is still pending", append.stream, append.first, append.last)
        } else if let Some((stream, version)) = self.oracle.missing(but) {
            promise = Promise::NothingLost;
            format!("s{stream} v{version} was never delivered")
        } else if !self.is_agreed() {
            promise = Promise::Agreement;
            "the workers do not agree on who they are".to_owned()
        } else if !self.is_seen_as_halted() {
            "the stream that can't be published, and no other, should be seen as halted".to_owned()
        } else {
            "a relay does not come to rest".to_owned()
        };
        self.oracle.broken(promise, now, what);
    }

    fn step(&mut self, what: Happening) {
        match what {
            Happening::Append(number) => self.append(number),
            Happening::FaultBegins(number) => self.fault_begins(number),
            Happening::FaultEnds(number) => self.fault_ends(number),
            Happening::Start(number) => self.start(number),
            Happening::Appended(number, stream) => self.appended(number, stream),
            Happening::Wake(number, life) => self.with_worker(number, life, |_, _| {}),
            Happening::Execute(number, life, job) => self.execute(number, life, job),
            Happening::Result(number, life, done) => self.result(number, life, done),
            Happening::Late(stream, version) => {
                self.coverage.late += 1;
                self.arrive(stream, version);
            }
        }
    }

    fn append(&mut self, number: usize) {
        let scenario = self.scenario;
        let plan = &scenario.appends[number];
        let writable_at = self.table.writable_at(plan.stream);
        if self.now < writable_at {
            self.at(writable_at, Happening::Append(number));
            return;
        }
        let is_after_night = scenario.night_at_ms.is_some_and(|night| plan.at_ms >= night);
        let append = self.table.append(plan, is_after_night, self.now).clone();
        self.note(|| format!("append s{} v{} to v{}, {plan:?}", append.stream, append.first, append.last));
        for version in append.public {
            self.oracle.appended(append.stream, version);
        }
        if let Some(relay) = plan.wakes {
            self.at(
                self.now + self.scenario.appends[number].events_after_ms.min(5),
                Happening::Appended(relay.into(), plan.stream),
            );
        }
    }

    /// The relay in the writer's process is woken, if it runs.
    fn appended(&mut self, number: usize, stream: u8) {
        if let Some(life) = self.worker(number).map(|worker| worker.life) {
            self.coverage.woken += 1;
            self.note(|| format!("worker {number} is woken for s{stream}"));
            self.with_worker(number, life, |worker, instant| worker.core.wake(&stream_id(stream), instant));
        }
    }

    fn fault_begins(&mut self, number: usize) {
        let fault = self.scenario.faults[number];
        self.note(|| format!("fault begins: {:?}, for {} ms", fault.kind, fault.lasts_ms));
        self.faults.begin(fault.kind);
        match fault.kind {
            FaultKind::Crash(worker) => self.end_life(worker.into()),
            FaultKind::Pause(worker) => {
                let now = self.now;
                if let Some(worker) = self.worker(worker.into()) {
                    worker.pause(now);
                }
            }
            FaultKind::Stop(worker) => {
                if let Some(worker) = self.worker(worker.into()) {
                    worker.core.stop();
                    let (number, life) = (worker.number, worker.life);
                    self.with_worker(number, life, |_, _| {});
                }
            }
            FaultKind::Skip(stream) => self.skip(stream),
            _ => {}
        }
    }

    fn fault_ends(&mut self, number: usize) {
        let fault = self.scenario.faults[number];
        self.note(|| format!("fault ends: {:?}", fault.kind));
        self.faults.end(fault.kind);
        match fault.kind {
            FaultKind::Crash(worker) | FaultKind::Stop(worker) => {
                let worker = usize::from(worker);
                // One that was told to stop has done so by now, or is killed for it.
                if self.scenario.workers.get(worker).is_some_and(|plan| plan.starts_at_ms <= self.now)
                    && !self.faults.keeps_down(worker)
                {
                    self.end_life(worker);
                    self.start(worker);
                }
            }
            FaultKind::Pause(worker) if !self.faults.is_paused(worker.into()) => self.resume(worker.into()),
            _ => {}
        }
    }

    /// An operator gives up the first pending entry of a stream.
    fn skip(&mut self, stream: u8) {
        if let Some(last) = self.table.front(stream, self.now)
            && let Some(versions) = self.table.delete(stream, last, self.now)
        {
            self.note(|| format!("skip s{stream} v{last}: {versions:?}"));
            self.coverage.skips += 1;
            for version in versions {
                self.oracle.excused(stream, version);
            }
        }
    }

    fn start(&mut self, number: usize) {
        if self.faults.keeps_down(number) {
            return;
        }
        let life = self.workers[number].as_ref().map_or(0, |worker| worker.life) + 1;
        let plan = self.scenario.workers[number];
        let id = match plan.membership {
            Membership::Outside | Membership::Drain | Membership::Replay => None,
            Membership::SameId => Some("relay-0".to_owned()),
            // Every other worker has a name that stays, as in a StatefulSet.
            Membership::Member if number.is_multiple_of(2) => Some(format!("relay-{number}")),
            Membership::Member => Some(format!("relay-{number}-{}", self.now)),
        };
        let id = id.map(|id| WorkerId::new(id).expect("a valid worker id"));
        let limits = &self.scenario.limits;
        let mut settings = settings(limits, self.mutant, id.clone());
        if plan.membership == Membership::Drain {
            settings.until = Until::Drained;
        }
        let (seed, now) = (self.scenario.seed, self.instant());
        let core = if plan.membership == Membership::Replay {
            let Limits { window_events, page_events, .. } = *limits;
            let settings = HistorySettings { bounds: settings.bounds, rate: REPLAY_RATE, window_events, page_events };
            if self.worker(number).is_some() || !self.begin_replay() {
                return;
            }
            Core::replaying(&settings, seed, now)
        } else {
            Core::new(settings, seed, now)
        };
        self.note(|| format!("worker {number} starts as {id:?}"));
        self.cursors.remove(&number);
        let worker = Worker::new(number, life, core, id);
        self.workers[number] = Some(worker);
        if self.faults.is_paused(number) {
            let now = self.now;
            self.worker(number).expect("just started").pause(now);
        }
        self.with_worker(number, life, |_, _| {});
    }

    /// Ends a process at once. Requests that it has sent may still be carried out.
    fn end_life(&mut self, number: usize) {
        if let Some(worker) = self.worker(number) {
            worker.is_dead = true;
        }
    }

    fn resume(&mut self, number: usize) {
        let now = self.now;
        let Some(worker) = self.worker(number) else { return };
        let life = worker.life;
        let (held, is_zombie) = worker.resume(now);
        self.note(|| format!("worker {number} goes on"));
        self.coverage.zombies += u64::from(is_zombie);
        for what in held {
            self.at(now, what);
        }
        self.at(now, Happening::Wake(number, life));
    }

    /// A living worker.
    pub(super) fn worker(&mut self, number: usize) -> Option<&mut Worker> {
        self.workers.get_mut(number)?.as_mut().filter(|worker| !worker.is_dead)
    }

    /// Puts something into the queue.
    pub(super) fn at(&mut self, at: Ms, what: Happening) {
        self.queue.push(at, what);
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

    /// Lets a worker do something, and then everything that it wants to do.
    pub(super) fn with_worker(&mut self, number: usize, life: u32, act: impl FnOnce(&mut Worker, Instant)) {
        let instant = self.instant();
        let Some(worker) = self.worker(number).filter(|worker| worker.life == life && !worker.is_paused()) else {
            return;
        };
        act(worker, instant);
        self.pump(number, life);
    }
}

fn settings(limits: &Limits, mutant: Option<Mutant>, id: Option<WorkerId>) -> CoreSettings {
    let remembered = NonZeroUsize::new(limits.remembered).expect("at least one");
    let mut bounds = Bounds {
        max_streams: limits.max_streams,
        max_reads: limits.max_reads,
        max_batch_events: limits.max_batch_events,
        max_batch_bytes: limits.max_batch_bytes,
        max_suspects: limits.max_suspects,
        max_buffered_bytes: limits.max_buffered_bytes,
        entries_per_read: limits.entries_per_read,
        remembered_streams: remembered,
        remembered_halts: remembered,
        first_delay: FIRST_DELAY,
        longest_delay: LONGEST_DELAY,
        ..Bounds::default()
    };
    if mutant == Some(Mutant::TrustClocks) {
        bounds.settle_window = Duration::from_secs(10);
    }
    CoreSettings {
        bounds,
        poll_interval: POLL_INTERVAL,
        busy_poll_interval: BUSY_POLL_INTERVAL,
        until: Until::Stopped,
        group: id.map(GroupSettings::new),
    }
}
