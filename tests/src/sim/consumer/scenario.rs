//! What happens in one simulated run of consumers: plain data, made from a seed, and made smaller if a run fails.

use std::fmt;

use fastrand::Rng;

use super::super::scenario::Ms;

/// The last moment at which an append or a fault begins.
const LONGEST_MS: Ms = 40_000;

/// A restore takes longer than a consumer trusts a check of the history, and than an answer from before it is under way.
const RESTORE_MS: std::ops::Range<Ms> = 12_000..20_000;

/// Everything that happens in a run but for chance in the small: how long a request takes, which of many fails.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides all chance in the small.
    pub seed: u64,
    /// The consumers of the queue.
    pub consumers: Vec<ConsumerPlan>,
    /// The appends, by time.
    pub appends: Vec<AppendPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The bounds of every consumer.
    pub limits: Limits,
    /// An event that is never applied unless an operator skips it.
    pub poison: Option<Poison>,
}

/// A consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerPlan {
    /// When it starts.
    pub starts_at_ms: Ms,
    /// Whether it can read the events table.
    pub has_store: bool,
    /// Whether it can note parked streams.
    pub has_inbox: bool,
    /// Messages that the broker sends it ahead of their acknowledgement.
    pub prefetch: usize,
    /// How wrong its clock is.
    pub clock_ms: i64,
}

/// An append.
#[derive(Clone, Debug)]
pub struct AppendPlan {
    /// When it is committed.
    pub at_ms: Ms,
    /// The number of its stream.
    pub stream: u8,
    /// Its events: whether each is to be published.
    pub public: Vec<bool>,
    /// How long after the commit its messages reach the queue, or those of the append before it do.
    pub published_after_ms: Ms,
}

/// An event that the handler fails for.
#[derive(Clone, Copy, Debug)]
pub struct Poison {
    /// The number of its stream.
    pub stream: u8,
    /// Its version.
    pub version: u64,
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

/// What goes wrong. Consumers and streams are named by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A consumer is killed, and started again at the end.
    Crash(u8),
    /// A consumer is told to stop, and is started again at the end.
    Stop(u8),
    /// Processes die the moment after something that they asked for was done, and are started again soon.
    DieAfterwards,
    /// A consumer's connection is lost, and there is none until the end.
    Disconnect(u8),
    /// Messages are published more than once, some of them much later.
    Duplicates,
    /// Messages are put behind their successors.
    Requeue,
    /// A connection ends in such a way that what was unacknowledged on it comes behind everything else.
    Cancel(u8),
    /// Messages are lost on the way to the queue, or expire, or somebody else takes them.
    Lose,
    /// Everything that is in the queue is deleted.
    Purge,
    /// Messages go to the dead letters, and are put back at the end.
    DeadLetter,
    /// Messages come damaged.
    Damage,
    /// A message comes that is not an event.
    Foreign,
    /// The database of the effects does not answer.
    InboxAway,
    /// Requests to it fail, before or after they were carried out.
    InboxErrors,
    /// The events table does not answer.
    StoreAway,
    /// Everything takes long.
    Slow,
    /// The handler fails for a stream.
    HandlerFails(u8),
    /// An operator skips what a stream can't apply.
    Skip(u8),
    /// The events table is restored to what it was so many milliseconds before.
    RestoreEvents(Ms),
    /// The effects and the inbox are restored to what they were so many milliseconds before.
    RestoreInbox(Ms),
}

impl FaultKind {
    /// Whether messages are lost by it that come no more, or effects of which the messages are acknowledged.
    pub(super) fn loses(self) -> bool {
        matches!(self, Self::Lose | Self::Purge | Self::RestoreEvents(_) | Self::RestoreInbox(_))
    }

    /// Whether messages come otherwise than they were published first.
    pub(super) fn disorders(self) -> bool {
        self.loses() || matches!(self, Self::Requeue | Self::Cancel(_) | Self::DeadLetter | Self::Damage)
    }
}

/// The bounds of a consumer, small enough to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams whose requests are under way at the same time.
    pub concurrency: usize,
    /// Streams of which events of the store are held.
    pub max_catching_up: usize,
    /// Positions that are remembered.
    pub remembered_streams: usize,
    /// Parked streams that are remembered.
    pub remembered_parked: usize,
    /// Events that one read of the store returns.
    pub page_events: usize,
    /// The longest that the index of parked streams lags.
    pub index_lag_ms: Ms,
}

