//! What runs have seen.

/// What a run has seen, summed up over many runs: that a simulator never reaches a situation would be a mistake of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Steps of the simulation.
    pub steps: u64,
    /// Events that reached a queue.
    pub delivered: u64,
    /// Messages that did so again.
    pub duplicates: u64,
    /// Messages whose outcome the relay did not learn.
    pub unknown: u64,
    /// Those among them that arrived after the relay had given them up.
    pub late: u64,
    /// Messages that were refused with a nack.
    pub nacks: u64,
    /// Messages that no queue took.
    pub returns: u64,
    /// Batches that broke off, so that each of their events is suspected.
    pub suspected: u64,
    /// Events that were published alone.
    pub alone: u64,
    /// Those among them that broke their channel or their connection.
    pub poison: u64,
    /// Visibility checks.
    pub visibility_checks: u64,
    /// Those that showed an entry which the Query had not.
    pub hidden: u64,
    /// Entries that stood in the index without being pending any more when they were read.
    pub stale: u64,
    /// Deletes that were not done, or not known as done.
    pub failed_deletes: u64,
    /// Streams that halted.
    pub halts: u64,
    /// Changes of a group.
    pub members: u64,
    /// Steps that a worker did after it had stood still for longer than the group waits.
    pub zombies: u64,
    /// Entries that an operator removed.
    pub skips: u64,
    /// Streams that a relay was woken for.
    pub woken: u64,
    /// Positions that replays have kept.
    pub kept: u64,
    /// Replays that resumed behind the beginning.
    pub resumed: u64,
    /// Replays that ended with an event that they gave up.
    pub given_up: u64,
}

impl Coverage {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        for (mine, others) in self.counters().into_iter().zip(other.situations()) {
            *mine += others.1;
        }
    }

    /// Each situation by its name, and how often it came up.
    #[must_use]
    pub fn situations(&self) -> [(&'static str, u64); 22] {
        [
            ("steps", self.steps),
            ("delivered", self.delivered),
            ("duplicates", self.duplicates),
            ("unknown", self.unknown),
            ("late", self.late),
            ("nacks", self.nacks),
            ("returns", self.returns),
            ("suspected", self.suspected),
            ("alone", self.alone),
            ("poison", self.poison),
            ("visibility_checks", self.visibility_checks),
            ("hidden", self.hidden),
            ("stale", self.stale),
            ("failed_deletes", self.failed_deletes),
            ("halts", self.halts),
            ("members", self.members),
            ("zombies", self.zombies),
            ("skips", self.skips),
            ("woken", self.woken),
            ("kept", self.kept),
            ("resumed", self.resumed),
            ("given_up", self.given_up),
        ]
    }

    /// In the same order.
    fn counters(&mut self) -> [&mut u64; 22] {
        [
            &mut self.steps,
            &mut self.delivered,
            &mut self.duplicates,
            &mut self.unknown,
            &mut self.late,
            &mut self.nacks,
            &mut self.returns,
            &mut self.suspected,
            &mut self.alone,
            &mut self.poison,
            &mut self.visibility_checks,
            &mut self.hidden,
            &mut self.stale,
            &mut self.failed_deletes,
            &mut self.halts,
            &mut self.members,
            &mut self.zombies,
            &mut self.skips,
            &mut self.woken,
            &mut self.kept,
            &mut self.resumed,
            &mut self.given_up,
        ]
    }
}
