//! When the processes of consumers live, and what they do with their time.

use std::{num::NonZeroUsize, time::Duration};

use streambox_consumer::core::{Bounds, Core};
use tokio::time::Instant;

use super::{
    process::Process,
    scenario::Limits,
    world::{Happening, World},
};

impl World<'_> {
    pub(super) fn start(&mut self, number: usize) {
        if self.is_kept_down(number) || self.life(number).is_some() {
            return;
        }
        let life = self.processes[number].as_ref().map_or(0, |process| process.life) + 1;
        let plan = self.scenario.consumers[number];
        let (bounds, seed) = (bounds(&self.scenario.limits), self.scenario.seed);
        let core = Core::new(bounds, plan.has_store, plan.has_inbox, seed, self.instant());
        self.note(|| format!("consumer {number} starts"));
        self.processes[number] = Some(Process::new(life, core));
        let at = self.now + self.latency();
        self.at(at, Happening::Connect(number, life));
        self.with_process(number, life, |_, _| {});
    }

    /// Ends a process at once. Requests that it has sent may still be carried out.
    pub(super) fn end_life(&mut self, number: usize) {
        if self.life(number).is_some() {
            self.note(|| format!("consumer {number} ends"));
            self.count_totals(number);
            if let Some(process) = &mut self.processes[number] {
                process.is_dead = true;
            }
            if let Some((_, returned)) = self.broker.disconnect(number) {
                self.coverage.returned += returned as u64;
            }
        }
    }

    pub(super) fn count_totals(&mut self, number: usize) {
        let Some(process) = self.processes[number].as_ref().filter(|process| !process.is_dead) else { return };
        let totals = process.core.totals();
        self.coverage.gaps += totals.gaps;
        self.coverage.from_store += totals.applied_from_store;
        self.coverage.recovered += totals.recovered;
        self.coverage.reopened += totals.reopened;
    }

    /// The life of a process that lives.
    pub(super) fn life(&self, number: usize) -> Option<u32> {
        self.processes.get(number)?.as_ref().filter(|process| !process.is_dead).map(|process| process.life)
    }

    /// A process, if it still lives this life.
    pub(super) fn process(&mut self, number: usize, life: u32) -> Option<&mut Process> {
        self.processes.get_mut(number)?.as_mut().filter(|process| !process.is_dead && process.life == life)
    }

    /// Lets a process do something, and then everything that it wants to do.
    pub(super) fn with_process(&mut self, number: usize, life: u32, act: impl FnOnce(&mut Process, Instant)) {
        let instant = self.instant();
        let Some(process) = self.process(number, life) else { return };
        act(process, instant);
        self.pump(number, life);
    }
}

fn bounds(limits: &Limits) -> Bounds {
    let count = |count| NonZeroUsize::new(count).expect("at least one");
    Bounds {
        concurrency: limits.concurrency,
        max_catching_up: limits.max_catching_up,
        remembered_streams: count(limits.remembered_streams),
        remembered_parked: count(limits.remembered_parked),
        due_interval: Duration::from_secs(2),
        first_retry_delay: Duration::from_millis(500),
        longest_retry_delay: Duration::from_secs(5),
        hold_limit: Duration::from_secs(15),
        check_interval: Duration::from_secs(4),
    }
}
