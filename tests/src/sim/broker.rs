//! A model of the broker: confirms, nacks, returns, and connections that break in the middle of a batch.

use streambox_relay::core::{Done, Outcome, Outgoing, Task};

use super::{
    mutant::Mutant,
    queue::Happening,
    scenario::{FaultKind, Ms},
    table::number,
    worker::Job,
    world::World,
};

/// How long a relay waits at most until it gives up on confirms.
const CONFIRM_TIMEOUT_MS: Ms = 5_000;

/// How much later a message may arrive whose sender has given it up.
const LATEST_MS: Ms = 10_000;

/// A relay without a connection tries again after this time.
const RECONNECT_MS: Ms = 400;

impl World<'_> {
    /// A batch is written to a connection.
    pub(super) fn publish(&mut self, worker: usize, life: u32, batch: Vec<Outgoing>) {
        if self.faults.has(FaultKind::BrokerAway) {
            let is_stopping = self.worker(worker).is_some_and(|worker| worker.core.next_due().is_none());
            if is_stopping || self.chance(20) {
                let outcomes = vec![Outcome::Unknown; batch.len()];
                return self.answer_batch(worker, life, batch, outcomes);
            }
            let again = Happening::Execute(worker, life, Job::Task(Task::Publish(batch)));
            return self.at(self.now + RECONNECT_MS, again);
        }
        if self.faults.has(FaultKind::BrokerBreaks) && self.chance(50) {
            return self.break_off(worker, life, batch);
        }
        let outcomes = batch.iter().map(|outgoing| self.judge(outgoing)).collect();
        if self.mutant == Some(Mutant::TwoInFlight) {
            for outgoing in &batch {
                self.send_next(outgoing);
            }
        }
        self.answer_batch(worker, life, batch, outcomes);
    }

    /// What the broker says of one message.
    fn judge(&mut self, outgoing: &Outgoing) -> Outcome {
        let (stream, version) = (number(&outgoing.stream), outgoing.event.version);
        if self.faults.has(FaultKind::Nacks) && self.chance(40) {
            self.coverage.nacks += 1;
            // One of several queues may have taken it.
            if self.chance(30) {
                self.arrive(stream, version);
            }
            return Outcome::Refused("nack".to_owned());
        }
        if !self.arrive(stream, version) {
            self.coverage.returns += 1;
            if self.mutant == Some(Mutant::ReturnIsAck) {
                return Outcome::Confirmed;
            }
            return Outcome::Refused("no queue is bound".to_owned());
        }
        self.oracle.confirmed(stream, version);
        Outcome::Confirmed
    }

    /// A message reaches the exchange. Whether a queue takes it.
    pub(super) fn arrive(&mut self, stream: u8, version: u64) -> bool {
        let is_routed = !self.faults.has(FaultKind::Unroutable(stream));
        if is_routed {
            self.note(|| format!("s{stream} v{version} is in the queue"));
            self.oracle.delivered(stream, version, self.now);
        }
        is_routed
    }

    /// A mutant sends the next event of a stream without waiting.
    fn send_next(&mut self, outgoing: &Outgoing) {
        let stream = number(&outgoing.stream);
        if let Some(next) = self.table.next_public(stream, outgoing.event.version, self.now) {
            let is_refused = self.faults.has(FaultKind::Nacks) && self.chance(40);
            if !is_refused {
                self.arrive(stream, next);
            }
        }
    }

    /// The connection breaks: each message may have arrived, or not, or arrives when nobody waits for it any more.
    fn break_off(&mut self, worker: usize, life: u32, batch: Vec<Outgoing>) {
        for outgoing in &batch {
            let (stream, version) = (number(&outgoing.stream), outgoing.event.version);
            match self.random.u8(0..3) {
                0 => _ = self.arrive(stream, version),
                1 => {
                    let at = self.now + self.random.u64(0..LATEST_MS);
                    self.at(at, Happening::Late(stream, version));
                }
                _ => {}
            }
        }
        let outcome = match self.mutant {
            Some(Mutant::UnknownIsPublished) => Outcome::Confirmed,
            _ => Outcome::Unknown,
        };
        let outcomes = vec![outcome; batch.len()];
        let at = self.now + self.random.u64(1..CONFIRM_TIMEOUT_MS);
        self.coverage.unknown += batch.len() as u64;
        self.at(at, Happening::Result(worker, life, Done::Published(batch, outcomes)));
    }

    fn answer_batch(&mut self, worker: usize, life: u32, batch: Vec<Outgoing>, outcomes: Vec<Outcome>) {
        self.answer(worker, life, Done::Published(batch, outcomes));
    }
}
