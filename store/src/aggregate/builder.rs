//! How a repository is made: its settings.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    Aggregate, CacheSettings, Replay, SnapshotPoint, SnapshotPolicy,
    cache::{Cache, Clock, Weigh},
    queue::Queues,
    repository::{Repository, Shared},
    snapshots::Snapshots,
};
use crate::EventStore;

/// How often [`Repository::execute`] makes a decision, unless set otherwise, before it gives up on a stream that others
/// write to.
pub const DEFAULT_EXECUTE_ATTEMPTS: u32 = 10;

/// How many of a stream's last events are looked through for a command that may have been carried out before, unless
/// set otherwise.
pub const DEFAULT_DEDUPLICATION_WINDOW: u64 = 100;

impl<A: Aggregate> Repository<A> {
    /// A repository with the defaults: a snapshot every 100 events, a cache of 1,000 streams and 32 MiB without
    /// staleness, 10 attempts at a decision.
    #[must_use]
    pub fn new(store: EventStore) -> Self {
        Self::builder(store).build()
    }

    /// A repository with settings of its own.
    #[must_use]
    pub fn builder(store: EventStore) -> RepositoryBuilder<A> {
        RepositoryBuilder {
            store,
            snapshots: Snapshots::new(),
            cache: Some(CacheSettings::default()),
            weigh: None,
            clock: Box::new(Instant::now),
            execute_attempts: DEFAULT_EXECUTE_ATTEMPTS,
            deduplication_window: DEFAULT_DEDUPLICATION_WINDOW,
        }
    }
}

/// Settings of a [`Repository`].
pub struct RepositoryBuilder<A: Aggregate> {
    store: EventStore,
    snapshots: Snapshots<A>,
    cache: Option<CacheSettings>,
    weigh: Option<Weigh<A>>,
    clock: Clock,
    execute_attempts: u32,
    deduplication_window: u64,
}

impl<A: Aggregate> RepositoryBuilder<A> {
    /// When snapshots are taken: [`EveryEvents`](super::EveryEvents), [`OnDemand`](super::OnDemand), [`Never`](super::Never), or a
    /// policy of one's own. Every 100 events by default.
    #[must_use]
    pub fn snapshots(mut self, policy: impl SnapshotPolicy<A>) -> Self {
        self.snapshots.policy = Box::new(policy);
        self
    }

    /// Takes a snapshot after each append at which `is_due` says so.
    #[must_use]
    pub fn snapshot_when(self, is_due: impl Fn(&SnapshotPoint<'_, A>) -> bool + Send + Sync + 'static) -> Self {
        self.snapshots(is_due)
    }

    /// The most snapshots that are written at the same time; what is due beyond that is skipped and counted. 8 by
    /// default.
    #[must_use]
    pub fn snapshots_in_flight(mut self, most: usize) -> Self {
        self.snapshots.most_in_flight = most;
        self
    }

    /// The cache's bounds, and how old a state may be. With `None` there is no cache: each load begins from the table.
    #[must_use]
    pub fn cache(mut self, settings: impl Into<Option<CacheSettings>>) -> Self {
        self.cache = settings.into();
        self
    }

    /// How many bytes a state counts for in the cache. It is asked after each load and save.
    #[must_use]
    pub fn weigh(mut self, weigh: impl Fn(&A) -> usize + Send + Sync + 'static) -> Self {
        self.weigh = Some(Box::new(weigh));
        self
    }

    /// The monotonic clock that the staleness is measured by. The system's by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// How often a decision is made before `execute` gives up; at least once. 10 by default.
    #[must_use]
    pub fn execute_attempts(mut self, attempts: u32) -> Self {
        self.execute_attempts = attempts.max(1);
        self
    }

    /// How many of a stream's last events are looked through for a command that may have been carried out before. 100
    /// by default. With 0 only [markers](super::CommandContext::with_id_for_ever) count.
    #[must_use]
    pub fn deduplication_window(mut self, events: u64) -> Self {
        self.deduplication_window = events;
        self
    }

    /// The repository.
    #[must_use]
    pub fn build(self) -> Repository<A> {
        let Self { store, snapshots, cache, weigh, clock, execute_attempts, deduplication_window } = self;
        let cache = cache.map(|settings| Cache::new(settings, weigh, clock));
        let shared = Shared {
            store,
            replay: Replay::new(),
            snapshots,
            cache,
            execute_attempts,
            deduplication_window,
            queues: Queues::default(),
            counters: Arc::default(),
        };
        Repository { shared: Arc::new(shared) }
    }
}

impl<A: Aggregate> fmt::Debug for RepositoryBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryBuilder")
            .field("store", &self.store)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
