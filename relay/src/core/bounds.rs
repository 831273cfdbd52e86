//! The core's bounds and delays, and how delays grow.

use std::{num::NonZeroUsize, time::Duration};

use clap::{Args, builder::TypedValueParser as _};

use crate::flag_values::{DURATION, count, duration, shown};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bounds and delays. Those with a flag have its help as their description.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Work")]
pub struct Bounds {
    /// The most streams that are worked on at the same time.
    #[arg(long, env = "STREAMBOX_MAX_STREAMS", value_name = "STREAMS", default_value_t = Bounds::default().max_streams, value_parser = count(1..=100_000))]
    pub max_streams: usize,

    /// The most reads of DynamoDB under way at the same time.
    #[arg(long, env = "STREAMBOX_MAX_READS", value_name = "READS", default_value_t = Bounds::default().max_reads, value_parser = count(1..=1_000))]
    pub max_reads: usize,

    /// The most events in one batch. The next batch of a connection begins when all of a batch are confirmed.
    #[arg(id = "batch_events", long = "batch-events", env = "STREAMBOX_BATCH_EVENTS", value_name = "EVENTS", default_value_t = Bounds::default().max_batch_events, value_parser = count(1..=256))]
    pub max_batch_events: usize,

    /// The most payload in one batch of more than one event, in KiB: at most this much is published twice when a connection ends.
    #[arg(id = "batch_kib", long = "batch-kib", env = "STREAMBOX_BATCH_KIB", value_name = "KIB", default_value_t = Bounds::default().max_batch_bytes / KIB, value_parser = count(1..=1_048_576).map(|kib| kib * KIB))]
    pub max_batch_bytes: usize,

    // Half of them are for those that are new to suspicion: streams that were halted before, or whose routing key or size is
    // known to be refused, take the other half at most.
    /// The most events that are published alone at the same time, each on a channel of its own: those of a batch during which the
    /// broker closed the channel or connection, to find out which of them it refuses.
    #[arg(long, env = "STREAMBOX_MAX_SUSPECTS", value_name = "EVENTS", default_value_t = Bounds::default().max_suspects, value_parser = count(1..=1_024))]
    pub max_suspects: usize,

    /// `BatchWriteItem` requests under way at the same time.
    #[arg(skip = Bounds::default().max_deletes)]
    pub max_deletes: usize,

    // One read of what is missing of an entry is always allowed: a megabyte at the most.
    /// The most memory for events, in MiB, including those that reads under way may return.
    #[arg(id = "max_buffered_mib", long = "max-buffered-mib", env = "STREAMBOX_MAX_BUFFERED_MIB", value_name = "MIB", default_value_t = Bounds::default().max_buffered_bytes / MIB, value_parser = count(1..=4_096).map(|mib| mib * MIB))]
    pub max_buffered_bytes: usize,

    /// Pending entries that one read asks for.
    #[arg(skip = Bounds::default().entries_per_read)]
    pub entries_per_read: u16,

    /// Streams whose last published version is remembered, so that their next event needs no visibility check (4 read units). As
    /// many as get events within --settle-window are enough. Each takes about 160 bytes, 40 MB in all by default.
    #[arg(long, env = "STREAMBOX_REMEMBERED_STREAMS", value_name = "STREAMS", default_value_t = Bounds::default().remembered_streams, value_parser = count(1..=10_000_000).try_map(NonZeroUsize::try_from))]
    pub remembered_streams: NonZeroUsize,

    /// Halted streams that are remembered. Beyond that the oldest is forgotten: it is simply tried anew.
    #[arg(skip = Bounds::default().remembered_halts)]
    pub remembered_halts: NonZeroUsize,

    // AWS refuses a writer whose clock is more than 5 minutes wrong, some of its services more than 15, unless its client
    // corrects the time (`streambox::client` does not).
    /// Appends to one stream that are closer than this by their writers' clocks need a visibility check of the earlier one, unless
    /// this relay has published it: it may become visible later. Longer than the clocks of any two writers are apart; the default
    /// is three times the difference that AWS accepts.
    #[arg(long, env = "STREAMBOX_SETTLE_WINDOW", value_name = DURATION, default_value = shown(Bounds::default().settle_window), value_parser = duration(1_000..=u32::MAX.into()))]
    pub settle_window: Duration,

    /// The first delay before a halted stream or a failed read is tried again. It doubles each time.
    #[arg(id = "retry_delay", long = "retry-delay", env = "STREAMBOX_RETRY_DELAY", value_name = DURATION, default_value = shown(Bounds::default().first_delay), value_parser = duration(10..=600_000))]
    pub first_delay: Duration,

    /// The longest delay before a halted stream or a failed read is tried again.
    #[arg(id = "max_retry_delay", long = "max-retry-delay", env = "STREAMBOX_MAX_RETRY_DELAY", value_name = DURATION, default_value = shown(Bounds::default().longest_delay), value_parser = duration(10..=3_600_000))]
    pub longest_delay: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_streams: 512,
            max_reads: 32,
            max_batch_events: 256,
            max_batch_bytes: 4 * MIB,
            // A whole batch at once.
            max_suspects: 256,
            max_deletes: 4,
            max_buffered_bytes: 32 * MIB,
            // So many that the reads that are under way at once fit into the buffer.
            entries_per_read: 48,
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
    /// The delay after a failure; `failures`: how many came before it in a row.
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
