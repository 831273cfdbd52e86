//! How long to wait before the next attempt. The only place that knows the crate `backoff`.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Exponentially growing, jittered (±50 %) waiting times.
pub(crate) struct Delays(ExponentialBackoff);

impl Delays {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(first)
                .with_multiplier(2.0)
                .with_randomization_factor(0.5)
                .with_max_interval(longest)
                // The crate's default gives up after 15 minutes; here the caller's bound decides.
                .with_max_elapsed_time(None)
                .build(),
        )
    }

    /// Waits for the next, longer time.
    pub(crate) async fn wait(&mut self) {
        let delay = self.0.next_backoff().unwrap_or(self.0.max_interval);
        tokio::time::sleep(delay).await;
    }
}
