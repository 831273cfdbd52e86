//! Several aggregates in one transaction.

use std::{fmt, iter, time::Instant};

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures_util::{FutureExt as _, future::BoxFuture};
use uuid::Uuid;

use super::{Aggregate, CommandContext, Loaded, Repository, execute::Prepared};
use crate::{
    append::{self, Appended, Committed, Part},
    error::Error,
    event::NewEvent,
    observe::Operation,
    stream::{ExpectedVersion, StreamId},
    table::Table,
};

/// A transaction that is being put together from events of aggregates, appends to other streams and items of the caller's own. All
/// of it is stored, or nothing. Each aggregate's events go to the place where it was loaded; its cached state, its snapshots and
/// its counters follow, as they do after [`Repository::save`].
#[must_use = "nothing is stored before `commit`"]
pub struct AggregateTransaction {
    table: Table,
    command: CommandContext,
    members: Vec<Box<dyn Member>>,
    appends: Vec<Part>,
    items: Vec<TransactWriteItem>,
}

/// An aggregate with events of the transaction, whatever its kind.
trait Member: Send + Sync {
    fn stream(&self) -> &StreamId;

    fn part(&self) -> Part;

    /// The append of a command that was carried out before.
    fn carried_out<'a>(&'a self, command: &'a CommandContext) -> BoxFuture<'a, Result<Option<Appended>, Error>>;

    fn begin(&mut self);

    fn conflicted(&self);

    fn repeated(&self);

    fn stored(self: Box<Self>, appended: &Appended);
}

struct AggregateMember<A: Aggregate> {
    repository: Repository<A>,
    loaded: Loaded<A>,
    prepared: Prepared<A::Event>,
    began: Option<Instant>,
}

impl<A: Aggregate> Member for AggregateMember<A> {
    fn stream(&self) -> &StreamId {
        self.loaded.stream()
    }

    fn part(&self) -> Part {
        let at = ExpectedVersion::At(self.loaded.position().clone());
        Part::new(self.loaded.stream(), at, self.prepared.new.iter().cloned())
    }

    fn carried_out<'a>(&'a self, command: &'a CommandContext) -> BoxFuture<'a, Result<Option<Appended>, Error>> {
        async move {
            let (_, found) = self.repository.carried_out(self.loaded.clone(), command).await?;
            Ok(found)
        }
        .boxed()
    }

    fn begin(&mut self) {
        self.began = self.repository.now();
    }

    fn conflicted(&self) {
        self.repository.shared.counters.conflicts.count();
    }

    fn repeated(&self) {
        self.repository.shared.counters.repeats.count();
    }

    fn stored(self: Box<Self>, appended: &Appended) {
        self.repository.stored(&self.loaded, &self.prepared, appended, self.began);
    }
}

