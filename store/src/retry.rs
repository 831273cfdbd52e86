//! How long to wait before the next attempt. The only place that knows the crate `backoff`.

use std::{sync::Arc, time::Duration};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Where waiting times get their jitter from: numbers from 0 (included) to 1 (excluded).
#[derive(Clone)]
pub(crate) struct Jitter(Arc<dyn Fn() -> f64 + Send + Sync>);

impl Jitter {
    pub(crate) fn new(source: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self::new(fastrand::f64)
    }
}

/// Exponentially growing, jittered (±50 %) waiting times. They are the same each time for the same jitter.
pub(crate) struct Backoff {
    steps: ExponentialBackoff,
    jitter: Jitter,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration, jitter: Jitter) -> Self {
        let steps = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_multiplier(2.0)
            // The crate's own randomness can't be passed in.
            .with_randomization_factor(0.0)
            .with_max_interval(longest)
            // The crate's default gives up after 15 minutes; here the caller's bound decides.
            .with_max_elapsed_time(None)
            .build();
        Self { steps, jitter }
    }

    fn next(&mut self) -> Duration {
        let step = self.steps.next_backoff().unwrap_or(self.steps.max_interval);
        step.mul_f64(0.5 + (self.jitter.0)().clamp(0.0, 1.0))
    }

    /// Waits for the next, longer time.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_decided_by_the_jitter_alone() {
        let delays_ms = |jitter: f64| -> Vec<u128> {
            let (first, longest) = (Duration::from_millis(10), Duration::from_millis(60));
            let mut backoff = Backoff::new(first, longest, Jitter::new(move || jitter));
            (0..5).map(|_| backoff.next().as_millis()).collect()
        };
        assert_eq!(delays_ms(0.5), [10, 20, 40, 60, 60]);
        assert_eq!(delays_ms(0.0), [5, 10, 20, 30, 30]);
        assert_eq!(delays_ms(7.0), [15, 30, 60, 90, 90], "a source that is out of range does no harm");
    }
}
