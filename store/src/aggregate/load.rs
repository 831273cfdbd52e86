//! Loading an aggregate: from nothing, from its snapshot, or from where it was.

use std::sync::Arc;

use super::{
    Aggregate, Loaded, Repository,
    cache::Cache,
    entry::{Entry, KnownSnapshot, Size},
    recent::RecentAppends,
    snapshots::Snapshots,
};
use crate::{
    error::Error,
    event::RecordedEvent,
    json,
    observe::Operation,
    read::EventReader,
    snapshot::{IgnoredSnapshot, SnapshotLoad},
    stream::{StreamId, StreamPosition},
};

impl<A: Aggregate> Repository<A> {
    pub(super) async fn load_stream(&self, stream: &StreamId) -> Result<Loaded<A>, Error> {
        let watch = self.shared.store.table.watch(Operation::Load, stream.as_str());
        watch.over(self.load_now(stream)).await
    }

    async fn load_now(&self, stream: &StreamId) -> Result<Loaded<A>, Error> {
        let Some(cache) = &self.shared.cache else {
            return Ok(Loaded { entry: self.cold(stream).await?, is_fresh: true });
        };
        if let Some(entry) = cache.within_staleness(stream) {
            self.shared.counters.stale_hits.count();
            return Ok(Loaded { entry, is_fresh: false });
        }
        self.load_shared(cache, stream, None).await
    }

    /// The same aggregate as it is now: only what is new is read.
    pub(super) async fn refresh(&self, loaded: &Loaded<A>) -> Result<Loaded<A>, Error> {
        let watch = self.shared.store.table.watch(Operation::Load, loaded.stream().as_str());
        let refreshed = async {
            match &self.shared.cache {
                Some(cache) => self.load_shared(cache, loaded.stream(), Some(&loaded.entry)).await,
                None => Ok(Loaded { entry: self.tail_or_cold(Arc::clone(&loaded.entry)).await?, is_fresh: true }),
            }
        };
        watch.over(refreshed).await
    }

    async fn load_shared(
        &self,
        cache: &Cache<A>,
        stream: &StreamId,
        base: Option<&Arc<Entry<A>>>,
    ) -> Result<Loaded<A>, Error> {
        let flight = cache.flight(stream);
        let mut was_cold = false;
        let request = async {
            let began = (cache.clock)();
            let cached = cache.entry(stream);
            let known = cached.iter().chain(base).max_by_key(|entry| entry.position.version()).cloned();
            was_cold = known.is_none();
            let entry = match known {
                Some(entry) => self.tail_or_cold(entry).await?,
                None => self.cold(stream).await?,
            };
            cache.put(&entry, Some(began));
            Ok(entry)
        };
        let entry = flight.share(request).await?;
        if !was_cold {
            self.shared.counters.cache_hits.count();
        }
        Ok(Loaded { entry, is_fresh: true })
    }

    /// Reads on from an entry, or everything, if the table no longer has the event that the entry ends with.
    async fn tail_or_cold(&self, entry: Arc<Entry<A>>) -> Result<Arc<Entry<A>>, Error> {
        let (stream, version) = (entry.position.stream().clone(), entry.position.version());
        if let Some(entry) = self.tail(entry).await? {
            return Ok(entry);
        }
        self.shared.counters.cached_states_refuted.count();
        tracing::warn!(%stream, version, "the table no longer has the event that a cached state ends with: the stream is loaded from its beginning");
        if let Some(cache) = &self.shared.cache {
            cache.forget(&stream);
        }
        self.cold(&stream).await
    }

    /// Reads on from an entry. `None` if the table does not have the event that the entry ends with.
    async fn tail(&self, entry: Arc<Entry<A>>) -> Result<Option<Arc<Entry<A>>>, Error> {
        let (table, position) = (self.shared.store.table.clone(), entry.position.clone());
        let Some((mut reader, first)) = EventReader::checking(table, position).await? else { return Ok(None) };
        let mut newer: Option<Entry<A>> = None;
        let mut page = Some(first);
        while let Some(events) = page {
            if !events.is_empty() {
                self.take_in(newer.get_or_insert_with(|| (*entry).clone()), &events)?;
            }
            page = reader.fetch().await?;
        }
        Ok(Some(newer.map_or(entry, |newer| self.arrived(newer, reader.position().clone()))))
    }

    async fn cold(&self, stream: &StreamId) -> Result<Arc<Entry<A>>, Error> {
        self.shared.counters.cold_loads.count();
        if self.shared.snapshots.policy.is_used() {
            return self.cold_from_snapshot(stream).await;
        }
        let whole = self.tail(Arc::new(Self::start(stream))).await?;
        Ok(whole.expect("before the first event there is none to look for"))
    }

