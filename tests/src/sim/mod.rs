//! A simulator of relays: the real decisions ([`streambox_relay::core`]) on models of table, broker and time.
//!
//! A seed makes a [`Scenario`]: appends by writers whose clocks are wrong, relays, and what goes wrong. It is run in
//! virtual time, step by step, with the same result each time. After every step it is checked against what has really
//! reached the exchange:
//!
//! - an entry is deleted only after every public event of it was delivered and confirmed (G5),
//! - the first deliveries of a stream come in version order (G6),
//! - bounds hold (G10),
//! - a stream whose messages break whatever they are published with holds up no other, and is seen as halted (G7),
//! - a replay's position never passes an event that was not confirmed, and what it repeats when it resumes is a window at most,
//! - and when nothing goes wrong any more, everything is published and deleted, and the group agrees on its members.
//!
//! A run that breaks a promise is made smaller until its trace can be read ([`Failure`]).
//!
//! What the models can do: a transaction becomes visible item by item, its pending entry up to 12 seconds after its
//! events; the index lags and shows entries in any order; requests fail before or after they are carried out; deletes
//! are left undone; connections break, with messages that arrive, do not, or do so much later; nacks, of which some
//! were taken; returns; messages that break their channel or connection, or are never confirmed; relays that are killed, stopped, or paused and resumed; writers that wake a relay, whose
//! stream it is or another's; rows of the group that are wrong, two workers under one name, relays outside of the group; an operator who skips entries; clocks that are wrong
//! by up to 10 minutes.

mod broker;
mod coverage;
mod faults;
mod history;
mod mutant;
mod oracle;
mod queue;
mod scenario;
mod shell;
mod shrink;
mod table;
mod worker;
mod world;

use std::fmt;

use tokio::time::Instant;

pub use self::{
    coverage::Coverage,
    mutant::Mutant,
    oracle::{Promise, Violation},
    scenario::{AppendPlan, Breaks, Fault, FaultKind, Limits, Membership, Ms, Poison, Scenario, WorkerPlan},
};

/// A seed that breaks a promise.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// A small scenario that breaks the same promise.
    pub smallest: Scenario,
    /// What happens in it.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks {:?}: {}", self.seed, self.violation.promise, self.violation.what)?;
        writeln!(f, "the same happens in this small scenario:\n{}", self.smallest)?;
        writeln!(f, "{}", self.trace.join("\n"))
    }
}

/// Runs the scenario of a seed, with the real relay or one that breaks the protocol on purpose.
///
/// # Errors
/// [`Failure`]: a promise was broken.
pub fn check(seed: u64, mutant: Option<Mutant>) -> Result<Coverage, Box<Failure>> {
    // The cores take time as instants. It is never looked at again: all others are this one and so much later.
    let base = Instant::now();
    let scenario = Scenario::of(seed);
    let ended = world::run(&scenario, mutant, false, base);
    let Some(violation) = ended.violation else { return Ok(ended.coverage) };
    let smallest = shrink::shrink(&scenario, mutant, violation.promise, base);
    let mut ended = world::run(&smallest, mutant, true, base);
    let end = ended.violation.unwrap_or_else(|| violation.clone());
    ended.trace.push(format!("{:>6} ms  {:?} is broken: {}", end.at_ms, end.promise, end.what));
    Err(Box::new(Failure { seed, violation, smallest, trace: ended.trace }))
}

/// Whether the scenario of a seed breaks a promise: as [`check`], without the search for a small one.
#[must_use]
pub fn breaks(seed: u64, mutant: Option<Mutant>) -> Option<Violation> {
    world::run(&Scenario::of(seed), mutant, false, Instant::now()).violation
}

/// Checks many seeds, on all processors. Of those that fail it is the first one that is returned, whatever the order in
/// which they were run.
///
/// # Errors
/// [`Failure`]: a promise was broken.
///
/// # Panics
/// If a core panics.
pub fn check_all(seeds: std::ops::Range<u64>, mutant: Option<Mutant>) -> Result<Coverage, Box<Failure>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let first_failed = std::sync::atomic::AtomicU64::new(u64::MAX);
    let run = |offset: u64| {
        let mut coverage = Coverage::default();
        for seed in (seeds.start + offset..seeds.end).step_by(usize::try_from(threads).unwrap_or(1)) {
            if first_failed.load(std::sync::atomic::Ordering::Relaxed) < seed {
                break;
            }
            let ended = world::run(&Scenario::of(seed), mutant, false, Instant::now());
            if ended.violation.is_some() {
                first_failed.fetch_min(seed, std::sync::atomic::Ordering::Relaxed);
            }
            coverage.add(&ended.coverage);
        }
        coverage
    };
    let mut coverage = Coverage::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|offset| scope.spawn(move || run(offset))).collect();
        for thread in running {
            coverage.add(&thread.join().expect("no simulation panics"));
        }
    });
    match first_failed.into_inner() {
        u64::MAX => Ok(coverage),
        seed => check(seed, mutant),
    }
}
