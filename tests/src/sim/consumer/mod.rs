//! A simulator of consumers: the real decisions ([`streambox_consumer::core`]) on models of queue, events table, inbox and time.
//!
//! A seed makes a [`Scenario`]: appends, one or two consumers of a queue, and what goes wrong. After every step it is checked against
//! what is really stored:
//!
//! - the effect of each event is stored once, and a message is acknowledged only if it is, or if a mark covers it (C1),
//! - the effects of a stream come in version order without a gap (C2),
//! - what a queue has lost is healed from the table, or waits visibly; another history is noticed (C3),
//! - a stream that can't be applied stops only itself (C4),
//! - bounds hold,
//! - and when nothing goes wrong any more, everything is applied and acknowledged.
//!
//! What the models can do: messages come twice, late, damaged, behind their successors, or not at all; dead letters are put back;
//! connections end, in order or by a cancel that breaks it; processes are killed, also in the moment after something was done; the
//! database of the effects and the events table don't answer, or the answer is lost; handlers fail for a while or for ever; operators skip
//! events; the index of parked streams lags; clocks differ; the events table, or the effects together with the inbox, are restored to an
//! earlier time.
//!
//! Two things no consumer can know, so they are not held against it: that the history has changed, if the first messages of the new one are
//! lost or come behind later ones, or if two consumers share them; and that a stream was parked, if it has forgotten it, while an event fits
//! the position of the old history. How often the latter happens is counted ([`Coverage::passed_after_notice`]).

mod broker;
mod calm;
mod coverage;
mod inbox;
mod lives;
mod mutant;
mod oracle;
mod process;
mod scenario;
mod shell;
mod store;
mod words;
mod world;

use tokio::time::Instant;

pub use self::{
    coverage::Coverage,
    mutant::Mutant,
    oracle::{Promise, Violation},
    scenario::{AppendPlan, ConsumerPlan, Fault, FaultKind, Limits, Poison, Scenario},
};
use super::seeds;

/// A seed that breaks a promise.
pub type Failure = seeds::Failure<Scenario, Promise>;

struct Consumers;

impl seeds::Simulated for Consumers {
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
        scenario.smaller()
    }

    fn run(scenario: &Scenario, mutant: Option<Mutant>, is_traced: bool, base: Instant) -> world::Ended {
        world::run(scenario, mutant, is_traced, base)
    }

    fn add(coverage: &mut Coverage, other: &Coverage) {
        coverage.add(other);
    }
}

/// Runs the scenario of a seed, with the real consumer or one that breaks the protocol on purpose.
///
/// # Errors
/// [`Failure`]: a promise was broken.
pub fn check(seed: u64, mutant: Option<Mutant>) -> Result<Coverage, Box<Failure>> {
    seeds::check::<Consumers>(seed, mutant)
}

/// Whether the scenario of a seed breaks a promise: as [`check`], without the search for a small one.
#[must_use]
pub fn breaks(seed: u64, mutant: Option<Mutant>) -> Option<Violation> {
    seeds::breaks::<Consumers>(seed, mutant)
}

/// Checks many seeds, on all processors. Of those that fail it is the first one that is returned, whatever the order in which they were
/// run.
///
/// # Errors
/// [`Failure`]: a promise was broken.
///
/// # Panics
/// If a core panics.
pub fn check_all(seeds: std::ops::Range<u64>, mutant: Option<Mutant>) -> Result<Coverage, Box<Failure>> {
    seeds::check_all::<Consumers>(seeds, mutant)
}
