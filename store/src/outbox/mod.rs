//! The outbox: what a relay needs of the table. Services that only append and load never touch it.
//!
//! The sparse index says which streams have something pending: it is eventually consistent and only a hint. The pending
//! entries themselves are read with a consistent `Query`, and deleted when everything in them is published.

mod backlog;
pub(crate) mod entry;
mod skip;
mod workers;

use std::{collections::HashMap, error::Error as StdError, ops::RangeInclusive};

use crate::{
    EventStore,
    definition::is_being_built,
    error::{Corrupt, Error},
    failure::{Cancelled, Operation},
    limits::MAX_BATCH_DELETES,
    read::{Direction, EventReader},
    schema::{self, ENTITY, Item, OUTBOX_INDEX, PENDING_SINCE, STREAM_ID},
    stream::StreamId,
};
use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_get_items::TransactGetItemsError,
    types::{DeleteRequest, Get, ReturnConsumedCapacity, TransactGetItem, WriteRequest},
};

pub use self::entry::{OutboxEvent, PendingEntry, PendingKey};
pub use crate::stream::Previous;
pub use backlog::PendingCount;
pub use skip::{Skip, SkipRequest, SkipTarget, Skipping};
pub use workers::{HaltedStream, WorkerId, WorkerRow};

/// Where a scan of the index goes on.
#[derive(Clone, Debug)]
pub struct ScanCursor(Item);

/// One page of the index.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScanPage {
    /// The stream of each entry on the page: entries of one stream stand next to each other.
    pub streams: Vec<StreamId>,
    /// When each of them was recorded, by its appender's clock: milliseconds since the Unix epoch. A stream's oldest stands
    /// first. None where that can't be read.
    pub pending_since_ms: Vec<Option<i64>>,
    /// What is not a pending entry and stands in the index all the same, put there by another program: a read of the pending
    /// entries does not show it.
    pub strays: Vec<Corrupt>,
    /// Where the next page begins; `None` at the end of the index.
    pub next: Option<ScanCursor>,
}

/// The pending entries of one stream, in order.
#[derive(Debug)]
#[non_exhaustive]
pub struct PendingPage {
    /// The entries, up to the first that can't be read.
    pub entries: Vec<PendingEntry>,
    /// Why the entry behind them can't be read.
    pub unreadable: Option<Corrupt>,
    /// Whether there are more behind this page.
    pub has_more: bool,
}

impl PendingPage {
    /// Builds a page by hand, for tests of what publishes it.
    #[must_use]
    pub fn new(entries: Vec<PendingEntry>, unreadable: Option<Corrupt>, has_more: bool) -> Self {
        Self { entries, unreadable, has_more }
    }
}

/// What is known about the append before a pending entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Predecessor {
    /// Its events are there and its entry is not: everything of it has been published.
    Published,
    /// Its entry is there, though the Query before did not show it.
    Pending,
    /// Neither its first event nor its entry is there: it is not visible yet, or somebody has erased it.
    Missing,
    /// Another transaction is under way on it. Ask again later.
    Unsettled,
}

/// Access to the pending entries. See [`EventStore::outbox`].
#[derive(Clone, Debug)]
pub struct Outbox {
    store: EventStore,
}

impl Outbox {
    pub(crate) fn new(store: EventStore) -> Self {
        Self { store }
    }

