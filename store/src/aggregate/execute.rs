//! Carrying out a command: load, decide, append; and again, if another writer was first.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Aggregate, Command, DomainEvent as _, ExecuteError, Loaded, Repository, Saved, recent::RecentAppend};
use crate::{
    append::Appended,
    error::Error,
    event::{AppendRange, NewEvent},
    stream::{ExpectedVersion, StreamId, StreamPosition},
};

const FIRST_DELAY: Duration = Duration::from_millis(2);
const LONGEST_DELAY: Duration = Duration::from_millis(250);

/// An append, prepared: the events as they are sent, and as they will be read.
pub(super) struct Prepared<E> {
    pub(super) new: Vec<NewEvent>,
    read_back: Vec<Vec<E>>,
}

impl<A: Aggregate> Repository<A> {
    pub(super) async fn execute_stream<I, E>(
        &self,
        stream: &StreamId,
        command: &Command,
        mut decide: impl FnMut(&A) -> Result<I, E>,
    ) -> Result<Saved<A>, ExecuteError<E>>
    where
        I: IntoIterator<Item = A::Event>,
    {
        let mut loaded = self.load_stream(stream).await?;
        let mut backoff = self.shared.store.table.backoff(FIRST_DELAY, LONGEST_DELAY);
        let mut attempts = 0;
        loop {
            if let Some(id) = command.id {
                loaded = self.with_recent(loaded).await?;
                if let Some(append) = self.find(&loaded, id) {
                    return Ok(self.repeat(loaded, id, append));
                }
            }
            attempts += 1;
            let decision = decide(loaded.state()).map(|events| events.into_iter().collect::<Vec<_>>());
            let appends = decision.as_ref().is_ok_and(|events| !events.is_empty());
            if !appends && !loaded.is_fresh {
                // An append would show whether the state was current. Nothing is appended, so ask.
                let current = self.refresh(&loaded).await?;
                let stands = current.position() == loaded.position();
                loaded = current;
                if !stands {
                    continue;
                }
            }
            let events = decision.map_err(ExecuteError::Rejected)?;
            match self.commit(&loaded, command, events).await {
                Ok(saved) => return Ok(Saved { attempts, ..saved }),
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

    /// Appends at the place that was loaded.
    pub(super) async fn commit(
        &self,
        loaded: &Loaded<A>,
        command: &Command,
        events: Vec<A::Event>,
    ) -> Result<Saved<A>, Error> {
        if events.is_empty() {
            return Ok(Saved { loaded: loaded.clone(), appended: None, attempts: 1 });
        }
        let Prepared { new, read_back } = self.prepare(command, &events)?;
        let bytes: usize = new.iter().map(|event| event.payload_text().len()).sum();
        let began = self.shared.cache.as_ref().map(|cache| (cache.clock)());
        let expected = ExpectedVersion::At(loaded.position().clone());
        let id = command.id.unwrap_or_else(Uuid::new_v4);
        let appended = match self.shared.store.append_with_id(id, loaded.stream(), expected, new).await {
            Ok(appended) => appended,
            Err(error) => {
                if matches!(error, Error::Conflict(_)) {
                    self.shared.counters.conflicts.count();
                }
                return Err(error);
            }
        };
        if appended.already_stored && command.id.is_some() {
            // What an earlier delivery of the command has stored need not be what this one has decided on.
            self.shared.counters.repeats.count();
            return Ok(Saved { loaded: self.refresh(loaded).await?, appended: Some(appended), attempts: 1 });
        }
        let mut entry = (*loaded.entry).clone();
        let state = Arc::make_mut(&mut entry.state);
        read_back.iter().flatten().for_each(|event| state.apply(event));
        entry.size.add(bytes);
        let range = AppendRange { id, first: appended.first_version, last: appended.position.version() };
        entry.recent.push(RecentAppend {
            range,
            recorded_at_ms: appended.recorded_at_ms,
            newest_entry: appended.position.newest_entry(),
        });
        let mut entry = self.arrived(entry, appended.position.clone());
        self.snapshot_if_due(loaded.version(), &mut entry);
        if let Some(cache) = &self.shared.cache {
            cache.put(&entry, began);
        }
        Ok(Saved { loaded: Loaded { entry, is_fresh: true }, appended: Some(appended), attempts: 1 })
    }

    pub(super) fn prepare(&self, command: &Command, events: &[A::Event]) -> Result<Prepared<A::Event>, Error> {
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

    fn find(&self, loaded: &Loaded<A>, id: Uuid) -> Option<RecentAppend> {
        loaded.entry.recent.find(id, loaded.version(), self.shared.repeat_window)
    }

    fn repeat(&self, loaded: Loaded<A>, id: Uuid, append: RecentAppend) -> Saved<A> {
        self.shared.counters.repeats.count();
        let RecentAppend { range, recorded_at_ms, newest_entry } = append;
        let (place, stream) = (self.shared.store.table.full_name(), loaded.stream().clone());
        let position = StreamPosition::after(place, stream, range.last, id, newest_entry);
        let appended = Appended::stored_before(range.first, position, recorded_at_ms);
        Saved { loaded, appended: Some(appended), attempts: 0 }
    }
}
