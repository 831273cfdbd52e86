//! A replay: what the shell of one does, and where it resumes.

use std::{ops::Range, sync::Arc};

use streambox_relay::core::{Done, HistoryPage, HistoryPosition, Outgoing};

use super::{
    mutant::Mutant,
    oracle::Promise,
    queue::Happening,
    scenario::{END, Membership, Ms},
    shell::Fate,
    table::{History, event, stream_id},
    world::World,
};

/// After this time an operator starts a replay again that ended with an error.
const RESTART_MS: Ms = 3_000;

impl World<'_> {
    pub(super) fn is_replay(&self) -> bool {
        self.scenario.workers.first().is_some_and(|worker| worker.membership == Membership::Replay)
    }

    /// Begins where the position is. Whether there is something to do.
    pub(super) fn begin_replay(&mut self) -> bool {
        if self.history.events.is_empty() {
            self.history.events = self.table.history();
            self.oracle.appended(END, 0);
        }
        let History { kept, events, .. } = &self.history;
        let behind = events[*kept..].iter().chain([&(END, 0, true)]);
        let repeats = behind.filter(|(stream, version, _)| self.oracle.is_delivered(*stream, *version)).count();
        if repeats > self.scenario.limits.window_events {
            let what = format!("{repeats} events are published again by a replay that resumes behind {kept}");
            self.oracle.broken(Promise::Window, self.now, what);
        }
        self.coverage.resumed += u64::from(*kept > 0);
        (self.history.begun_at, self.history.read, self.history.given_up) = (*kept, *kept, None);
        !self.history.is_done
    }

    pub(super) fn read_history(&mut self, most: usize) -> Done {
        if self.fate() != Fate::Answered {
            return Done::History(None);
        }
        let History { events, read, .. } = &mut self.history;
        let to = events.len().min(*read + self.random.usize(1..=most));
        let page = events[*read..to].iter().map(|(stream, version, is_public)| {
            let previous = self.table.public_before(*stream, *version);
            let (stream, event) = (stream_id(*stream), Arc::new(event(*version, previous)));
            is_public.then_some(Outgoing { stream, event })
        });
        let page = HistoryPage { events: page.collect(), has_more: to < events.len() };
        *read = to;
        Done::History(Some(page))
    }

    /// What is published when everything else is.
    pub(super) fn end_of_history() -> Done {
        let end = Outgoing { stream: stream_id(END), event: Arc::new(event(0, None)) };
        Done::History(Some(HistoryPage { events: vec![Some(end)], has_more: false }))
    }

    /// Writes a position.
    pub(super) fn keep(&mut self, position: HistoryPosition) {
        self.coverage.kept += 1;
        let History { events, kept, begun_at, .. } = &mut self.history;
        let passed = *begun_at + usize::try_from(position.passed()).expect("a few events");
        let now = match self.mutant {
            Some(Mutant::KeepNothing) => return,
            Some(Mutant::KeepAhead) => events.len().min(passed + 1),
            _ => passed,
        };
        let newly: Range<usize> = std::mem::replace(kept, now)..now;
        for (stream, version, is_public) in &events[newly] {
            if *is_public {
                self.oracle.passed(*stream, *version, self.now);
            }
        }
    }

    /// A replay has ended by itself.
    pub(super) fn replay_ended(&mut self, number: usize, position: HistoryPosition, given_up: Option<u8>) {
        self.note(|| format!("the replay ends: {position:?}, given up: {given_up:?}"));
        self.keep(position);
        self.history.is_done = position.is_done;
        self.history.given_up = given_up;
        if given_up.is_some() {
            self.coverage.given_up += 1;
            self.at(self.now + RESTART_MS, Happening::Start(number));
        }
    }

    /// Whether everything is published and the replay says so, or it ends each time with the stream that can't be published.
    pub(super) fn is_replayed(&self) -> bool {
        let is_complete = self.history.is_done && self.oracle.missing(None).is_none();
        is_complete || (self.history.given_up.is_some() && self.history.given_up == self.poisoned())
    }
}