    /// One page of the index: which streams have something pending. Eventually consistent; half a read unit for each 4 KB of
    /// it, half a unit where it is empty.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn scan(&self, from: Option<ScanCursor>, limit: u16) -> Result<ScanPage, Error> {
        let operation = Operation::one(self.store.request_context(), "scan the outbox", self.store.table());
        let answer = self
            .store
            .client()
            .scan()
            .table_name(self.store.table())
            .index_name(OUTBOX_INDEX)
            .limit(i32::from(limit.max(1)))
            .set_exclusive_start_key(from.map(|cursor| cursor.0))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let output = match answer {
            Ok(output) => output,
            Err(error) => return Err(self.unless_being_built(&operation, error).await),
        };
        Ok(ScanPage {
            streams: output.items().iter().map(schema::read_stream_id).collect(),
            pending_since_ms: output.items().iter().map(|item| schema::read_number(item, PENDING_SINCE)).collect(),
            strays: output.items().iter().filter_map(schema::stray).collect(),
            next: output.last_evaluated_key.filter(|key| !key.is_empty()).map(ScanCursor),
        })
    }

    /// What a read of the table or the index failed with. While either is being made, DynamoDB says that it is not there, or that it
    /// has no such index: nobody has to mend that, it passes.
    async fn unless_being_built<E>(&self, operation: &Operation<'_>, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let code = error.as_service_error().and_then(|error| error.code());
        if matches!(code, Some("ResourceNotFoundException" | "ValidationException"))
            && is_being_built(self.store.client(), self.store.table()).await
        {
            let what = format!(
                "the table or its index `{OUTBOX_INDEX}` is being built; what is pending is published when it is there"
            );
            return operation.unavailable(false, what);
        }
        operation.failed(error)
    }

    /// The pending entries of a stream from version `from` on, at most `limit`, strongly consistent and in order. From version
    /// 1 on, also what has the sort key of none, but one that begins as theirs: that is unreadable.
    ///
    /// An append's entry may become visible later than that of the append after it: see [`Self::predecessor`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn pending(&self, stream: &StreamId, from: u64, limit: u16) -> Result<PendingPage, Error> {
        let keys = schema::pending_keys_from(from);
        let (items, has_more) = self.pending_items(stream, keys, limit, Direction::Forward).await?;
        let mut page = PendingPage { entries: Vec::new(), unreadable: None, has_more };
        if let (Some(item), Err(error)) = (items.first(), StreamId::new(stream.as_str())) {
            let at = schema::read_entity(item).to_owned();
            page.unreadable = Some(Corrupt { stream: stream.clone(), at, what: error.to_string() });
            return Ok(page);
        }
        for item in items {
            match schema::read_pending(item) {
                Ok(entry) => page.entries.push(entry),
                Err(corrupt) => {
                    page.unreadable = Some(corrupt);
                    break;
                }
            }
        }
        Ok(page)
    }

    /// The pending entries whose sort keys are in a range, from either end, at most `limit`, and whether there are more:
    /// one consistent `Query`.
    async fn pending_items(
        &self,
        stream: &StreamId,
        keys: RangeInclusive<String>,
        limit: u16,
        direction: Direction,
    ) -> Result<(Vec<Item>, bool), Error> {
        let operation = Operation::one(self.store.request_context(), "read the pending entries", stream.as_str());
        let (from, to) = keys.into_inner();
        let output = self
            .store
            .client()
            .query()
            .table_name(self.store.table())
            .consistent_read(true)
            .scan_index_forward(direction == Direction::Forward)
            .limit(i32::from(limit.max(1)))
            .key_condition_expression(format!("{STREAM_ID} = :stream AND {ENTITY} BETWEEN :from AND :to"))
            .expression_attribute_values(":stream", schema::text(stream.as_str()))
            .expression_attribute_values(":from", schema::text(from))
            .expression_attribute_values(":to", schema::text(to))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        let has_more = output.last_evaluated_key().is_some_and(|key| !key.is_empty());
        Ok((output.items.unwrap_or_default(), has_more))
    }

    /// The events of a stream from version `from` to `last`, private ones included: one page of at most 1 MB, in order,
    /// without a gap, never empty.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where an event is missing or unreadable, [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB
    /// answers.
    pub async fn events(&self, stream: &StreamId, from: u64, last: u64) -> Result<Vec<OutboxEvent>, Error> {
        let mut reader = EventReader::beginning_with(self.store.clone(), stream.clone(), from).reaching(last);
        let page = reader.next_page().await?.unwrap_or_default();
        Ok(page.into_iter().map(OutboxEvent::from).collect())
    }

    /// Makes sure of the append before an entry, with a serializable read of its first event and its pending entry.
    ///
    /// A consistent `Query` sees a transaction item by item, so that an append's pending entry may stay invisible for a
    /// moment in which the next append's is there. This read is serialized with the transactions themselves.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn predecessor(&self, stream: &StreamId, first: u64) -> Result<Predecessor, Error> {
        let operation = Operation::one(self.store.request_context(), "read the append before", stream.as_str());
        let get = |entity| transact_get(self.store.table(), schema::key(stream.as_str(), entity));
        let answer = self
            .store
            .client()
            .transact_get_items()
            .transact_items(get(schema::event_key(first)))
            .transact_items(get(schema::pending_key(first)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let output = match answer {
            Ok(output) => output,
            Err(error) => {
                let reasons = match error.as_service_error() {
                    Some(TransactGetItemsError::TransactionCanceledException(cancelled)) => {
                        cancelled.cancellation_reasons().to_vec()
                    }
                    _ => return Err(operation.failed(error)),
                };
                // A read that was throttled tells nothing about the append: it is made again as any other.
                return match Cancelled::by(&reasons) {
                    Cancelled::Conflict => Ok(Predecessor::Unsettled),
                    _ => Err(operation.cancelled(&reasons, error)),
                };
            }
        };
        let there = |place: usize| {
            output.responses().get(place).and_then(|response| response.item()).is_some_and(|item| !item.is_empty())
        };
        Ok(match (there(0), there(1)) {
            (_, true) => Predecessor::Pending,
            (true, false) => Predecessor::Published,
            (false, false) => Predecessor::Missing,
        })
    }

    /// Deletes the entries with these keys, at most 25, in one request. An entry that is gone already is no error.
    /// Returns the keys that DynamoDB did not get to: ask again for those.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers; any of the entries may have been deleted then.
    ///
    /// # Panics
    /// If there are more than 25 keys.
    pub async fn delete(&self, keys: &[PendingKey]) -> Result<Vec<PendingKey>, Error> {
        assert!(keys.len() <= MAX_BATCH_DELETES, "a batch has at most {MAX_BATCH_DELETES} deletes");
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let operation = Operation::one(self.store.request_context(), "delete pending entries", self.store.table());
        let delete = |key: &PendingKey| {
            let key = schema::key(key.stream_id.as_str(), schema::pending_key(key.first));
            let delete = DeleteRequest::builder().set_key(Some(key)).build().expect("a delete has a key");
            WriteRequest::builder().delete_request(delete).build()
        };
        let output = self
            .store
            .client()
            .batch_write_item()
            .request_items(self.store.table(), keys.iter().map(delete).collect())
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        let left: Vec<_> = output.unprocessed_items.unwrap_or_default().into_values().flatten().collect();
        let by_entity: HashMap<_, _> =
            keys.iter().map(|key| ((key.stream_id.as_str(), schema::pending_key(key.first)), key)).collect();
        let key_of = |request: &WriteRequest| {
            let item = request.delete_request()?.key();
            let entity = item.get(ENTITY)?.as_s().ok()?.clone();
            by_entity.get(&(item.get(STREAM_ID)?.as_s().ok()?.as_str(), entity)).map(|key| (*key).clone())
        };
        Ok(left.iter().filter_map(key_of).collect())
    }
}

fn transact_get(table: &str, key: Item) -> TransactGetItem {
    let get = Get::builder()
        .table_name(table)
        .set_key(Some(key))
        .projection_expression(ENTITY)
        .build()
        .expect("a get has a table and a key");
    TransactGetItem::builder().get(get).build()
}
