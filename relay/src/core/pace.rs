//! How fast: at most this many events a second.

use std::time::Duration;

use tokio::time::Instant;

/// Keeps to a rate: what is published pushes the time of what follows.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u32,
    next_at: Instant,
    /// When `next_at` was found to lie ahead.
    due: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { rate, next_at: now, due: None }
    }

    /// A batch of a fifth of a second at the most, so that the rate holds over short times as well.
    pub(super) fn most_at_once(&self) -> usize {
        (self.rate as usize / 5).max(1)
    }

    /// Whether something may be published now.
    pub(super) fn is_time(&mut self, now: Instant) -> bool {
        self.due = (now < self.next_at).then_some(self.next_at);
        self.due.is_none()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Events are published. What was not used in time is lost: no burst after a pause.
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    pub(super) fn published(&mut self, events: usize, now: Instant) {
        self.next_at = self.next_at.max(now) + Duration::from_secs_f64(events as f64 / f64::from(self.rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_and_a_pause_is_not_made_up_for() {
        let began = Instant::now();
        let mut pace = Pace::new(100, began);
        assert_eq!((pace.most_at_once(), Pace::new(1, began).most_at_once()), (20, 1));
        let mut now = began;
        for _ in 0..10 {
            assert!(pace.is_time(now));
            pace.published(20, now);
            assert!(!pace.is_time(now));
            now = pace.next_due().expect("a time to wait for");
        }
        assert_eq!(now - began, Duration::from_secs(2), "ten batches of 20 at 100 a second");
        let later = began + Duration::from_mins(1);
        pace.published(20, later);
        assert!(!pace.is_time(later));
        assert_eq!(pace.next_due(), Some(later + Duration::from_millis(200)));
    }
}
