//! What happens in one simulated run: plain data, made from a seed, and made smaller if a run fails.

use std::fmt;

use fastrand::Rng;

/// Milliseconds of virtual time since the beginning.
pub type Ms = u64;

/// The stream of the message that ends a replay, whose version is 0.
pub(super) const END: u8 = u8::MAX;

/// The last moment at which an append or a fault begins.
const LONGEST_MS: Ms = 40_000;
/// The longest that a consistent Query may miss an entry that is there, and the lag of the index.
const LONGEST_HIDDEN_MS: Ms = 12_000;
/// A clock that is wrong is wrong by up to 10 minutes: twice what AWS lets pass.
const SKEW_MS: i64 = 600_000;
/// When time passes of which nothing is simulated, it is more than any settle window.
pub(super) const NIGHT_MS: i64 = 6 * 3_600_000;
/// For so long before a night nothing is appended: everything has become visible when it is over.
const EVENING_MS: Ms = 2 * LONGEST_HIDDEN_MS;

/// Everything that happens in a run but for chance in the small: how long a request takes, which of many fails.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides all chance in the small.
    pub seed: u64,
    /// The relays.
    pub workers: Vec<WorkerPlan>,
    /// The appends, by time.
    pub appends: Vec<AppendPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The bounds of every relay.
    pub limits: Limits,
    /// After this moment all clocks are hours later.
    pub night_at_ms: Option<Ms>,
    /// A stream whose messages the broker never takes.
    pub poison: Option<Poison>,
}

/// A stream whose messages break what they are published with, from the beginning to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poison {
    /// The number of the stream.
    pub stream: u8,
    /// What they break.
    pub breaks: Breaks,
}

/// The ways of a broker to refuse a message without a word about this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// It closes the channel.
    Channel,
    /// It closes the connection, with a reason.
    Connection,
    /// It closes the socket.
    Socket,
    /// It never confirms the message.
    Silence,
}

/// A relay.
#[derive(Clone, Copy, Debug)]
pub struct WorkerPlan {
    /// When it starts.
    pub starts_at_ms: Ms,
    /// How it takes part.
    pub membership: Membership,
}

/// How a relay takes part in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// As it should.
    Member,
    /// Under the name of the first one, by mistake.
    SameId,
    /// Not at all: it takes every stream.
    Outside,
    /// As [`Self::Outside`], until nothing is pending any more.
    Drain,
    /// It is no relay of pending entries: it replays what was appended before it began, and is the only one.
    Replay,
}

/// An append.
#[derive(Clone, Debug)]
pub struct AppendPlan {
    /// When it is committed, or a little later if the one before is not visible to its writer yet.
    pub at_ms: Ms,
    /// The number of its stream.
    pub stream: u8,
    /// Its events: whether each is to be published.
    pub public: Vec<bool>,
    /// Whether its pending entry carries copies of the events.
    pub has_copies: bool,
    /// How wrong its writer's clock is.
    pub clock_ms: i64,
    /// How long after the commit its events become visible.
    pub events_after_ms: Ms,
    /// How long after the commit its pending entry becomes visible to a consistent Query.
    pub entry_after_ms: Ms,
    /// How long the index takes to show the entry, and to forget it.
    pub index_after_ms: (Ms, Ms),
    /// The relay in the writer's own process, which it wakes.
    pub wakes: Option<u8>,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When it begins.
    pub at_ms: Ms,
    /// How long it lasts.
    pub lasts_ms: Ms,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong. Workers and streams are named by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A worker is killed, and started again at the end.
    Crash(u8),
    /// A worker gets a signal to stop, and is started again at the end.
    Stop(u8),
    /// A worker is paused, and resumes at the end as if nothing had happened.
    Pause(u8),
    /// The broker can't be reached.
    BrokerAway,
    /// Connections to the broker break: what was sent may arrive, or not, or much later.
    BrokerBreaks,
    /// The broker refuses messages, some of which it has taken nevertheless.
    Nacks,
    /// No queue takes the messages of a stream.
    Unroutable(u8),
    /// Entries of a stream can't be read.
    Unreadable(u8),
    /// Requests to the table fail, before or after they were carried out.
    TableErrors,
    /// Deletes are left undone.
    Unprocessed,
    /// Everything takes long.
    Slow,
    /// The rows of the group are read wrongly: old, too few, too many.
    WrongRows,
    /// An operator removes the first pending entry of a stream.
    Skip(u8),
}

