//! The core's bounds and delays.

use std::{num::NonZeroUsize, time::Duration};

use fastrand::Rng;

/// Bounds and delays.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Streams whose requests are under way at the same time.
    pub concurrency: usize,
    /// Streams of which events that were read from the store are held.
    pub max_catching_up: usize,
    /// Streams that are not worked on whose position is remembered.
    pub remembered_streams: NonZeroUsize,
    /// Parked streams that are remembered, so that a message of one does not cause another attempt.
    pub remembered_parked: NonZeroUsize,
    /// The time from one look for parked streams to the next.
    pub due_interval: Duration,
    /// The delay before the first retry. Each later one is twice as long, up to `longest_retry_delay`.
    pub first_retry_delay: Duration,
    /// The longest delay before a retry.
    pub longest_retry_delay: Duration,
    /// The longest that a message is kept unacknowledged.
    pub hold_limit: Duration,
    /// The shortest time from one check of a stream's history to the next.
    pub check_interval: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let thousands = |count: usize| NonZeroUsize::new(count * 1_000).expect("it is not zero");
        Self {
            concurrency: 16,
            max_catching_up: 8,
            remembered_streams: thousands(100),
            remembered_parked: thousands(10),
            due_interval: Duration::from_secs(5),
            first_retry_delay: Duration::from_secs(1),
            longest_retry_delay: Duration::from_mins(5),
            // The broker's own limit is half an hour.
            hold_limit: Duration::from_mins(10),
            check_interval: Duration::from_mins(1),
        }
    }
}

impl Bounds {
    /// The delay before the next retry after this many attempts, ±20 %.
    pub(super) fn retry_delay(&self, attempts: u32, jitter: &mut Rng) -> Duration {
        let doubled = self.first_retry_delay.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        doubled.min(self.longest_retry_delay).mul_f64(0.8 + 0.4 * jitter.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let (bounds, mut jitter) = (Bounds::default(), Rng::with_seed(1));
        for (attempts, seconds) in [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (u32::MAX, 300.0)]
        {
            let delay = bounds.retry_delay(attempts, &mut jitter).as_secs_f64();
            assert!((0.8 * seconds..=1.2 * seconds).contains(&delay), "{attempts}: {delay}");
        }
    }
}