impl<A: Aggregate> Repository<A> {
    /// Begins a transaction with events of an aggregate at the place where it was loaded: for what spans several aggregates. A
    /// conflict is the caller's to handle: load again, decide again. No events: the aggregate is not part of it.
    ///
    /// # Errors
    /// [`Error::Invalid`]: an event can't be stored, or not be read back.
    pub fn transaction(
        &self,
        loaded: &Loaded<A>,
        command: &CommandContext,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Result<AggregateTransaction, Error> {
        let transaction = AggregateTransaction {
            table: self.shared.store.table.clone(),
            command: command.clone(),
            members: Vec::new(),
            appends: Vec::new(),
            items: Vec::new(),
        };
        transaction.and(self, loaded, events)
    }
}

impl AggregateTransaction {
    /// Adds events of another aggregate, whose repository is on the same table, at the place where it was loaded. No events: it is
    /// not part of the transaction.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the repository is on another table, or an event can't be stored, or not be read back.
    pub fn and<A: Aggregate>(
        mut self,
        repository: &Repository<A>,
        loaded: &Loaded<A>,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Result<Self, Error> {
        // An aggregate without events has a position that names no table.
        self.table.check_same(&repository.shared.store.table)?;
        let events: Vec<_> = events.into_iter().collect();
        let prepared = repository.prepare(&self.command, &events)?;
        if !events.is_empty() {
            let (repository, loaded) = (repository.clone(), loaded.clone());
            self.members.push(Box::new(AggregateMember { repository, loaded, prepared, began: None }));
        }
        Ok(self)
    }

    /// Adds an append to a stream, as [`Transaction::append`](crate::Transaction::append) does.
    pub fn append(
        mut self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self {
        self.appends.push(Part::new(stream, expected, events));
        self
    }

    /// Adds an item of the caller's own, as [`Transaction::item`](crate::Transaction::item) does.
    pub fn item(self, item: TransactWriteItem) -> Self {
        self.items([item])
    }

    /// Adds items of the caller's own, as [`item`](Self::item) does.
    pub fn items(mut self, items: impl IntoIterator<Item = TransactWriteItem>) -> Self {
        self.items.extend(items);
        self
    }

    /// Stores it: one transaction, all or nothing. The results are those of the aggregates with events and then those of the appends, each
    /// in the order in which they were added. If there is neither and no item, there is nothing to do, and nothing is sent.
    ///
    /// A command with an id that was carried out before is recognised if one of the aggregates has it within the
    /// [deduplication window](super#commands-that-may-come-twice) before the place where it was loaded, or right behind it. With
    /// [`with_id_for_ever`](CommandContext::with_id_for_ever) each aggregate's stream gets a marker, and one that is found suffices;
    /// the appends to other streams are then looked for backward from the streams' ends.
    ///
    /// # Errors
    /// Those of [`Transaction::commit`](crate::Transaction::commit).
    pub async fn commit(self) -> Result<Committed, Error> {
        let member = self.members.first().map(|member| member.stream());
        let stream = member.or(self.appends.first().map(|append| &append.stream));
        let watch = self.table.watch(Operation::Transaction, stream.map_or("", StreamId::as_str));
        watch.over(self.run()).await
    }

    async fn run(self) -> Result<Committed, Error> {
        let Self { table, command, mut members, appends, items } = self;
        if members.is_empty() && appends.is_empty() && items.is_empty() {
            return Ok(Committed::of(Vec::new()));
        }
        let marked = members.iter().map(|member| member.part().marked(command.is_marked));
        let mut parts: Vec<_> = marked.chain(appends).collect();
        if let Some(id) = command.id {
            let mut found = Vec::new();
            for member in &members {
                found.push(member.carried_out(&command).await?);
            }
            if found.iter().any(Option::is_some) {
                for member in &members {
                    member.repeated();
                }
                let found = found.into_iter().chain(iter::repeat(None));
                return Ok(Committed::of(append::stored_before(&table, id, &parts, found).await?));
            }
        }
        for member in &mut members {
            member.begin();
        }
        let id = command.id.unwrap_or_else(Uuid::new_v4);
        let appends = match append::commit(&table, id, &mut parts, &items).await {
            Ok(appends) => appends,
            Err(error) => {
                if let Error::Conflict(conflict) = &error {
                    let place = parts.iter().position(|part| part.stream == *conflict.current.stream());
                    if let Some(member) = place.and_then(|place| members.get(place)) {
                        member.conflicted();
                    }
                }
                return Err(error);
            }
        };
        let committed = Committed::of(appends);
        for (member, appended) in members.into_iter().zip(&committed.appends) {
            // What an earlier delivery has stored need not be what this one has decided on.
            if committed.already_stored {
                member.repeated();
            } else {
                member.stored(appended);
            }
        }
        Ok(committed)
    }
}

impl fmt::Debug for AggregateTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregateTransaction")
            .field("command", &self.command)
            .field("members", &self.members.len())
            .field("appends", &self.appends)
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}
