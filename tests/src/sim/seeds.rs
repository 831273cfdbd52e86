//! Seeds: each makes a scenario, which is run; one that breaks a promise is made smaller until its trace can be read.

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

use super::scenario::Ms;

/// What is simulated.
pub(super) trait Simulated {
    /// Plain data that a run is made of.
    type Scenario: Clone + fmt::Display;
    /// A way to get it wrong.
    type Mutant: Copy + Sync;
    /// What is promised.
    type Promise: Copy + PartialEq + fmt::Debug + Send;
    /// What runs have seen.
    type Coverage: Default + Send;

    /// The scenario of a seed.
    fn scenario(seed: u64) -> Self::Scenario;

    /// The seed of a scenario, which decides all chance in the small.
    fn seed(scenario: &mut Self::Scenario) -> &mut u64;

    /// Everything that is smaller by one thing, large things first.
    fn smaller(scenario: &Self::Scenario) -> Vec<Self::Scenario>;

    /// Runs a scenario to its end or to the first promise that is broken.
    fn run(
        scenario: &Self::Scenario,
        mutant: Option<Self::Mutant>,
        is_traced: bool,
        base: Instant,
    ) -> Ended<Self::Promise, Self::Coverage>;

    /// Adds what another run has seen.
    fn add(coverage: &mut Self::Coverage, other: &Self::Coverage);
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<P> {
    /// Which one.
    pub promise: P,
    /// What happened.
    pub what: String,
    /// When.
    pub at_ms: Ms,
}

/// The end of a run.
pub(super) struct Ended<P, C> {
    pub(super) violation: Option<Violation<P>>,
    pub(super) coverage: C,
    pub(super) trace: Vec<String>,
}

/// A seed that breaks a promise.
#[derive(Debug)]
pub struct Failure<S, P> {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation<P>,
    /// A small scenario that breaks the same promise.
    pub smallest: S,
    /// What happens in it.
    pub trace: Vec<String>,
}

impl<S: fmt::Display, P: fmt::Debug> fmt::Display for Failure<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks {:?}: {}", self.seed, self.violation.promise, self.violation.what)?;
        writeln!(f, "the same happens in this small scenario:\n{}", self.smallest)?;
        writeln!(f, "{}", self.trace.join("\n"))
    }
}

/// What a seed, or many of them, came to.
pub(super) type Checked<S> =
    Result<<S as Simulated>::Coverage, Box<Failure<<S as Simulated>::Scenario, <S as Simulated>::Promise>>>;

pub(super) fn check<S: Simulated>(seed: u64, mutant: Option<S::Mutant>) -> Checked<S> {
    // The cores take time as instants. It is never looked at again: all others are this one and so much later.
    let base = Instant::now();
    let scenario = S::scenario(seed);
    let ended = S::run(&scenario, mutant, false, base);
    let Some(violation) = ended.violation else { return Ok(ended.coverage) };
    let smallest = shrink::<S>(&scenario, mutant, violation.promise, base);
    let mut ended = S::run(&smallest, mutant, true, base);
    let end = ended.violation.unwrap_or_else(|| violation.clone());
    ended.trace.push(format!("{:>6} ms  {:?} is broken: {}", end.at_ms, end.promise, end.what));
    Err(Box::new(Failure { seed, violation, smallest, trace: ended.trace }))
}

pub(super) fn breaks<S: Simulated>(seed: u64, mutant: Option<S::Mutant>) -> Option<Violation<S::Promise>> {
    S::run(&S::scenario(seed), mutant, false, Instant::now()).violation
}

pub(super) fn check_all<S: Simulated>(seeds: Range<u64>, mutant: Option<S::Mutant>) -> Checked<S> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let first_failed = AtomicU64::new(u64::MAX);
    let run = |offset: u64| {
        let mut coverage = S::Coverage::default();
        for seed in (seeds.start + offset..seeds.end).step_by(usize::try_from(threads).unwrap_or(1)) {
            if first_failed.load(Ordering::Relaxed) < seed {
                break;
            }
            let ended = S::run(&S::scenario(seed), mutant, false, Instant::now());
            if ended.violation.is_some() {
                first_failed.fetch_min(seed, Ordering::Relaxed);
            }
            S::add(&mut coverage, &ended.coverage);
        }
        coverage
    };
    let mut coverage = S::Coverage::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|offset| scope.spawn(move || run(offset))).collect();
        for thread in running {
            S::add(&mut coverage, &thread.join().expect("no simulation panics"));
        }
    });
    match first_failed.into_inner() {
        u64::MAX => Ok(coverage),
        seed => check::<S>(seed, mutant),
    }
}

/// Runs that are spent on making a scenario smaller.
const MAX_RUNS: usize = 3_000;

/// Leaving something out changes all random choices after it. A part counts as needed only if the promise holds without it for this
/// many seeds.
const SEEDS: u64 = 4;

/// The smallest scenario found that breaks the same promise.
fn shrink<S: Simulated>(
    scenario: &S::Scenario,
    mutant: Option<S::Mutant>,
    promise: S::Promise,
    base: Instant,
) -> S::Scenario {
    let mut best = scenario.clone();
    let mut runs = 0;
    let mut fails = |candidate: S::Scenario| {
        (0..SEEDS).find_map(|other| {
            runs += 1;
            let mut candidate = candidate.clone();
            let seed = S::seed(&mut candidate);
            *seed = seed.wrapping_add(other << 48);
            let ended = S::run(&candidate, mutant, false, base);
            (runs <= MAX_RUNS && ended.violation.is_some_and(|violation| violation.promise == promise))
                .then_some(candidate)
        })
    };
    while let Some(smaller) = S::smaller(&best).into_iter().find_map(&mut fails) {
        best = smaller;
    }
    best
}