impl Limits {
    /// Large enough never to be reached.
    pub(super) const WIDE: Self = Self {
        concurrency: 16,
        max_catching_up: 8,
        remembered_streams: 1_000,
        remembered_parked: 1_000,
        page_events: 32,
        index_lag_ms: 0,
    };

    fn random(random: &mut Rng) -> Self {
        if random.bool() {
            return Self::WIDE;
        }
        Self {
            concurrency: random.usize(1..=4),
            max_catching_up: random.usize(1..=2),
            remembered_streams: random.usize(1..=3),
            remembered_parked: random.usize(1..=3),
            page_events: random.usize(1..=4),
            index_lag_ms: random.u64(0..3_000),
        }
    }
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let duration = random.u64(2_000..LONGEST_MS);
        let streams = random.u8(1..=4);
        let mut appends: Vec<_> = (0..random.u8(1..=20)).map(|_| append(&mut random, streams, duration)).collect();
        appends.sort_by_key(|append| append.at_ms);
        let first = consumer(&mut random, duration);
        let mut consumers = vec![ConsumerPlan { starts_at_ms: random.u64(0..20), ..first }];
        if random.u8(0..3) == 0 {
            let second = consumer(&mut random, duration);
            // Two with different means are one that is being replaced by another one.
            let is_replaced = random.u8(0..4) == 0;
            consumers.push(if is_replaced {
                second
            } else {
                ConsumerPlan { has_store: first.has_store, has_inbox: first.has_inbox, ..second }
            });
        }
        let number = u8::try_from(consumers.len()).unwrap_or(u8::MAX);
        let faults = (0..random.u8(0..=5)).map(|_| fault(&mut random, streams, number, duration)).collect();
        let limits = Limits::random(&mut random);
        let poison =
            (random.u8(0..5) == 0).then(|| Poison { stream: random.u8(0..streams), version: random.u64(1..=6) });
        let mut scenario = Self { seed, consumers, appends, faults, limits, poison };
        // Chance of its own: without this all others would be other ones.
        let mut random = Rng::with_seed(!seed);
        match random.u8(0..12) {
            0..=1 => scenario.share_a_parked_stream(&mut random, duration),
            2 => scenario.skip_poison(&mut random, duration),
            _ => {}
        }
        scenario
    }

    /// Two consumers of one stream that fails now and then, slowly: one retries it while the other one gets its messages.
    fn share_a_parked_stream(&mut self, random: &mut Rng, duration: Ms) {
        let mut first = self.consumers[0];
        (first.has_store, first.has_inbox) = (true, true);
        let second = ConsumerPlan { starts_at_ms: random.u64(0..20), clock_ms: random.i64(-3_000..=3_000), ..first };
        self.consumers = vec![first, second];
        for append in &mut self.appends {
            append.stream = 0;
        }
        let mut fault = |kind, lasts_ms| Fault { at_ms: random.u64(0..duration), lasts_ms, kind };
        self.faults = vec![
            fault(FaultKind::HandlerFails(0), 1_000),
            fault(FaultKind::HandlerFails(0), 4_000),
            Fault { at_ms: 0, ..fault(FaultKind::Slow, duration) },
            fault(FaultKind::DieAfterwards, 1_000),
        ];
    }

    /// An operator skips what can't be applied, sooner or later.
    fn skip_poison(&mut self, random: &mut Rng, duration: Ms) {
        let stream = self.appends[0].stream;
        self.poison = Some(Poison { stream, version: random.u64(1..=3) });
        let mut fault = |kind| Fault { at_ms: random.u64(0..duration + 10_000), lasts_ms: 0, kind };
        self.faults.extend([fault(FaultKind::Skip(stream)), fault(FaultKind::Skip(stream))]);
    }

    /// Whether any of the faults is of a kind.
    pub(super) fn has(&self, is: impl Fn(FaultKind) -> bool) -> bool {
        self.faults.iter().any(|fault| is(fault.kind))
    }

    /// When the last append and the last fault are over.
    #[must_use]
    pub fn quiet_at_ms(&self) -> Ms {
        let appends = self.appends.iter().map(|append| append.at_ms + append.published_after_ms);
        let faults = self.faults.iter().map(|fault| fault.at_ms + fault.lasts_ms);
        let consumers = self.consumers.iter().map(|consumer| consumer.starts_at_ms);
        appends.chain(faults).chain(consumers).max().unwrap_or(0)
    }

    /// Everything that is smaller by one thing, large things first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut smaller = self.clone();
            change(&mut smaller);
            all.push(smaller);
        };
        let (appends, faults) = (self.appends.len(), self.faults.len());
        if appends > 3 {
            push(&|smaller| smaller.appends.truncate(appends / 2));
            push(&|smaller| _ = smaller.appends.drain(..appends / 2));
        }
        if faults > 1 {
            push(&|smaller| smaller.faults.clear());
        }
        for fault in 0..faults {
            push(&|smaller| _ = smaller.faults.remove(fault));
        }
        for append in 0..appends {
            push(&|smaller| _ = smaller.appends.remove(append));
        }
        if self.consumers.len() > 1 {
            push(&|smaller| _ = smaller.consumers.pop());
        }
        if self.poison.is_some() {
            push(&|smaller| smaller.poison = None);
        }
        if self.limits.concurrency < Limits::WIDE.concurrency {
            push(&|smaller| smaller.limits = Limits::WIDE);
        }
        for append in 0..appends {
            if self.appends[append].public.len() > 1 {
                push(&|smaller| _ = smaller.appends[append].public.pop());
            }
            if self.appends[append].published_after_ms > 0 {
                push(&|smaller| smaller.appends[append].published_after_ms = 0);
            }
        }
        for fault in 0..faults {
            let is_restore =
                matches!(self.faults[fault].kind, FaultKind::RestoreEvents(_) | FaultKind::RestoreInbox(_));
            if self.faults[fault].lasts_ms > 100 && !is_restore {
                push(&|smaller| smaller.faults[fault].lasts_ms /= 2);
            }
        }
        all
    }
}

