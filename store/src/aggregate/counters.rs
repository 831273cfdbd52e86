//! What a repository has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a repository has done since it was made. Its clones count together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct RepositoryStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> RepositoryStats {
                RepositoryStats { $($name: self.$name.0.load(Relaxed),)* }
            }
        }
    };
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

counters! {
    /// Loads from the table without anything to begin with.
    cold_loads,
    /// Loads that began with a cached state and asked for what is new, or shared such a load's request.
    cache_hits,
    /// Loads that were answered from the cache without a request, within the allowed staleness.
    stale_hits,
    /// Appends that met another writer's.
    conflicts,
    /// Commands that had been carried out before.
    repeats,
    /// Snapshots that were written.
    snapshots_taken,
    /// Snapshots that were not written because a newer one, or one of a newer schema version, is there.
    snapshots_superseded,
    /// Snapshots that were due and not begun, because as many as may be were being written.
    snapshots_skipped,
    /// Snapshots whose state has more than 400 KB as JSON.
    snapshots_too_large,
    /// Snapshots that DynamoDB did not take, or whose state could not be written as JSON.
    snapshots_failed,
    /// Snapshots found at a load and not used: damaged, changed, of the shape of an earlier version, or their state does not
    /// decode.
    snapshots_unreadable,
    /// Snapshots found at a load and not used: of another schema version.
    snapshots_of_other_schema,
    /// Snapshots found at a load and not used: of a version that the stream has not come to.
    snapshots_ahead,
    /// Snapshots found at a load and not used: of another history, as of a stream that was started again.
    snapshots_of_other_history,
    /// Cached states that were given up, because the table no longer has the event that they end with: it was restored or made
    /// anew.
    cached_states_refuted,
}