    async fn cold_from_snapshot(&self, stream: &StreamId) -> Result<Arc<Entry<A>>, Error> {
        let (mut restored, mut is_damaged) = (None, false);
        let mut load = self
            .shared
            .store
            .load_snapshot(stream, |snapshot| {
                restored = Snapshots::restore(snapshot, &self.shared.counters);
                is_damaged = restored.is_none() && snapshot.schema_version == A::SCHEMA_VERSION;
                restored.is_some()
            })
            .await?;
        let mut entry = match (load.snapshot(), restored) {
            (Some(snapshot), Some(state)) => Entry {
                state: Arc::new(state),
                recent: RecentAppends::from_version(snapshot.version + 1),
                snapshot: KnownSnapshot { version: snapshot.version, replaces: None },
                size: Size::measured(snapshot.body.len()),
                ..Self::start(stream)
            },
            _ => Self::start(stream),
        };
        entry.snapshot.replaces = self.unusable(&load, is_damaged);
        while let Some(page) = load.fetch().await? {
            self.take_in(&mut entry, &page)?;
        }
        Ok(self.arrived(entry, load.position().clone()))
    }

    /// The version of a stored snapshot that the next one is to replace whatever its version.
    fn unusable(&self, load: &SnapshotLoad, is_damaged: bool) -> Option<u64> {
        match load.ignored() {
            Some(IgnoredSnapshot::Refused { version }) => is_damaged.then_some(*version),
            Some(IgnoredSnapshot::Ahead { version }) => {
                self.shared.counters.snapshots_ahead.count();
                tracing::warn!(stream = %load.position().stream(), version, "snapshot is ahead of its stream");
                Some(*version)
            }
            Some(IgnoredSnapshot::OtherHistory { version }) => {
                self.shared.counters.snapshots_of_other_history.count();
                tracing::warn!(stream = %load.position().stream(), version, "snapshot is of another history of its stream");
                Some(*version)
            }
            Some(IgnoredSnapshot::Unreadable { corrupt, version }) => {
                self.shared.counters.snapshots_unreadable.count();
                tracing::warn!(stream = %corrupt.stream, what = corrupt.what, "snapshot is unreadable");
                *version
            }
            None => None,
        }
    }

    /// Ensures that the appends of the deduplication window are known.
    pub(super) async fn with_recent(&self, loaded: Loaded<A>) -> Result<Loaded<A>, Error> {
        let (version, window) = (loaded.version(), self.shared.deduplication_window);
        let Some(unknown) = loaded.entry.recent.unknown(version, window) else { return Ok(loaded) };
        let (table, stream) = (self.shared.store.table.clone(), loaded.stream().clone());
        let mut reader = EventReader::beginning_with(table, stream, unknown.start).reaching(unknown.end - 1);
        let mut older = RecentAppends::from_version(unknown.start);
        while let Some(page) = reader.fetch().await? {
            for event in &page {
                older.push_event(event);
            }
        }
        let mut entry = (*loaded.entry).clone();
        entry.recent.prepend(older);
        let entry = Arc::new(entry);
        if let Some(cache) = &self.shared.cache {
            cache.put(&entry, None);
        }
        Ok(Loaded { entry, is_fresh: loaded.is_fresh })
    }

    fn start(stream: &StreamId) -> Entry<A> {
        Entry {
            state: Arc::default(),
            position: StreamPosition::start(stream.clone()),
            recent: RecentAppends::from_version(1),
            snapshot: KnownSnapshot::default(),
            size: Size::default(),
        }
    }

    fn take_in(&self, entry: &mut Entry<A>, events: &[RecordedEvent]) -> Result<(), Error> {
        let state = Arc::make_mut(&mut entry.state);
        for event in events {
            self.shared.replay.apply(state, event)?;
            entry.recent.push_event(event);
            entry.size.add(event.payload.len());
        }
        if let Some(newest) = events.last() {
            entry.recent.trim(newest.version, self.shared.deduplication_window);
        }
        Ok(())
    }

    /// The entry at its new place.
    pub(super) fn arrived(&self, mut entry: Entry<A>, position: StreamPosition) -> Arc<Entry<A>> {
        entry.position = position;
        entry.recent.trim(entry.position.version(), self.shared.deduplication_window);
        if self.shared.cache.is_some()
            && entry.size.is_vague()
            && let Ok(text) = json::to_text(&*entry.state)
        {
            entry.size = Size::measured(text.len());
        }
        Arc::new(entry)
    }
}
