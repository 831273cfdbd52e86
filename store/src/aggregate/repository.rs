//! The repository: where aggregates are loaded from and saved to.

use std::{
    fmt::{self, Display},
    sync::Arc,
};

use super::{
    Aggregate, CommandContext, ExecuteError, IntoDecision, Loaded, Replay, RepositoryStats, Saved, SnapshotResult,
    cache::Cache,
    counters::Counters,
    entry::{Entry, KnownSnapshot},
    queue::Queues,
    snapshots::{Snapshots, take},
};
use crate::{
    EventStore,
    error::Error,
    observe::Operation,
    stream::{StreamId, StreamIdError, excerpt},
};

/// Loads and saves aggregates of one kind. A clone is cheap and shares cache and counters: make one, and keep it.
pub struct Repository<A: Aggregate> {
    pub(super) shared: Arc<Shared<A>>,
}

pub(super) struct Shared<A: Aggregate> {
    pub(super) store: EventStore,
    pub(super) replay: Replay<A>,
    pub(super) snapshots: Snapshots<A>,
    pub(super) cache: Option<Cache<A>>,
    pub(super) execute_attempts: u32,
    pub(super) deduplication_window: u64,
    pub(super) queues: Queues,
    pub(super) counters: Arc<Counters>,
}

impl<A: Aggregate> Repository<A> {
    /// Takes a snapshot of the aggregate as it is now.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`Error::Invalid`] if the state has more than 400 KB as JSON or can't be
    /// written as JSON.
    pub async fn snapshot(&self, id: impl Display) -> Result<SnapshotResult, Error> {
        let stream = Self::stream_id(id)?;
        let watch = self.shared.store.table.watch(Operation::Snapshot, stream.as_str());
        let snapshot = async {
            let loaded = self.load_stream(&stream).await?;
            if loaded.version() == 0 {
                return Ok(SnapshotResult::Empty);
            }
            let (store, counters) = (&self.shared.store, &self.shared.counters);
            take(store, &loaded.entry, counters).await
        };
        watch.over(snapshot).await
    }
}

impl<A: Aggregate> Repository<A> {
    /// The stream of the aggregate `id`, which is `{CATEGORY}-{id}`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: id or category break a rule of [`StreamId`], or the id has the category in it already: `order-4711` would be
    /// the stream `order-order-4711`. [`StreamId::id`] is the id alone.
    pub fn stream_id(id: impl Display) -> Result<StreamId, Error> {
        if A::CATEGORY.contains('-') || A::CATEGORY.is_empty() {
            let why = "the aggregate's CATEGORY is empty or has a `-`";
            return Err(StreamIdError::Malformed { id: excerpt(A::CATEGORY), why }.into());
        }
        let id = id.to_string();
        if id.strip_prefix(A::CATEGORY).is_some_and(|rest| rest.starts_with('-')) {
            return Err(StreamIdError::HasCategory { id: excerpt(&id), category: A::CATEGORY }.into());
        }
        Ok(StreamId::new(format!("{}-{id}", A::CATEGORY))?)
    }

    /// Loads the aggregate `id`, strongly consistent unless a [staleness](super::CacheSettings::staleness) is allowed. One
    /// that has no event is at version 0, in its default state.
    ///
    /// # Errors
    /// - [`Error::Invalid`]: the id breaks a rule of [`StreamId`]. Nothing was sent.
    /// - [`Error::UnknownEvent`]: the type of an event is not known.
    /// - [`Error::Corrupt`]: an event is missing or unreadable, or its payload does not decode.
    /// - [`Error::Unavailable`], [`Error::Configuration`]: as DynamoDB answers.
    pub async fn load(&self, id: impl Display) -> Result<Loaded<A>, Error> {
        let stream = Self::stream_id(id)?;
        self.load_stream(&stream).await
    }

