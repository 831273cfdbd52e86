//! When nothing goes wrong any more: what has to be done by then, and what may wait.

use super::{
    oracle::Promise,
    process::Process,
    scenario::FaultKind,
    store::{event_id, stream_id},
    world::{EPOCH_MS, World},
};

/// Where a stream stands at the end.
enum Standing {
    /// Everything is applied.
    Complete,
    /// It waits, visibly, for what no consumer can do.
    Waits,
    /// This version is missing.
    Lacks(u64),
    /// Everything is applied, and it is noted as parked.
    IsParked,
}

impl World<'_> {
    fn living(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().flatten().filter(|process| !process.is_dead)
    }

    fn all_have_store(&self) -> bool {
        self.scenario.consumers.iter().all(|consumer| consumer.has_store)
    }

    /// Whether operators see that it makes no progress.
    fn is_visible(&self, stream: u8) -> bool {
        let id = stream_id(stream);
        let is_waiting = || self.living().any(|process| process.core.waiting().any(|(waiting, _)| *waiting == id));
        self.inbox.item(stream).mark.is_some() || is_waiting()
    }

    fn standing(&self, stream: u8) -> Standing {
        let item = self.inbox.item(stream);
        let missing = self.oracle.first_missing(&self.store, &item, stream);
        // Also one that was skipped, if a restore has taken that back.
        let is_poisoned = |missing: u64| {
            let poison = self.scenario.poison.filter(|poison| poison.stream == stream);
            poison.is_some_and(|poison| poison.version > item.position.version && poison.version <= missing)
        };
        let is_forked = self.oracle.is_forked(stream);
        let may_wait = is_forked
            || missing.is_some_and(is_poisoned)
            || (!self.all_have_store() && self.scenario.has(FaultKind::disorders));
        match missing {
            // Also where all is applied: behind events of a history that is over, or beside a message that can't be read.
            _ if may_wait && self.is_visible(stream) => Standing::Waits,
            None if item.mark.is_none() => Standing::Complete,
            Some(_) if is_forked && self.oracle.is_noticed(stream) => Standing::Waits,
            // Without the table nothing is known of an event that is older than the last one.
            Some(_) if is_forked && !self.all_have_store() => Standing::Waits,
            Some(version) => Standing::Lacks(version),
            None => Standing::IsParked,
        }
    }

    /// The streams that wait, if all others are complete, or else a word about one that is not.
    fn waiting(&self) -> Result<Vec<u8>, (Promise, String)> {
        let (mut waiting, mut lacking) = (Vec::new(), None);
        for stream in self.store.streams() {
            match self.standing(stream) {
                Standing::Complete => {}
                Standing::Waits => waiting.push(stream),
                Standing::Lacks(version) => {
                    lacking.get_or_insert((stream, format!("s{stream} v{version} was never applied")));
                }
                Standing::IsParked => {
                    lacking.get_or_insert((stream, format!("s{stream} is applied, and still noted as parked")));
                }
            }
        }
        let Some((stream, what)) = lacking else { return Ok(waiting) };
        let is_visible = self.is_visible(stream);
        Err(if !waiting.is_empty() || self.scenario.poison.is_some() {
            (Promise::Isolation, what)
        } else if !self.scenario.has(FaultKind::disorders) {
            (Promise::Once, what)
        } else if is_visible {
            (Promise::Loss, format!("{what}, though it could be"))
        } else {
            (Promise::Loss, format!("{what}, and nobody sees it"))
        })
    }

    /// Whether everything is applied and acknowledged that can be, and every consumer knows that.
    /// `is_settled`: it has been calm for so long that what still waits will wait for ever.
    pub(super) fn is_done(&mut self, is_settled: bool) -> bool {
        if is_settled && self.is_full_of_waiting() {
            self.coverage.ended_full += 1;
            return true;
        }
        let Ok(waiting) = self.waiting() else { return false };
        if (!waiting.is_empty() && !is_settled) || self.rest(&waiting).is_some() {
            return false;
        }
        self.coverage.ended_waiting += u64::from(!waiting.is_empty());
        true
    }

    /// What is left to do, but for streams that wait.
    fn rest(&self, waiting: &[u8]) -> Option<String> {
        let is_waiting = |number| waiting.contains(&self.store.event(number).stream);
        let may_stay = |message: super::broker::Message| message.event().is_some_and(is_waiting);
        if let Some(message) = self.broker.ready().find(|message| !may_stay(*message)) {
            return Some(format!("{message:?} is in the queue"));
        }
        if let Some(message) = self.broker.unacknowledged().find(|message| !may_stay(*message)) {
            return Some(format!("{message:?} is not acknowledged"));
        }
        let is_idle = |core: &streambox_consumer::core::Core| {
            core.open_streams() <= waiting.len()
                && core.catching_up() <= waiting.len()
                && (!waiting.is_empty() || (core.unacknowledged() == 0 && core.under_way() == 0))
        };
        let is_restless = self.living().any(|process| !is_idle(&process.core));
        is_restless.then(|| "a consumer does not come to rest".to_owned())
    }

    /// Without a store or an inbox, messages of streams that wait are kept: they may take all the room there is.
    fn is_full_of_waiting(&self) -> bool {
        let keeps = self.scenario.consumers.iter().any(|consumer| !consumer.has_store || !consumer.has_inbox);
        let waits = |message: super::broker::Message| {
            let stream = message.event().map(|number| self.store.event(number).stream);
            stream.is_some_and(|stream| matches!(self.standing(stream), Standing::Waits))
        };
        keeps
            && self.broker.ready().next().is_some()
            && self.broker.channels() == self.living().count()
            && self.broker.is_full()
            && self.broker.unacknowledged().all(waits)
    }

    pub(super) fn explain(&mut self) {
        let (promise, what) = match self.waiting() {
            Err(lacking) => lacking,
            Ok(waiting) => {
                let what = self.rest(&waiting).unwrap_or_else(|| "it was done a moment ago".to_owned());
                (Promise::Drains, what)
            }
        };
        self.oracle.broken(promise, self.now, what);
    }

    /// An operator skips what a stream can't apply.
    pub(super) fn skip(&mut self, stream: u8) {
        if self.is_restoring_inbox() {
            return;
        }
        let item = self.inbox.item(stream);
        let last = item.position.version;
        let next = self.store.public(stream).find(|event| event.version > last).cloned();
        let Some(event) = next.filter(|_| self.scenario.consumers[0].has_inbox && self.is_visible(stream)) else {
            return;
        };
        let has_store = self.all_have_store();
        self.note(|| format!("an operator skips {event:?}"));
        self.coverage.skips += 1;
        self.oracle.skipped(event.number);
        let id = has_store.then(|| event_id(event.number));
        let clock = EPOCH_MS + i64::try_from(self.now).unwrap_or(i64::MAX);
        self.inbox.skip(stream, event.version, id, clock, self.now);
    }
}
