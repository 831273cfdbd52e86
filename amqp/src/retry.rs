//! How long to wait before the next attempt. The only place that knows the crate `backoff`.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

const FIRST_RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// The longest time between two attempts to connect.
pub const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(10);

/// Exponentially growing, jittered (±50 %) waiting times, without an end.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn for_reconnects() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(FIRST_RECONNECT_DELAY)
                .with_multiplier(2.0)
                .with_randomization_factor(0.5)
                .with_max_interval(LONGEST_RECONNECT_DELAY)
                // The crate's default gives up after 15 minutes. What depends on a broker never does.
                .with_max_elapsed_time(None)
                .build(),
        )
    }

    /// Begins again with the shortest.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }

    /// The next, longer time.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(LONGEST_RECONNECT_DELAY)
    }
}
