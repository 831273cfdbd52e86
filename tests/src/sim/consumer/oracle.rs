//! What must never happen, whatever goes wrong: checked at every step, against what is really stored and acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{scenario::Ms, seeds},
    inbox::Item,
    store::{EventNumber, Store},
};

/// A promise that was broken.
pub type Violation = seeds::Violation<Promise>;

/// What a consumer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// C1: each effect once. No event's effect is stored twice, and a message is acknowledged only if the effect is stored or a mark
    /// covers it.
    Once,
    /// C2: the effects of a stream come in version order, without a gap.
    Order,
    /// C3: a loss is noticed and healed, another history is noticed.
    Loss,
    /// C4: a stream that can't be applied stops only itself, visibly.
    Isolation,
    /// Bounds hold.
    Bounded,
    /// When nothing goes wrong any more, nothing is left.
    Drains,
}

/// What became of a stream whose events table was restored.
#[derive(Clone, Copy, Debug, Default)]
struct Fork {
    is_noticed: bool,
    /// Events of the new history were applied behind one of the old history.
    is_passed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    violation: Option<Violation>,
    /// Also those that a restore has taken away.
    ever_applied: BTreeSet<EventNumber>,
    /// By an operator.
    skipped: BTreeSet<EventNumber>,
    /// The highest version that a mark has ever covered.
    covered: BTreeMap<u8, u64>,
    forks: BTreeMap<u8, Fork>,
    /// Whether a changed history may be passed over by chance: its first messages may be lost, or come behind others.
    pub(super) may_pass_forks: bool,
    /// Whether consumers may remember positions that a restore has taken back.
    pub(super) may_remember: bool,
    pub(super) passed_after_notice: u64,
}

impl Oracle {
    /// The first promise that was broken.
    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn broken(&mut self, promise: Promise, at_ms: Ms, what: String) {
        self.violation.get_or_insert(Violation { promise, what, at_ms });
    }

    /// The effect of an event is about to be stored behind these.
    pub(super) fn applies(&mut self, store: &Store, item: &Item, number: EventNumber, now: Ms) {
        let (event, before) = (store.event(number), &item.effects);
        let (stream, version) = (event.stream, event.version);
        self.ever_applied.insert(number);
        if before.contains(&number) {
            return self.broken(Promise::Once, now, format!("the effect of s{stream} v{version} is stored twice"));
        }
        let mut expected = event.previous;
        while let Some(skipped) = expected.filter(|it| !before.contains(it) && self.skipped.contains(it)) {
            expected = store.event(skipped).previous;
        }
        let last = before.last().copied();
        if last == expected {
            return;
        }
        let version_of = |number: Option<EventNumber>| number.map_or(0, |number| store.event(number).version);
        // Behind a skip the position is further than the last effect.
        let (last, expected) = (version_of(last).max(item.position.version), version_of(expected));
        if last < expected || last >= version || !self.forks.contains_key(&stream) {
            let what =
                format!("the effect of s{stream} v{version} is stored behind that of v{last}, not of v{expected}");
            return self.broken(Promise::Order, now, what);
        }
        // A message of the old history may fit what is there of the new one by chance. It shows when the new event of its version comes.
        if !store.has(number) {
            return;
        }
        let may_pass = self.may_pass_forks;
        let fork = self.forks.entry(stream).or_default();
        fork.is_passed = true;
        if fork.is_noticed {
            self.passed_after_notice += 1;
        } else if !may_pass && !self.covered.contains_key(&stream) {
            let what = format!("s{stream} v{version} is of another history than v{last}, behind which it is applied");
            self.broken(Promise::Loss, now, what);
        }
    }

    /// A mark covers all versions up to this one.
    pub(super) fn covers(&mut self, stream: u8, version: u64) {
        let covered = self.covered.entry(stream).or_default();
        *covered = version.max(*covered);
    }

    /// A mark was removed.
    pub(super) fn unparked(&mut self, store: &Store, stream: u8, item: &Item, now: Ms) {
        let Some(mark) = &item.mark else { return };
        let (last, latest) = (item.position.version, mark.latest_version);
        if store.public(stream).any(|event| event.version > last && event.version <= latest) {
            let what =
                format!("the mark of s{stream} is removed at v{last}, and messages up to v{latest} are acknowledged");
            self.broken(Promise::Once, now, what);
        }
    }

    pub(super) fn skipped(&mut self, number: EventNumber) {
        self.skipped.insert(number);
    }

    /// The message of an event is acknowledged by a consumer.
    pub(super) fn acknowledged(&mut self, store: &Store, item: &Item, has_store: bool, number: EventNumber, now: Ms) {
        let event = store.event(number);
        let (stream, version) = (event.stream, event.version);
        let is_covered = self.covered.get(&stream).is_some_and(|covered| version <= *covered);
        let fork = self.forks.get(&stream);
        // Without the table there is nothing to compare it with but the id of the last one, which a skip does not know.
        let is_the_last = version == item.position.version && item.position.event_id.is_some() && !self.may_remember;
        let can_be_known = fork.is_none() || (has_store && !self.may_pass_forks) || is_the_last;
        let is_excused = fork.is_some_and(|fork| fork.is_passed) || !can_be_known;
        let is_old = version <= item.position.version || self.may_remember;
        let may_go = self.ever_applied.contains(&number)
            || self.skipped.contains(&number)
            || is_covered
            || !store.has(number)
            || (is_excused && is_old);
        if !may_go {
            let what =
                format!("the message of s{stream} v{version} is acknowledged, which is neither applied nor noted");
            self.broken(Promise::Once, now, what);
        }
    }

    /// The history of a stream is another one from now on.
    pub(super) fn forked(&mut self, stream: u8) {
        self.forks.insert(stream, Fork::default());
    }

    /// Whether its history has ever changed.
    pub(super) fn is_forked(&self, stream: u8) -> bool {
        self.forks.contains_key(&stream)
    }

    /// A consumer says that a history has changed. Whether that is new.
    pub(super) fn notices(&mut self, stream: u8) -> bool {
        self.forks.get_mut(&stream).is_some_and(|fork| !std::mem::replace(&mut fork.is_noticed, true))
    }

    pub(super) fn is_noticed(&self, stream: u8) -> bool {
        self.forks.get(&stream).is_some_and(|fork| fork.is_noticed || fork.is_passed)
    }

    /// The first public event of a stream that is neither applied nor skipped.
    pub(super) fn first_missing(&self, store: &Store, item: &Item, stream: u8) -> Option<u64> {
        let is_done = |number: EventNumber| item.effects.contains(&number) || self.skipped.contains(&number);
        store.public(stream).find(|event| !is_done(event.number)).map(|event| event.version)
    }
}
