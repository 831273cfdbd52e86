//! A model of the broker: confirms, nacks, returns, and connections that break in the middle of a batch.

use streambox_relay::core::{Done, Isolation, Outcome, Outgoing, Task};

use super::{
    mutant::Mutant,
    queue::{Happening, Job},
    scenario::{Breaks, FaultKind, Ms},
    table::number,
    world::World,
};

/// How long a relay waits at most until it gives up on confirms.
const CONFIRM_TIMEOUT_MS: Ms = 5_000;

/// How much later a message may arrive whose sender has given it up.
const LATEST_MS: Ms = 10_000;

/// A relay without a connection tries again after this time.
const RECONNECT_MS: Ms = 400;

/// Whatever is published on a connection for so long before it ends is under way when it does.
const UNDER_WAY_MS: Ms = 10;

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
        if let Some(breaks) = batch.iter().find_map(|outgoing| self.breaks(outgoing)) {
            return self.break_by(breaks, worker, life, batch);
        }
        let outcomes = batch.iter().map(|outgoing| self.judge(outgoing)).collect();
        if self.mutant == Some(Mutant::TwoInFlight) {
            for outgoing in &batch {
                self.send_next(outgoing);
            }
        }
        self.answer_batch(worker, life, batch, outcomes);
    }

    /// What a message breaks.
    fn breaks(&self, outgoing: &Outgoing) -> Option<Breaks> {
        let poison = self.scenario.poison?;
        (number(&outgoing.stream) == poison.stream).then_some(poison.breaks)
    }

    /// A batch with a message in it that breaks it.
    fn break_by(&mut self, breaks: Breaks, worker: usize, life: u32, batch: Vec<Outgoing>) {
        self.coverage.suspected += 1;
        let mut any_confirmed = false;
        for outgoing in &batch {
            if self.breaks(outgoing).is_none() {
                any_confirmed |= self.arrives_perhaps(outgoing, breaks == Breaks::Silence);
            }
        }
        let is_suspect = any_confirmed || breaks != Breaks::Socket;
        let outcome = if is_suspect { Outcome::Suspect(format!("{breaks:?}")) } else { Outcome::Unknown };
        let outcomes = vec![outcome; batch.len()];
        let at = self.now + if breaks == Breaks::Silence { CONFIRM_TIMEOUT_MS } else { self.latency() };
        self.at(at, Happening::Result(worker, life, Done::Published(batch, outcomes)));
    }

    /// A message on a connection that ends arrives, or does not, or arrives when nobody waits for it any more. Whether it
    /// has arrived.
    fn arrives_perhaps(&mut self, outgoing: &Outgoing, does_surely: bool) -> bool {
        let (stream, version) = (number(&outgoing.stream), outgoing.event.version);
        match self.random.u8(0..3) {
            0 => return self.arrive(stream, version),
            _ if does_surely => return self.arrive(stream, version),
            1 => {
                let at = self.now + self.random.u64(0..LATEST_MS);
                self.at(at, Happening::Late(stream, version));
            }
            _ => {}
        }
        false
    }

    /// An event on a channel or a connection of its own.
    pub(super) fn publish_alone(&mut self, worker: usize, life: u32, outgoing: Outgoing, isolation: Isolation) {
        if self.faults.has(FaultKind::BrokerAway) {
            let is_stopping = self.worker(worker).is_some_and(|worker| worker.core.next_due().is_none());
            if is_stopping || self.chance(20) {
                return self.answer(worker, life, Done::PublishedAlone(outgoing, isolation, Outcome::Unknown));
            }
            let again = Happening::Execute(worker, life, Job::Task(Task::PublishAlone(outgoing, isolation)));
            return self.at(self.now + RECONNECT_MS, again);
        }
        let breaks = self.breaks(&outgoing);
        if let Some(wrong) = self.shared_by_mutant(isolation) {
            // With a message on it that breaks it, it continues as with any batch.
            if breaks.is_none() {
                self.arrives_perhaps(&outgoing, false);
            }
            let at = self.now + self.random.u64(1..CONFIRM_TIMEOUT_MS);
            return self.at(at, Happening::Result(worker, life, Done::PublishedAlone(outgoing, isolation, wrong)));
        }
        let is_broken = self.faults.has(FaultKind::BrokerBreaks) && self.chance(30);
        let ended_at = self.shared_ended_at.get(&worker).copied();
        let is_swept_along =
            isolation == Isolation::Channel && ended_at.is_some_and(|at| self.now <= at + UNDER_WAY_MS);
        let outcome = match (breaks, isolation) {
            (Some(Breaks::Channel | Breaks::Silence), Isolation::Channel) | (Some(_), Isolation::Connection) => {
                self.coverage.poison += 1;
                Outcome::Poison(format!("{breaks:?}"))
            }
            (Some(Breaks::Connection | Breaks::Socket), Isolation::Channel) => {
                self.shared_ended_at.insert(worker, self.now);
                Outcome::Suspect(format!("{breaks:?}"))
            }
            (None, _) if is_broken || is_swept_along => {
                self.arrives_perhaps(&outgoing, false);
                match isolation {
                    Isolation::Channel => Outcome::Suspect("the connection ended".to_owned()),
                    Isolation::Connection => Outcome::Poison("the connection ended".to_owned()),
                }
            }
            (None, _) => self.judge(&outgoing),
        };
        let delay = if breaks == Some(Breaks::Silence) { CONFIRM_TIMEOUT_MS } else { self.latency() };
        let at = self.now + delay;
        self.at(at, Happening::Result(worker, life, Done::PublishedAlone(outgoing, isolation, outcome)));
    }

    /// What a mutant says that does not keep apart what it should: there is always something on it that breaks it.
    fn shared_by_mutant(&self, isolation: Isolation) -> Option<Outcome> {
        let poison = self.scenario.poison.filter(|poison| self.table.has_pending(poison.stream, self.now))?;
        let suspect = Outcome::Suspect("it is shared".to_owned());
        match (self.mutant?, poison.breaks, isolation) {
            (Mutant::ShareChannel, Breaks::Channel, _)
            | (Mutant::ShareConnection, Breaks::Connection | Breaks::Socket, Isolation::Connection) => Some(suspect),
            (Mutant::TrustSilence, Breaks::Silence, _) => Some(Outcome::Unknown),
            _ => None,
        }
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
            self.arrives_perhaps(outgoing, false);
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
