//! The core's bounds and delays, and how delays grow.

use std::{num::NonZeroUsize, time::Duration};

/// Bounds and delays.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Streams that are worked on at the same time.
    pub max_streams: usize,
    /// Reads under way at the same time.
    pub max_reads: usize,
    /// Events in one batch.
    pub max_batch_events: usize,
    /// Bytes of payloads in one batch, if it has more than one event: so many may be sent twice when a connection ends.
    pub max_batch_bytes: usize,
    /// Events that are published alone at the same time. Half of them are for those that are new to suspicion: streams
    /// that were halted before, or whose routing key or size is known to be refused, take the other half at most.
    pub max_suspects: usize,
    /// `BatchWriteItem` requests under way at the same time.
    pub max_deletes: usize,
    /// Bytes of events that are held, those that reads under way may bring included. One read of what is missing of an
    /// entry is always allowed: a megabyte at the most.
    pub max_buffered_bytes: usize,
    /// Pending entries that one read asks for.
    pub entries_per_read: u16,
    /// Streams whose last published entry is remembered after they have been worked on, so that the next one needs no
    /// visibility check. Each takes about 160 bytes, if its id has 42.
    pub remembered_streams: NonZeroUsize,
    /// Halted streams that are remembered. Beyond that the oldest is forgotten: it is simply tried anew.
    pub remembered_halts: NonZeroUsize,
    /// Appends to a stream that are this close, by the times that their writers gave them, need a visibility check of the
    /// earlier one, unless this relay has published it. It has to be longer than any two writers' clocks are
    /// apart. AWS refuses a writer whose clock is more than 5 minutes wrong, some of its services more than 15, unless its
    /// client corrects the time (`streambox::client` does not).
    pub settle_window: Duration,
    /// The first delay after a failure. It doubles with each further one.
    pub first_delay: Duration,
    /// The longest delay after a failure.
    pub longest_delay: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_streams: 512,
            max_reads: 32,
            max_batch_events: 256,
            max_batch_bytes: 4 * 1024 * 1024,
            // A whole batch at once.
            max_suspects: 256,
            max_deletes: 4,
            max_buffered_bytes: 32 * 1024 * 1024,
            entries_per_read: 64,
            remembered_streams: NonZeroUsize::new(250_000).expect("not zero"),
            remembered_halts: NonZeroUsize::new(10_000).expect("not zero"),
            // One clock may be early and the other late: 10 minutes by what AWS documents, thrice that to be sure. What
            // a longer one costs is one visibility check (4 read units) for a stream that this relay does not remember.
            settle_window: Duration::from_mins(30),
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_mins(1),
        }
    }
}

impl Bounds {
    /// The delay after so many failures before this one.
    pub(super) fn delay(&self, failures: u32) -> Duration {
        growing(self.first_delay, failures, self.longest_delay)
    }

    /// The delay before an append that is not visible yet is looked for again.
    pub(super) fn visibility_delay(&self, failures: u32) -> Duration {
        growing(FIRST_VISIBILITY_DELAY, failures, self.longest_delay)
    }
}

/// A transaction is half visible for milliseconds.
const FIRST_VISIBILITY_DELAY: Duration = Duration::from_millis(20);

fn growing(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
}

/// Spreads delays, so that what failed together is not tried again together.
#[derive(Debug)]
pub(super) struct Jitter(fastrand::Rng);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The delay, up to a quarter shorter.
    pub(super) fn shorten(&mut self, delay: Duration) -> Duration {
        delay.mul_f64(1.0 - self.0.f64() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let bounds = Bounds::default();
        let seconds: Vec<_> = [0, 1, 2, 5, 6, 1_000].map(|failures| bounds.delay(failures).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60]);
    }

    #[test]
    fn jitter_takes_off_a_quarter_at_the_most_and_is_the_same_for_the_same_seed() {
        let shortened = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..100).map(|_| jitter.shorten(Duration::from_secs(4))).collect::<Vec<_>>()
        };
        assert!(shortened(1).iter().all(|delay| (3_000..=4_000).contains(&delay.as_millis())));
        assert_eq!(shortened(1), shortened(1));
        assert_ne!(shortened(1), shortened(2));
    }
}
