//! Carrying out a command: load, decide, append; and again, if another writer was first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::TransactWriteItem;
use uuid::Uuid;

use super::{
    Aggregate, CommandContext, Decision, DomainEvent as _, ExecuteError, IntoDecision, Loaded, Repository, Saved,
    recent::RecentAppend,
};
use crate::{
    append::{self, Appended, Part},
    error::{Conflict, Error, Invalid},
    event::{AppendRange, NewEvent},
    observe::{self, count},
    read,
    retry::Backoff,
    stream::{ExpectedVersion, StreamId, StreamPosition},
};

const FIRST_DELAY: Duration = Duration::from_millis(2);
const LONGEST_DELAY: Duration = Duration::from_millis(250);

/// An append, prepared: the events as they are sent, and as they will be read.
pub(super) struct Prepared<E> {
    pub(super) new: Vec<NewEvent>,
    read_back: Vec<Vec<E>>,
}

/// What a commit has done.
struct Committed<A> {
    loaded: Loaded<A>,
    appended: Option<Appended>,
    others: Vec<Appended>,
    /// Whether an earlier delivery of the command had stored it.
    is_repeat: bool,
}

impl<A: Aggregate> Repository<A> {
    pub(super) async fn execute_stream<D, E>(
        &self,
        stream: &StreamId,
        command: &CommandContext,
        mut decide: impl FnMut(&Loaded<A>) -> Result<D, E>,
    ) -> Result<Saved<A, D::Value>, ExecuteError<E>>
    where
        D: IntoDecision<A::Event>,
    {
        let table = &self.shared.store.table;
        let turn = self.shared.queues.turn(stream, table.operation_timeout()).await;
        let _turn = turn.ok_or_else(|| table.operation("execute", stream.as_str()).busy())?;
        let mut loaded = self.load_stream(stream).await?;
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut attempts = 0;
        loop {
            let carried_out;
            (loaded, carried_out) = self.carried_out(loaded, command).await?;
            if let Some(append) = carried_out {
                return Ok(self.repeat(loaded, append).await?);
            }
            let is_expected = command.expected.is_none_or(|expected| loaded.version() == expected);
            let decision = if is_expected {
                attempts += 1;
                count::attempt();
                Some(decide(&loaded).map(IntoDecision::into_decision))
            } else {
                None
            };
            let appends = decision.as_ref().is_some_and(|made| made.as_ref().is_ok_and(|made| !made.events.is_empty()));
            if !appends && !loaded.is_fresh {
                // An append would show whether the state was current. Nothing is appended, so ask.
                let current = self.refresh(&loaded).await?;
                let stands = current.position() == loaded.position();
                loaded = current;
                if !stands {
                    continue;
                }
            }
            let Some(decision) = decision else {
                let expected = ExpectedVersion::Exact(command.expected.unwrap_or_default());
                observe::conflict(stream.as_str(), &expected, loaded.version());
                return Err(ExecuteError::Conflict(Conflict { expected, current: loaded.position().clone() }.into()));
            };
            let Decision { events, appends, items, value } = decision.map_err(ExecuteError::Rejected)?;
            match self.commit(&loaded, command, events, appends, items).await {
                Ok(Committed { loaded, appended, others, is_repeat }) => {
                    let returned = (!is_repeat).then_some(value);
                    return Ok(Saved { loaded, appended, others, returned, attempts });
                }
                Err(Error::Conflict(conflict)) if conflict.current.stream() != stream => {
                    return Err(ExecuteError::Conflict(conflict));
                }
                Err(Error::Conflict(conflict)) if attempts >= self.shared.execute_attempts => {
                    return Err(ExecuteError::Contended { attempts, conflict });
                }
                Err(Error::Conflict(_)) if attempts == 1 => {}
                // Again and again: another writer that keeps conflicting goes first.
                Err(Error::Conflict(_)) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
            loaded = self.refresh(&loaded).await?;
        }
    }

    /// Saves at the place that was loaded, unless the command was carried out before.
    pub(super) async fn save_loaded(
        &self,
        loaded: &Loaded<A>,
        command: &CommandContext,
        events: Vec<A::Event>,
    ) -> Result<Saved<A>, Error> {
        let (loaded, carried_out) = self.carried_out(loaded.clone(), command).await?;
        if let Some(append) = carried_out {
            return self.repeat(loaded, append).await;
        }
        if let Some(expected) = command.expected.filter(|expected| *expected != loaded.version()) {
            let (expected, current) = (ExpectedVersion::Exact(expected), loaded.position().clone());
            observe::conflict(loaded.stream().as_str(), &expected, current.version());
            return Err(Conflict { expected, current }.into());
        }
        let committed = self.commit(&loaded, command, events, Vec::new(), Vec::new()).await?;
        let Committed { loaded, appended, others, is_repeat } = committed;
        Ok(Saved { loaded, appended, others, returned: (!is_repeat).then_some(()), attempts: 1 })
    }

    /// Appends at the place that was loaded, and what else is to be in the same transaction.
    async fn commit(
        &self,
        loaded: &Loaded<A>,
        command: &CommandContext,
        events: Vec<A::Event>,
        appends: Vec<Part>,
        items: Vec<TransactWriteItem>,
    ) -> Result<Committed<A>, Error> {
        if events.is_empty() {
            if !appends.is_empty() || !items.is_empty() {
                return Err(Invalid::NoEvents.into());
            }
            return Ok(Committed { loaded: loaded.clone(), appended: None, others: Vec::new(), is_repeat: false });
        }
        let prepared = self.prepare(command, &events)?;
        let began = self.now();
        let at = ExpectedVersion::At(loaded.position().clone());
        let id = command.id.unwrap_or_else(Uuid::new_v4);
        let mut parts = vec![Part::new(loaded.stream(), at, prepared.new.iter().cloned()).marked(command.is_marked)];
        parts.extend(appends);
        let mut others = match append::commit(&self.shared.store.table, id, &mut parts, &items).await {
            Ok(appended) => appended,
            Err(error) => {
                if matches!(error, Error::Conflict(_)) {
                    self.shared.counters.conflicts.count();
                }
                return Err(error);
            }
        };
        let appended = others.remove(0);
        if appended.already_stored && command.id.is_some() {
            // What an earlier delivery of the command has stored need not be what this one has decided on.
            self.shared.counters.repeats.count();
            let loaded = self.refresh(loaded).await?;
            return Ok(Committed { loaded, appended: Some(appended), others, is_repeat: true });
        }
        let loaded = self.stored(loaded, &prepared, &appended, began);
        Ok(Committed { loaded, appended: Some(appended), others, is_repeat: false })
    }

    /// The aggregate behind what was appended to it; cached, and with its snapshot on the way if one is due.
    pub(super) fn stored(
        &self,
        loaded: &Loaded<A>,
        prepared: &Prepared<A::Event>,
        appended: &Appended,
        began: Option<Instant>,
    ) -> Loaded<A> {
        let mut entry = (*loaded.entry).clone();
        let state = Arc::make_mut(&mut entry.state);
        prepared.read_back.iter().flatten().for_each(|event| state.apply(event));
        entry.size.add(prepared.new.iter().map(|event| event.payload_text().len()).sum());
        let (first, last) = (appended.first_version, appended.position.version());
        entry.recent.push(RecentAppend {
            range: AppendRange { id: appended.append_id, first, last },
            recorded_at_ms: appended.recorded_at_ms,
            newest_public: appended.position.newest_public(),
        });
        let mut entry = self.arrived(entry, appended.position.clone());
        self.snapshot_if_due(loaded.version(), &mut entry);
        if let Some(cache) = &self.shared.cache {
            cache.put(&entry, began);
        }
        Loaded { entry, is_fresh: true }
    }

    /// The time by the cache's clock, for what is known to be current since then.
    pub(super) fn now(&self) -> Option<Instant> {
        self.shared.cache.as_ref().map(|cache| (cache.clock)())
    }

    pub(super) fn prepare(&self, command: &CommandContext, events: &[A::Event]) -> Result<Prepared<A::Event>, Error> {
        let mut prepared =
            Prepared { new: Vec::with_capacity(events.len()), read_back: Vec::with_capacity(events.len()) };
        for event in events {
            let new = command.describe(event.encode()?);
            let new = if A::is_private(event) { new.private() } else { new };
            prepared.read_back.push(self.shared.replay.read_back(&new)?);
            prepared.new.push(new);
        }
        Ok(prepared)
    }

    /// The append of a command that was carried out before: from the deduplication window, which is known from then on, or by its
    /// marker.
    pub(super) async fn carried_out(
        &self,
        loaded: Loaded<A>,
        command: &CommandContext,
    ) -> Result<(Loaded<A>, Option<Appended>), Error> {
        let Some(id) = command.id else { return Ok((loaded, None)) };
        let loaded = self.with_recent(loaded).await?;
        let found = self.find(&loaded, id);
        // Where the window is all of the stream, there is nothing before it.
        if found.is_some() || !command.is_marked || loaded.version() <= self.shared.deduplication_window {
            return Ok((loaded, found));
        }
        let (table, stream) = (&self.shared.store.table, loaded.stream());
        let marker = read::marker(table, stream, id).await?;
        let found = marker.map(|marker| Appended::marked(table, stream, &marker));
        Ok((loaded, found))
    }

    /// The append of a command, if it is in the deduplication window.
    fn find(&self, loaded: &Loaded<A>, id: Uuid) -> Option<Appended> {
        let recent = &loaded.entry.recent;
        let RecentAppend { range, recorded_at_ms, newest_public } =
            recent.find(id, loaded.version(), self.shared.deduplication_window)?;
        let (place, stream) = (self.shared.store.table.full_name(), loaded.stream().clone());
        let position = StreamPosition::after(place, stream, range.last, id, newest_public);
        Some(Appended::stored_before(range.first, position, recorded_at_ms))
    }

    async fn repeat<T>(&self, mut loaded: Loaded<A>, appended: Appended) -> Result<Saved<A, T>, Error> {
        self.shared.counters.repeats.count();
        // The marker may be of an append that was stored after the load.
        if loaded.version() < appended.position.version() {
            loaded = self.refresh(&loaded).await?;
        }
        Ok(Saved { loaded, appended: Some(appended), others: Vec::new(), returned: None, attempts: 0 })
    }
}