/// The bounds of a relay, small enough to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that are worked on at the same time.
    pub max_streams: usize,
    /// Reads under way at the same time.
    pub max_reads: usize,
    /// Events in a batch.
    pub max_batch_events: usize,
    /// Batches under way at the same time.
    pub max_batches: usize,
    /// Events that are published alone at the same time.
    pub max_suspects: usize,
    /// Bytes in a batch.
    pub max_batch_bytes: usize,
    /// Bytes that are held.
    pub max_buffered_bytes: usize,
    /// Entries that one read asks for.
    pub entries_per_read: u16,
    /// Streams and halts that are remembered.
    pub remembered: usize,
    /// Index keys that one scan asks for.
    pub page_entries: usize,
    /// Events that a replay has read and not kept as published.
    pub window_events: usize,
    /// Events that one read of a replay asks for.
    pub page_events: usize,
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let duration = random.u64(2_000..LONGEST_MS);
        let streams = random.u8(1..=4);
        let workers = random.usize(1..=4);
        let night_at_ms = random.u8(0..4).eq(&0).then(|| random.u64(EVENING_MS..EVENING_MS + duration));
        let mut appends: Vec<_> =
            (0..random.u8(1..=20)).map(|_| append(&mut random, streams, duration, night_at_ms)).collect();
        appends.sort_by_key(|append| append.at_ms);
        let faults = (0..random.u8(0..=6)).map(|_| fault(&mut random, streams, workers, duration)).collect();
        let worker = |number| worker(&mut random, number, duration);
        let workers = (0..workers).map(worker).collect();
        let limits = limits(&mut random);
        let poison = random.u8(0..4).eq(&0).then(|| poison(&mut random, streams));
        let mut scenario = Self { seed, workers, appends, faults, limits, night_at_ms, poison };
        // Chance of its own: without this all others would be other ones.
        let mut random = Rng::with_seed(!seed);
        if random.u8(0..5) == 0 {
            scenario.become_replay(&mut random);
        } else if random.bool() {
            let relays = u8::try_from(scenario.workers.len()).unwrap_or(u8::MAX);
            for append in &mut scenario.appends {
                append.wakes = random.bool().then(|| random.u8(0..relays));
            }
        }
        scenario
    }

    /// Everything was appended in the past, and is replayed.
    fn become_replay(&mut self, random: &mut Rng) {
        self.workers = vec![WorkerPlan { starts_at_ms: random.u64(1..20), membership: Membership::Replay }];
        self.night_at_ms = None;
        for append in &mut self.appends {
            (append.at_ms, append.events_after_ms, append.entry_after_ms, append.index_after_ms) = (0, 0, 0, (0, 0));
        }
        for fault in &mut self.faults {
            match &mut fault.kind {
                FaultKind::Crash(worker) | FaultKind::Stop(worker) | FaultKind::Pause(worker) => *worker = 0,
                // It does without what these fail.
                FaultKind::Unreadable(_) | FaultKind::Unprocessed | FaultKind::WrongRows | FaultKind::Skip(_) => {
                    fault.kind = FaultKind::Crash(0);
                }
                _ => {}
            }
        }
        self.limits.window_events = random.usize(1..=12);
        self.limits.page_events = random.usize(1..=self.limits.window_events.div_ceil(2));
    }

    /// When the last append and the last fault are over.
    #[must_use]
    pub fn quiet_at_ms(&self) -> Ms {
        let appends = self
            .appends
            .iter()
            .map(|append| append.at_ms + append.events_after_ms.max(append.entry_after_ms) + append.index_after_ms.0);
        let faults = self.faults.iter().map(|fault| fault.at_ms + fault.lasts_ms);
        let workers = self.workers.iter().map(|worker| worker.starts_at_ms);
        appends.chain(faults).chain(workers).chain(self.night_at_ms).max().unwrap_or(0)
    }
}

/// Mostly nothing, now and then a little, rarely long.
fn lag(random: &mut Rng) -> Ms {
    match random.u8(0..8) {
        0 => random.u64(0..LONGEST_HIDDEN_MS),
        1..=2 => random.u64(0..1_000),
        3..=4 => random.u64(0..30),
        _ => 0,
    }
}