    /// Appends events at the place where the aggregate was loaded. No events: nothing is sent.
    ///
    /// # Errors
    /// - [`Error::Conflict`]: somebody else has appended since. Load again, decide again; [`execute`](Self::execute)
    ///   does so by itself.
    /// - [`Error::Invalid`]: an event can't be stored, or not be read back. Nothing was sent.
    /// - all others of [`EventStore::append`].
    pub async fn save(
        &self,
        loaded: &Loaded<A>,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Result<Saved<A>, Error> {
        self.save_with(loaded, &CommandContext::new(), events).await
    }

    /// Saves as [`save`](Self::save) does, with the context of the command. A command's id is recognised if it was stored within the
    /// [deduplication window](super#commands-that-may-come-twice) before the place where the aggregate was loaded, or right behind it;
    /// one that is recognised [for ever](CommandContext::with_id_for_ever), wherever it was stored.
    ///
    /// # Errors
    /// As [`save`](Self::save); [`Error::Conflict`] also if the aggregate was not loaded at the version that the command
    /// [expects](CommandContext::expecting).
    pub async fn save_with(
        &self,
        loaded: &Loaded<A>,
        command: &CommandContext,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Result<Saved<A>, Error> {
        let events = events.into_iter().collect();
        let watch = self.shared.store.table.watch(Operation::Save, loaded.stream().as_str());
        watch.over(self.save_loaded(loaded, command, events)).await
    }

    /// Loads the aggregate `id`, lets `decide` look at it, and stores what it asks for: events, and with a [`Decision`](super::Decision) also
    /// items and appends to other streams in the same transaction. If another writer was first, what is new is read and `decide`
    /// is called again: up to [`DEFAULT_EXECUTE_ATTEMPTS`](super::DEFAULT_EXECUTE_ATTEMPTS) times, the later ones after a short, jittered wait.
    ///
    /// `decide` gets the aggregate with its version; the state's own methods can be called on it. It returns events, none if there
    /// is nothing to do, or an error of its own. It may be called several times and is to have no effect of its own.
    ///
    /// Commands on one stream that come from one repository and its clones take turns, in the order in which they come: they do not
    /// conflict with each other.
    ///
    /// # Errors
    /// - [`ExecuteError::Rejected`]: `decide`'s own error. Nothing was written.
    /// - [`ExecuteError::Conflict`]: a stream is not where it is expected. Nothing was written.
    /// - [`ExecuteError::Contended`]: other writers were first each time. Nothing was written.
    /// - [`ExecuteError::Store`]: those of [`load`](Self::load) and [`save`](Self::save); [`Error::ItemRefused`] if the condition of an item
    ///   does not hold; [`Error::Invalid`] if a decision has items or appends and no event; [`Error::Busy`] if
    ///   [`MAX_QUEUED_COMMANDS`](super::MAX_QUEUED_COMMANDS) commands wait on the stream, or its turn does not come within the
    ///   [operation timeout](crate::EventStoreBuilder::operation_timeout).
    pub async fn execute<D, E>(
        &self,
        id: impl Display,
        decide: impl FnMut(&Loaded<A>) -> Result<D, E>,
    ) -> Result<Saved<A, D::Value>, ExecuteError<E>>
    where
        D: IntoDecision<A::Event>,
    {
        self.execute_with(id, &CommandContext::new(), decide).await
    }

    /// Executes as [`execute`](Self::execute) does, with the context of the command: metadata for the events, an id by which a second
    /// delivery is recognised ([what that covers](super#commands-that-may-come-twice)), the version that its sender has seen.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_with<D, E>(
        &self,
        id: impl Display,
        command: &CommandContext,
        decide: impl FnMut(&Loaded<A>) -> Result<D, E>,
    ) -> Result<Saved<A, D::Value>, ExecuteError<E>>
    where
        D: IntoDecision<A::Event>,
    {
        let stream = Self::stream_id(id)?;
        let watch = self.shared.store.table.watch(Operation::Execute, stream.as_str());
        watch.over(self.execute_stream(&stream, command, decide)).await
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> RepositoryStats {
        self.shared.counters.read()
    }

    /// Waits until no snapshot is being written: before the program ends, or before a test looks.
    pub async fn snapshots_settled(&self) {
        self.shared.snapshots.idle().await;
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &EventStore {
        &self.shared.store
    }

    pub(super) fn snapshot_if_due(&self, before: u64, entry: &mut Arc<Entry<A>>) {
        let snapshots = &self.shared.snapshots;
        if snapshots.is_due(before, entry)
            && snapshots.spawn(&self.shared.store, Arc::clone(entry), &self.shared.counters)
        {
            let known = KnownSnapshot { version: entry.position.version(), replaces: None };
            *entry = Arc::new(Entry { snapshot: known, ..(**entry).clone() });
        }
    }
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A: Aggregate> fmt::Debug for Repository<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("category", &A::CATEGORY)
            .field("store", &self.shared.store)
            .finish_non_exhaustive()
    }
}