fn append(random: &mut Rng, streams: u8, duration: Ms) -> AppendPlan {
    let mut at_ms = random.u64(0..duration);
    // Appends come in bursts.
    if random.bool() {
        at_ms -= at_ms % 2_000;
        at_ms += random.u64(0..100);
    }
    let most_events = if random.u8(0..3) == 0 { 4 } else { 1 };
    AppendPlan {
        at_ms,
        stream: random.u8(0..streams),
        public: (0..random.u8(1..=most_events)).map(|_| random.u8(0..5) > 0).collect(),
        published_after_ms: if random.u8(0..4) == 0 { random.u64(0..5_000) } else { random.u64(0..50) },
    }
}

fn consumer(random: &mut Rng, duration: Ms) -> ConsumerPlan {
    let has_store = random.u8(0..3) > 0;
    ConsumerPlan {
        starts_at_ms: if random.bool() { random.u64(0..20) } else { random.u64(0..duration) },
        has_store,
        has_inbox: random.u8(0..3) > 0,
        prefetch: if random.u8(0..3) == 0 { random.usize(1..=4) } else { random.usize(10..=40) },
        clock_ms: if random.u8(0..4) == 0 { random.i64(-3_000..=3_000) } else { 0 },
    }
}

fn fault(random: &mut Rng, streams: u8, consumers: u8, duration: Ms) -> Fault {
    let (stream, consumer) = (random.u8(0..streams), random.u8(0..consumers));
    let (at_ms, back_ms) = (random.u64(0..duration), random.u64(100..15_000));
    let kind = match random.u8(0..24) {
        0 => FaultKind::Crash(consumer),
        1 => FaultKind::Stop(consumer),
        2..=4 => FaultKind::DieAfterwards,
        5 => FaultKind::Disconnect(consumer),
        6 => FaultKind::Duplicates,
        7..=8 => FaultKind::Requeue,
        9 => FaultKind::Cancel(consumer),
        10 => FaultKind::Lose,
        11 => FaultKind::Purge,
        12 => FaultKind::DeadLetter,
        13 => FaultKind::Damage,
        14 => FaultKind::Foreign,
        15 => FaultKind::InboxAway,
        16..=17 => FaultKind::InboxErrors,
        18 => FaultKind::StoreAway,
        19 => FaultKind::Slow,
        20 => FaultKind::HandlerFails(stream),
        21 => FaultKind::Skip(stream),
        22 => FaultKind::RestoreEvents(back_ms),
        _ => FaultKind::RestoreInbox(back_ms),
    };
    let lasts_ms = match kind {
        FaultKind::RestoreEvents(_) | FaultKind::RestoreInbox(_) => random.u64(RESTORE_MS),
        _ if random.bool() => random.u64(0..2_000),
        _ => random.u64(0..30_000),
    };
    Fault { at_ms, lasts_ms, kind }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}, {:?}", self.seed, self.limits, self.poison)?;
        for consumer in &self.consumers {
            writeln!(f, "{consumer:?}")?;
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
