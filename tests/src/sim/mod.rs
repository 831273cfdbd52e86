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
//!
//! The other end, consumers, is simulated in [`consumer`].

mod broker;
pub mod consumer;
mod coverage;
mod faults;
mod history;
mod mutant;
mod oracle;
mod queue;
mod scenario;
mod seeds;
mod shell;
mod shrink;
mod table;
mod timeline;
mod worker;
mod world;

use tokio::time::Instant;

pub use self::{
    coverage::Coverage,
    mutant::Mutant,
    oracle::{Promise, Violation},
    scenario::{AppendPlan, Breaks, Fault, FaultKind, Limits, Membership, Ms, Poison, Scenario, WorkerPlan},
};

/// A seed that breaks a promise.
pub type Failure = seeds::Failure<Scenario, Promise>;

struct Relays;

impl seeds::Simulated for Relays {
    type Scenario = Scenario;
    type Mutant = Mutant;
    type Promise = Promise;
    type Coverage = Coverage;

    fn scenario(seed: u64) -> Scenario {
        Scenario::of(seed)
    }

    fn seed(scenario: &mut Scenario) -> &mut u64 {
        &mut scenario.seed
    }

    fn smaller(scenario: &Scenario) -> Vec<Scenario> {
        shrink::candidates(scenario)
    }

    fn run(scenario: &Scenario, mutant: Option<Mutant>, is_traced: bool, base: Instant) -> world::Ended {
        world::run(scenario, mutant, is_traced, base)
    }

    fn add(coverage: &mut Coverage, other: &Coverage) {
        coverage.add(other);
    }
}

/// Runs the scenario of a seed, with the real relay or one that breaks the protocol on purpose.
///
/// # Errors
/// [`Failure`]: a promise was broken.
pub fn check(seed: u64, mutant: Option<Mutant>) -> Result<Coverage, Box<Failure>> {
    seeds::check::<Relays>(seed, mutant)
}

/// Whether the scenario of a seed breaks a promise: as [`check`], without the search for a small one.
#[must_use]
pub fn breaks(seed: u64, mutant: Option<Mutant>) -> Option<Violation> {
    seeds::breaks::<Relays>(seed, mutant)
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
    seeds::check_all::<Relays>(seeds, mutant)
}