fn append(random: &mut Rng, streams: u8, duration: Ms, night_at_ms: Option<Ms>) -> AppendPlan {
    let mut at_ms = random.u64(0..duration);
    // Appends come in bursts, so that one is half visible when the next is there.
    if random.bool() {
        at_ms -= at_ms % 2_000;
        at_ms += random.u64(0..100);
    }
    if let Some(night) = night_at_ms
        && (night.saturating_sub(EVENING_MS)..night).contains(&at_ms)
    {
        at_ms = night + random.u64(0..2_000);
    }
    let clock_ms = match random.u8(0..4) {
        0 => random.i64(-SKEW_MS..=SKEW_MS),
        1 => random.i64(-50..=50),
        _ => 0,
    };
    let most_events = if random.u8(0..3) == 0 { 4 } else { 1 };
    AppendPlan {
        at_ms,
        stream: random.u8(0..streams),
        public: (0..random.u8(1..=most_events)).map(|_| random.u8(0..6) > 0).collect(),
        has_copies: random.bool(),
        clock_ms,
        // A writer sees its predecessor's events before it can append: these are never hidden for long.
        events_after_ms: lag(random).min(500),
        entry_after_ms: lag(random),
        index_after_ms: (lag(random), lag(random)),
        wakes: None,
    }
}

fn fault(random: &mut Rng, streams: u8, workers: usize, duration: Ms) -> Fault {
    let stream = random.u8(0..streams);
    let worker = random.u8(0..u8::try_from(workers).unwrap_or(u8::MAX));
    let kind = match random.u8(0..16) {
        0..=1 => FaultKind::Crash(worker),
        2 => FaultKind::Stop(worker),
        3..=4 => FaultKind::Pause(worker),
        5 => FaultKind::BrokerAway,
        6..=7 => FaultKind::BrokerBreaks,
        8 => FaultKind::Nacks,
        9 => FaultKind::Unroutable(stream),
        10 => FaultKind::Unreadable(stream),
        11 => FaultKind::TableErrors,
        12 => FaultKind::Unprocessed,
        13 => FaultKind::Slow,
        14 => FaultKind::WrongRows,
        _ => FaultKind::Skip(stream),
    };
    let lasts_ms = if random.bool() { random.u64(0..2_000) } else { random.u64(0..30_000) };
    Fault { at_ms: random.u64(0..duration), lasts_ms, kind }
}

fn poison(random: &mut Rng, streams: u8) -> Poison {
    let ways = [Breaks::Channel, Breaks::Connection, Breaks::Socket, Breaks::Silence];
    Poison { stream: random.u8(0..streams), breaks: ways[random.usize(0..ways.len())] }
}

fn worker(random: &mut Rng, number: usize, duration: Ms) -> WorkerPlan {
    let membership = match random.u8(0..8) {
        0 if number > 0 => Membership::SameId,
        1 => Membership::Outside,
        2 => Membership::Drain,
        _ => Membership::Member,
    };
    let starts_at_ms = if number == 0 || random.bool() { random.u64(0..20) } else { random.u64(0..duration) };
    WorkerPlan { starts_at_ms, membership }
}

impl Limits {
    /// Large enough never to be reached.
    pub(super) const WIDE: Self = Self {
        max_streams: 100,
        max_reads: 32,
        max_batch_events: 256,
        max_batches: 2,
        max_suspects: 256,
        max_batch_bytes: 4 * 1024 * 1024,
        max_buffered_bytes: 32 * 1024 * 1024,
        entries_per_read: 64,
        remembered: 100,
        page_entries: 1_000,
        window_events: 512,
        page_events: 128,
    };
}

fn limits(random: &mut Rng) -> Limits {
    if random.bool() {
        return Limits::WIDE;
    }
    Limits {
        max_streams: random.usize(1..=4),
        max_reads: random.usize(1..=3),
        max_batch_events: random.usize(1..=3),
        max_batches: random.usize(1..=2),
        max_suspects: random.usize(1..=3),
        max_batch_bytes: random.usize(1..=8),
        max_buffered_bytes: if random.bool() { 1 } else { 500_000 },
        entries_per_read: random.u16(1..=3),
        remembered: random.usize(1..=3),
        page_entries: random.usize(1..=4),
        ..Limits::WIDE
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}, night at {:?}, {:?}", self.seed, self.limits, self.night_at_ms, self.poison)?;
        for worker in &self.workers {
            writeln!(f, "{worker:?}")?;
        }
        for append in &self.appends {
            writeln!(f, "{append:?}")?;
        }
        for fault in &self.faults {
            writeln!(f, "{fault:?}")?;
        }
        Ok(())
    }
}
