//! What makes a scenario smaller, so that its trace is short enough to be read.

use super::scenario::{Limits, Membership, Scenario};

/// Everything that is smaller by one thing, large things first.
pub(super) fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = scenario.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let (appends, faults, workers) = (scenario.appends.len(), scenario.faults.len(), scenario.workers.len());
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
    if workers > 1 {
        push(&|smaller| _ = smaller.workers.pop());
    }
    if scenario.limits.max_streams < Limits::WIDE.max_streams {
        push(&|smaller| smaller.limits = Limits::WIDE);
    }
    if scenario.night_at_ms.is_some() {
        push(&|smaller| smaller.night_at_ms = None);
    }
    if scenario.poison.is_some() {
        push(&|smaller| smaller.poison = None);
    }
    for (number, worker) in scenario.workers.iter().enumerate() {
        if !matches!(worker.membership, Membership::Member | Membership::Replay) {
            push(&|smaller| smaller.workers[number].membership = Membership::Member);
        }
        if worker.starts_at_ms > 0 {
            push(&|smaller| smaller.workers[number].starts_at_ms = 0);
        }
    }
    for (number, append) in scenario.appends.iter().enumerate() {
        if append.public.len() > 1 {
            push(&|smaller| _ = smaller.appends[number].public.pop());
        }
        if append.clock_ms != 0 {
            push(&|smaller| smaller.appends[number].clock_ms = 0);
        }
        if !append.has_copies {
            push(&|smaller| smaller.appends[number].has_copies = true);
        }
        if append.entry_after_ms > 0 {
            push(&|smaller| smaller.appends[number].entry_after_ms = 0);
        }
        if append.index_after_ms != (0, 0) {
            push(&|smaller| smaller.appends[number].index_after_ms = (0, 0));
        }
        if append.events_after_ms > 0 {
            push(&|smaller| smaller.appends[number].events_after_ms = 0);
        }
    }
    for (number, fault) in scenario.faults.iter().enumerate() {
        if fault.lasts_ms > 100 {
            push(&|smaller| smaller.faults[number].lasts_ms /= 2);
        }
    }
    all
}
