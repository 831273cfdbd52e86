//! The repository: where aggregates are loaded from and saved to.

use std::{
    fmt::{self, Display},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Aggregate, Command, ExecuteError, Loaded, Replay, RepositoryStats, Saved, SnapshotResult,
    cache::Cache,
    counters::Counters,
    entry::{Entry, KnownSnapshot},
    snapshots::{Snapshots, take},
};
use crate::{
    EventStore, ExpectedVersion, Transaction,
    error::Error,
    json,
    stream::{StreamId, StreamIdError, excerpt},
};

/// Loads and saves aggregates of one kind. A clone is cheap and shares cache and counters: make one, and keep it.
pub struct Repository<A: Aggregate> {
    pub(super) shared: Arc<Shared<A>>,
}

pub(super) struct Shared<A: Aggregate> {
    pub(super) store: EventStore,
    pub(super) replay: Replay<A>,
    pub(super) snapshots: Option<Snapshots<A>>,
    pub(super) cache: Option<Cache<A>>,
    pub(super) execute_attempts: u32,
    pub(super) repeat_window: u64,
    pub(super) counters: Arc<Counters>,
}

impl<A: Aggregate + Serialize + DeserializeOwned> Repository<A> {
    /// Takes a snapshot of the aggregate as it is now.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`Error::Invalid`] if the state has more than 400 KB as JSON or can't be
    /// written as JSON.
    pub async fn snapshot(&self, id: impl Display) -> Result<SnapshotResult, Error> {
        let loaded = self.load(id).await?;
        if loaded.version() == 0 {
            return Ok(SnapshotResult::Empty);
        }
        let (store, counters) = (&self.shared.store, &self.shared.counters);
        take(store, &loaded.entry, |state| json::to_text(state), counters).await
    }
}

impl<A: Aggregate> Repository<A> {
    /// The stream of the aggregate `id`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: id or category break a rule of [`StreamId`].
    pub fn stream_id(id: impl Display) -> Result<StreamId, Error> {
        if A::CATEGORY.contains('-') || A::CATEGORY.is_empty() {
            let why = "the aggregate's CATEGORY is empty or has a `-`";
            return Err(StreamIdError::Malformed { id: excerpt(A::CATEGORY), why }.into());
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
        // The future of a request of the SDK is large; callers hold theirs in their own.
        Box::pin(self.load_stream(&stream)).await
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
        self.save_with(loaded, &Command::new(), events).await
    }

    /// Saves as [`save`](Self::save) does, with what is known about the command. A command's id is recognised where the
    /// aggregate was loaded at the version that it was first stored behind; anywhere else it is a conflict.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn save_with(
        &self,
        loaded: &Loaded<A>,
        command: &Command,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Result<Saved<A>, Error> {
        let events = events.into_iter().collect();
        Box::pin(self.commit(loaded, command, events)).await
    }

    /// Begins a transaction with an append of events at the place where the aggregate was loaded: for what is to be atomic with them,
    /// an append to another stream or an item of the caller's own. A conflict is the caller's to handle: load again, decide again.
    /// The next load of the aggregate finds the events; no snapshot is taken after them.
    ///
    /// # Errors
    /// [`Error::Invalid`]: an event can't be stored, or not be read back.
    pub fn transaction(
        &self,
        loaded: &Loaded<A>,
        command: &Command,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Result<Transaction, Error> {
        let events: Vec<_> = events.into_iter().collect();
        let at = ExpectedVersion::At(loaded.position().clone());
        let transaction = self.store().transaction().append(loaded.stream(), at, self.prepare(command, &events)?.new);
        Ok(match command.id {
            Some(id) => transaction.with_id(id),
            None => transaction,
        })
    }

    /// Loads the aggregate `id`, lets `decide` look at its state, and appends the events that it returns. If another
    /// writer was first, what is new is read and `decide` is asked again: up to [`DEFAULT_EXECUTE_ATTEMPTS`](super::DEFAULT_EXECUTE_ATTEMPTS) times, the
    /// later ones after a short, jittered wait.
    ///
    /// `decide` returns events, none if there is nothing to do, or an error of its own; it may be called several
    /// times.
    ///
    /// # Errors
    /// - [`ExecuteError::Rejected`]: `decide`'s own error. Nothing was written.
    /// - [`ExecuteError::Contended`]: other writers were first each time.
    /// - [`ExecuteError::Store`]: those of [`load`](Self::load) and [`save`](Self::save).
    pub async fn execute<I, E>(
        &self,
        id: impl Display,
        decide: impl FnMut(&A) -> Result<I, E>,
    ) -> Result<Saved<A>, ExecuteError<E>>
    where
        I: IntoIterator<Item = A::Event>,
    {
        self.execute_with(id, &Command::new(), decide).await
    }

    /// Executes as [`execute`](Self::execute) does, with what is known about the command: metadata for the events, and
    /// an id by which a second delivery is recognised ([what that covers](super#commands-that-may-come-twice)).
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_with<I, E>(
        &self,
        id: impl Display,
        command: &Command,
        decide: impl FnMut(&A) -> Result<I, E>,
    ) -> Result<Saved<A>, ExecuteError<E>>
    where
        I: IntoIterator<Item = A::Event>,
    {
        let stream = Self::stream_id(id)?;
        Box::pin(self.execute_stream(&stream, command, decide)).await
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> RepositoryStats {
        self.shared.counters.read()
    }

    /// Waits until no snapshot is being written: before the program ends, or before a test looks.
    pub async fn snapshots_settled(&self) {
        if let Some(snapshots) = &self.shared.snapshots {
            snapshots.idle().await;
        }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &EventStore {
        &self.shared.store
    }

    pub(super) fn snapshot_if_due(&self, before: u64, entry: &mut Arc<Entry<A>>) {
        let Some(snapshots) = &self.shared.snapshots else { return };
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
