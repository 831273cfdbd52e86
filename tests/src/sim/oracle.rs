//! What must never happen, whatever goes wrong: checked at every step, against what really reached the exchange.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    scenario::{END, Ms},
    seeds,
};

/// A promise that was broken.
pub type Violation = seeds::Violation<Promise>;

/// What a relay promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// G5: an entry is deleted only after the broker confirmed every message of it.
    NothingLost,
    /// G6: first deliveries come in version order.
    Order,
    /// G11: each message names the public version before it.
    Chain,
    /// G10: bounds hold.
    Bounded,
    /// When nothing goes wrong any more, everything is published and deleted.
    Drains,
    /// G7: a stream that can't be published stops only itself, and is seen as halted.
    Isolation,
    /// The workers of a group come to agree on its members.
    Agreement,
    /// A replay that resumes publishes at most a window again.
    Window,
}

/// What is known of one event that is to be published.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    is_delivered: bool,
    is_confirmed: bool,
    /// An operator has given it up.
    is_excused: bool,
}

/// Watches the exchange and the table.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// By stream and version.
    events: BTreeMap<(u8, u64), Fate>,
    /// Events, in all streams, that were not delivered yet and are not excused.
    missing: BTreeSet<(u8, u64)>,
    violation: Option<Violation>,
    pub(super) delivered: u64,
    pub(super) duplicates: u64,
}

impl Oracle {
    /// The first promise that was broken.
    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn broken(&mut self, promise: Promise, at_ms: Ms, what: String) {
        self.violation.get_or_insert(Violation { promise, what, at_ms });
    }

    /// An event that is to be published was committed.
    pub(super) fn appended(&mut self, stream: u8, version: u64) {
        self.events.insert((stream, version), Fate::default());
        self.missing.insert((stream, version));
    }

    /// A message has reached a queue.
    pub(super) fn delivered(&mut self, stream: u8, version: u64, at_ms: Ms) {
        let Some(fate) = self.events.get_mut(&(stream, version)) else {
            self.broken(Promise::Order, at_ms, format!("s{stream} v{version} is private or does not exist"));
            return;
        };
        if std::mem::replace(&mut fate.is_delivered, true) {
            self.duplicates += 1;
            return;
        }
        self.delivered += 1;
        let is_excused = fate.is_excused;
        self.missing.remove(&(stream, version));
        let before = if stream == END { (0, 0) } else { (stream, 0) };
        let earlier = self.missing.range(before..(stream, version)).next();
        if let Some((of, earlier)) = earlier
            && !is_excused
        {
            let what = format!("s{stream} v{version} was delivered before {}v{earlier}", other(*of, stream));
            self.broken(Promise::Order, at_ms, what);
        }
    }

    /// The broker has confirmed a message.
    pub(super) fn confirmed(&mut self, stream: u8, version: u64) {
        if let Some(fate) = self.events.get_mut(&(stream, version)) {
            fate.is_confirmed = true;
        }
    }

    /// An operator has given up an event.
    pub(super) fn excused(&mut self, stream: u8, version: u64) {
        if let Some(fate) = self.events.get_mut(&(stream, version)) {
            fate.is_excused = true;
            self.missing.remove(&(stream, version));
        }
    }

    /// A relay has deleted the entry of these events.
    pub(super) fn deleted(&mut self, stream: u8, versions: &[u64], at_ms: Ms) {
        for version in versions {
            self.let_go(stream, *version, "its entry was deleted", at_ms);
        }
    }

    /// A replay's position has passed an event.
    pub(super) fn passed(&mut self, stream: u8, version: u64, at_ms: Ms) {
        self.let_go(stream, version, "the position has passed it", at_ms);
    }

    fn let_go(&mut self, stream: u8, version: u64, how: &str, at_ms: Ms) {
        let fate = self.events.get(&(stream, version)).copied().unwrap_or_default();
        let may_go = fate.is_excused || (fate.is_delivered && fate.is_confirmed);
        if !may_go {
            let state = if fate.is_delivered { "was not confirmed" } else { "has not reached the exchange" };
            self.broken(Promise::NothingLost, at_ms, format!("s{stream} v{version}: {how}, and it {state}"));
        }
    }

    /// Whether an event has reached a queue.
    pub(super) fn is_delivered(&self, stream: u8, version: u64) -> bool {
        self.events.get(&(stream, version)).is_some_and(|fate| fate.is_delivered)
    }

    /// An event that was never delivered, but for those of one stream.
    pub(super) fn missing(&self, but: Option<u8>) -> Option<(u8, u64)> {
        self.missing.iter().find(|(stream, _)| Some(*stream) != but).copied()
    }
}

/// The other stream, where it is one.
fn other(of: u8, stream: u8) -> String {
    if of == stream { String::new() } else { format!("s{of} ") }
}
