//! The pending entries: which streams have some, by the index; those of a stream, by a Query; and their deletion.

use std::{collections::HashMap, ops::RangeInclusive};

use aws_sdk_dynamodb::types::{DeleteRequest, ReturnConsumedCapacity, WriteRequest};
use futures_util::FutureExt as _;

use super::{Outbox, OutboxEvent, PendingEntry, PendingKey};
use crate::{
    error::{Corrupt, Error},
    event::RecordedEvent,
    limits::MAX_BATCH_DELETES,
    read::EventReader,
    schema::{self, Item, OUTBOX_INDEX, PENDING_SINCE},
    stream::StreamId,
    table::SortKeys,
};

/// Where a scan of the index continues.
#[derive(Clone, Debug)]
pub struct ScanCursor(Item);

/// One page of the index.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScanPage {
    /// The stream of each entry on the page: entries of one stream stand next to each other.
    pub streams: Vec<StreamId>,
    /// When each of them was recorded, by its appender's clock: milliseconds since the Unix epoch. A stream's oldest stands
    /// first. None if that can't be read.
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

impl Outbox {
    /// One page of the index: which streams have something pending. Eventually consistent; half a read unit for each 4 KB of
    /// it, half a unit if it is empty.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn scan(&self, from: Option<ScanCursor>, limit: u16) -> Result<ScanPage, Error> {
        let operation = self.table.request("scan the outbox", self.table.name());
        let answer = self
            .table
            .scan()
            .index_name(OUTBOX_INDEX)
            .limit(i32::from(limit.max(1)))
            .set_exclusive_start_key(from.map(|cursor| cursor.0))
            .send()
            .boxed()
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

    /// The pending entries of a stream that end at version `from` or later, at most `limit`, strongly consistent and in order. From version
    /// 1 on, also what has the sort key of none, but one that begins as theirs: that is unreadable.
    ///
    /// An append's entry may become visible later than that of the append after it: see [`Self::predecessor`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn pending(&self, stream: &StreamId, from: u64, limit: u16) -> Result<PendingPage, Error> {
        let keys = schema::pending_keys_from(from);
        let (items, has_more) = self.pending_items(stream, keys, limit).await?;
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

    /// The pending entries whose sort keys are in a range, in order, at most `limit`, and whether there are more:
    /// one consistent `Query`.
    pub(super) async fn pending_items(
        &self,
        stream: &StreamId,
        keys: RangeInclusive<String>,
        limit: u16,
    ) -> Result<(Vec<Item>, bool), Error> {
        let operation = self.table.request("read the pending entries", stream.as_str());
        let output = self
            .table
            .query(stream.as_str(), SortKeys::Between(keys))
            .limit(i32::from(limit.max(1)))
            .send()
            .boxed()
            .await
            .map_err(|error| operation.failed(error))?;
        let has_more = output.last_evaluated_key().is_some_and(|key| !key.is_empty());
        Ok((output.items.unwrap_or_default(), has_more))
    }

    /// The events of a stream from version `from` to `last`, private ones included: one page of at most 1 MB, in order,
    /// without a gap, never empty. `previous`: the last public version before them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an event is missing or unreadable, [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB
    /// answers.
    pub async fn events(
        &self,
        stream: &StreamId,
        from: u64,
        last: u64,
        mut previous: Option<u64>,
    ) -> Result<Vec<OutboxEvent>, Error> {
        let mut reader = EventReader::beginning_with(self.table.clone(), stream.clone(), from).reaching(last);
        let page = reader.fetch().await?.unwrap_or_default();
        let event = |event: RecordedEvent| {
            let before = previous;
            previous = if event.is_private { previous } else { Some(event.version) };
            OutboxEvent::of(event, before)
        };
        Ok(page.into_iter().map(event).collect())
    }

    /// Deletes the entries with these keys, at most 25, in one request. An entry that no longer exists is not an error.
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
        let operation = self.table.request("delete pending entries", self.table.name());
        let item_key = |key: &PendingKey| schema::key(key.stream_id.as_str(), schema::pending_key(key.last));
        let delete = |key: &PendingKey| {
            let delete = DeleteRequest::builder().set_key(Some(item_key(key))).build().expect("a delete has a key");
            WriteRequest::builder().delete_request(delete).build()
        };
        let output = self
            .table
            .client()
            .batch_write_item()
            .request_items(self.table.name(), keys.iter().map(delete).collect())
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .boxed()
            .await
            .map_err(|error| operation.failed(error))?;
        let left: Vec<_> = output.unprocessed_items.into_iter().flat_map(HashMap::into_values).flatten().collect();
        let is_left = |key: &&PendingKey| {
            let key = item_key(key);
            left.iter().filter_map(WriteRequest::delete_request).any(|delete| *delete.key() == key)
        };
        Ok(if left.is_empty() { Vec::new() } else { keys.iter().filter(is_left).cloned().collect() })
    }
}
