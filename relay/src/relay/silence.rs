//! Since when the broker has not answered although messages are on their way to it.

use tokio::time::Instant;

use crate::core::Outcome;

/// Batches that were handed over, and since when none of them was answered.
///
/// Only an outcome that the broker named for a single message is an answer. A batch that ended without one is published again,
/// together or one by one, and the silence continues: so a broker that accepts connections and never confirms anything is noticed, however
/// often the relay reconnects.
#[derive(Debug, Default)]
pub(super) struct Silence {
    in_flight: usize,
    since: Option<Instant>,
}

impl Silence {
    pub(super) fn handed_over(&mut self, now: Instant) {
        self.in_flight += 1;
        self.since.get_or_insert(now);
    }

    pub(super) fn came_back(&mut self, outcomes: &[Outcome], now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.heard(outcomes, now);
    }

    /// Takes outcomes, also of events that were published alone.
    pub(super) fn heard(&mut self, outcomes: &[Outcome], now: Instant) {
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Confirmed | Outcome::Refused(_))) {
            self.since = (self.in_flight > 0).then_some(now);
        }
    }

    /// Since when; none if nothing waits for an answer.
    pub(super) fn since(&mut self, is_idle: bool) -> Option<Instant> {
        if is_idle && self.in_flight == 0 {
            // The events whose outcome was unknown are done otherwise: published by another worker, skipped, or halted.
            self.since = None;
        }
        self.since
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn silence_begins_with_the_first_batch_and_ends_with_an_answer_not_with_a_lost_connection() {
        let (mut silence, began) = (Silence::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(silence.since(true), None);
        silence.handed_over(at(0));
        silence.handed_over(at(5));
        silence.came_back(&[Outcome::Unknown], at(30));
        silence.came_back(&[Outcome::Unknown], at(35));
        assert_eq!(silence.since(false), Some(at(0)), "it is published again");
        silence.handed_over(at(36));
        silence.handed_over(at(37));
        silence.came_back(&[Outcome::Unknown, Outcome::Refused("no queue".to_owned())], at(40));
        assert_eq!(silence.since(false), Some(at(40)), "the other batch waits on");
        silence.came_back(&[Outcome::Confirmed], at(41));
        assert_eq!(silence.since(false), None);
        silence.handed_over(at(45));
        silence.came_back(&[Outcome::Suspect("403".to_owned())], at(46));
        silence.heard(&[Outcome::Poison("403".to_owned())], at(47));
        assert_eq!(silence.since(false), Some(at(45)), "that says nothing about others");
        silence.heard(&[Outcome::Confirmed], at(48));
        assert_eq!(silence.since(false), None, "one that was published alone has got through");
        silence.handed_over(at(50));
        silence.came_back(&[Outcome::Unknown], at(80));
        assert_eq!(silence.since(true), None, "nothing is worked on any more");
    }
}
