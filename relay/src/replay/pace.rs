//! How fast: at most so many events a second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::BATCH_EVENTS;

/// Keeps to a rate: after a batch the next one waits until its time.
pub(super) struct Pace {
    rate: u32,
    next_at: Instant,
}

impl Pace {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { rate, next_at: now }
    }

    /// A batch of a fifth of a second at the most, so that the rate holds over short times as well.
    pub(super) fn most_at_once(&self) -> usize {
        (self.rate as usize / 5).clamp(1, BATCH_EVENTS)
    }

    pub(super) async fn wait_for(&mut self, events: usize) {
        sleep_until(self.next_at).await;
        self.next_at = self.following(events, Instant::now());
    }

    /// What was not used in time is lost: no burst after a pause.
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    fn following(&self, events: usize, now: Instant) -> Instant {
        self.next_at.max(now) + Duration::from_secs_f64(events as f64 / f64::from(self.rate))
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
        for _ in 0..10 {
            pace.next_at = pace.following(20, pace.next_at);
        }
        assert_eq!(pace.next_at - began, Duration::from_secs(2), "ten batches of 20 at 100 a second");
        let later = began + Duration::from_mins(1);
        assert_eq!(pace.following(20, later) - later, Duration::from_millis(200));
    }
}
