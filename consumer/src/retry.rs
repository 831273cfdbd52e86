//! How long to wait before the next attempt. The only place that knows the crate `backoff`.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Exponentially growing, jittered (±50 %) waiting times.
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let steps = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_multiplier(2.0)
            // The crate's own randomness can't be passed in.
            .with_randomization_factor(0.0)
            .with_max_interval(longest)
            // The crate's default gives up after 15 minutes; here the caller's bound decides.
            .with_max_elapsed_time(None)
            .build();
        Self(steps)
    }

    /// The next, longer time. `jitter`: from 0 to 1.
    pub(crate) fn next(&mut self, jitter: f64) -> Duration {
        let step = self.0.next_backoff().unwrap_or(self.0.max_interval);
        step.mul_f64(0.5 + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_decided_by_the_jitter_alone() {
        let delays_ms = |jitter: f64| -> Vec<u128> {
            let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(60));
            (0..5).map(|_| backoff.next(jitter).as_millis()).collect()
        };
        assert_eq!(delays_ms(0.5), [10, 20, 40, 60, 60]);
        assert_eq!(delays_ms(0.0), [5, 10, 20, 30, 30]);
        assert_eq!(delays_ms(1.0), [15, 30, 60, 90, 90]);
    }
}
