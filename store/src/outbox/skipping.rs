//! Skipping: an operator's word that a pending entry is not to be published, and the record of it.
//!
//! One transaction removes the entry and writes who did it, when and why. Events are not touched: what was appended stays
//! in the stream for ever, it is only not published by the relay.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{Delete, Put, ReturnConsumedCapacity, TransactWriteItem},
};
use uuid::Uuid;

use super::{Outbox, Predecessor, Skip, SkipRequest, SkipTarget, Skipping};
use crate::{
    error::{Error, Invalid},
    failure::Cancelled,
    limits::{MAX_SKIP_BY_BYTES, MAX_SKIP_REASON_BYTES},
    retry::Backoff,
    schema::{self, ENTITY, EntryOutline, Item, PENDING_PREFIX, SKIP_PREFIX, SKIPS_PARTITION},
    stream::{StreamId, excerpt},
    table::SortKeys,
};

/// How many of the newest skips are looked through for one that was done before.
const REMEMBERED_SKIPS: u16 = 100;

/// How many pending entries an answer names.
const NAMED_ENTRIES: u16 = 10;

/// How often the append before is looked for, and the transaction sent if another one is in its way. With the delays between
/// them about two seconds: a transaction is half visible for milliseconds.
const SKIP_ATTEMPTS: u32 = 8;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

impl Outbox {
    /// Removes a pending entry, and records in the same transaction who did it, when and why. All events of the entry are
    /// skipped: it stands for one append. If a relay is just publishing it, it may be published all the same.
    ///
    /// An entry that is named by a version has to be the first of its stream, and the append before it published: even a
    /// consistent `Query` may show an entry before the one in front of it, so a serializable read verifies it. One with a damaged
    /// sort key is not an append's entry, and nothing is concluded from its absence: it can be removed anywhere.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `by` or `reason` is empty or too long, or a key is not one of a pending entry; [`Error::Busy`]
    /// if other transactions were in the way; [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers. Repeating it is
    /// harmless.
    pub async fn skip(&self, request: &SkipRequest) -> Result<Skipping, Error> {
        check("name of who skips", &request.by, MAX_SKIP_BY_BYTES)?;
        check("reason", &request.reason, MAX_SKIP_REASON_BYTES)?;
        let stream = StreamId::stored(&request.stream);
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        // One id for all attempts, so that a lost answer does not lead to a second record.
        let id = Uuid::new_v4();
        let mut operation = self.table.operation("skip an entry", stream.as_str());
        loop {
            operation.attempts += 1;
            let is_last = operation.attempts >= SKIP_ATTEMPTS;
            let skip = match &request.target {
                SkipTarget::Version(version) => match self.first_entry(&stream, *version).await? {
                    Ok(entry) => {
                        let mut skip = self.record(request, &stream, entry.first, entry.last);
                        // The relay asks the same before it publishes.
                        if let Some(previous) = entry.previous {
                            match self.predecessor(&stream, previous).await? {
                                Predecessor::Published => {}
                                Predecessor::Missing if is_last && request.gives_up_previous => {
                                    skip.gave_up_previous = Some(previous);
                                }
                                Predecessor::Missing if is_last => {
                                    let entry = entry.versions();
                                    return Ok(Skipping::PreviousMissing { entry, previous });
                                }
                                Predecessor::Pending if is_last => {
                                    return Ok(Skipping::NotFirst { first: (None, previous) });
                                }
                                Predecessor::Unsettled if is_last => return Err(operation.busy()),
                                _ => {
                                    backoff.wait().await;
                                    continue;
                                }
                            }
                        }
                        skip
                    }
                    Err(skipping) => return Ok(skipping),
                },
                SkipTarget::Key(key) if !key.starts_with(PENDING_PREFIX) || schema::pending_last(key).is_some() => {
                    return Err(Invalid::SkipTarget { target: excerpt(key) }.into());
                }
                SkipTarget::Key(key) => {
                    if !self.is_there(&stream, key).await? {
                        return self.not_pending(&stream, &request.target).await;
                    }
                    Skip { key: Some(key.clone()), ..self.record(request, &stream, None, 0) }
                }
            };
            let error = match self.remove(&skip, id).await {
                Ok(()) => return Ok(Skipping::Done(skip)),
                Err(error) => error,
            };
            // The entry was removed in the meantime, or another transaction is working on it: look again.
            match Cancelled::of(&error) {
                Some(cancelled) if !is_last && !matches!(cancelled, Cancelled::Refused { .. }) => {}
                _ => return Err(operation.not_done(error)),
            }
            backoff.wait().await;
        }
    }

    /// The newest skips, the newest first, at most `limit`, strongly consistent: one read unit for each 4 KB. What can't be
    /// read of a record (a newer version may write it otherwise) is empty or 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn skips(&self, limit: u16) -> Result<Vec<Skip>, Error> {
        let operation = self.table.request("read the skips", self.table.name());
        let output = self
            .table
            .query(SKIPS_PARTITION, SortKeys::BeginWith(SKIP_PREFIX))
            .scan_index_forward(false)
            .limit(i32::from(limit.max(1)))
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        Ok(output.items.unwrap_or_default().into_iter().map(schema::read_skip).collect())
    }

    /// Whether a pending entry holds `version`.
    async fn is_pending(&self, stream: &StreamId, version: u64) -> Result<bool, Error> {
        let keys = schema::pending_key(version)..=schema::pending_key(u64::MAX);
        let (items, _) = self.pending_items(stream, keys, 1).await?;
        let nearest = items.into_iter().next().and_then(schema::read_outline);
        Ok(nearest.is_some_and(|entry| entry.holds(version)))
    }

    /// The first pending entry of a stream, if it holds `version`; otherwise the answer instead.
    async fn first_entry(&self, stream: &StreamId, version: u64) -> Result<Result<EntryOutline, Skipping>, Error> {
        // More than one: if the first is not visible yet, the next one names it.
        let (mut entries, _) = self.entries(stream, NAMED_ENTRIES).await?;
        if entries.is_empty() {
            return self.not_pending(stream, &version.into()).await.map(Err);
        }
        let entry = entries.swap_remove(0);
        if version > entry.last && self.is_pending(stream, version).await? {
            return Ok(Err(Skipping::NotFirst { first: entry.versions() }));
        }
        if !entry.holds(version) {
            return self.not_pending(stream, &version.into()).await.map(Err);
        }
        Ok(Ok(entry))
    }

    /// The first pending entries, and whether there are more.
    async fn entries(&self, stream: &StreamId, limit: u16) -> Result<(Vec<EntryOutline>, bool), Error> {
        let keys = schema::pending_key(1)..=schema::pending_key(u64::MAX);
        let (items, has_more) = self.pending_items(stream, keys, limit).await?;
        Ok((items.into_iter().filter_map(schema::read_outline).collect(), has_more))
    }

    /// Whether an item has this very key.
    async fn is_there(&self, stream: &StreamId, key: &str) -> Result<bool, Error> {
        let (items, _) = self.pending_items(stream, key.to_owned()..=key.to_owned(), 1).await?;
        Ok(!items.is_empty())
    }

    async fn not_pending(&self, stream: &StreamId, target: &SkipTarget) -> Result<Skipping, Error> {
        let is_it = |skip: &Skip| match target {
            SkipTarget::Version(version) => (skip.first.unwrap_or(skip.last)..=skip.last).contains(version),
            SkipTarget::Key(key) => skip.key.as_ref() == Some(key),
        };
        let skips = self.skips(REMEMBERED_SKIPS).await?;
        if let Some(skip) = skips.into_iter().find(|skip| skip.stream_id == *stream && is_it(skip)) {
            return Ok(Skipping::DoneBefore(skip));
        }
        let (entries, has_more) = self.entries(stream, NAMED_ENTRIES).await?;
        let pending = entries.iter().map(EntryOutline::versions).collect();
        Ok(Skipping::NotPending { pending, has_more })
    }

    fn record(&self, request: &SkipRequest, stream: &StreamId, first: Option<u64>, last: u64) -> Skip {
        let (by, reason) = (request.by.clone(), request.reason.clone());
        let at_ms = self.table.now_ms();
        Skip { stream_id: stream.clone(), first, last, key: None, gave_up_previous: None, at_ms, by, reason }
    }

    async fn remove(&self, skip: &Skip, id: Uuid) -> Result<(), SdkError<TransactWriteItemsError>> {
        let key = skip.key.clone().unwrap_or_else(|| schema::pending_key(skip.last));
        let entry = schema::key(skip.stream_id.as_str(), key);
        let [put, delete] = transaction(self.table.name(), schema::skip_item(skip, id), entry);
        self.table
            .client()
            .transact_write_items()
            .transact_items(put)
            .transact_items(delete)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        Ok(())
    }
}

fn transaction(table: &str, record: Item, entry: Item) -> [TransactWriteItem; 2] {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(record))
        .condition_expression(format!("attribute_not_exists({ENTITY})"))
        .build()
        .expect("a put has a table and an item");
    let delete = Delete::builder()
        .table_name(table)
        .set_key(Some(entry))
        .condition_expression(format!("attribute_exists({ENTITY})"))
        .build()
        .expect("a delete has a table and a key");
    [TransactWriteItem::builder().put(put).build(), TransactWriteItem::builder().delete(delete).build()]
}

fn check(what: &'static str, text: &str, limit_bytes: usize) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::Empty { what });
    }
    if text.len() > limit_bytes {
        return Err(Invalid::TooLong { what, limit_bytes, bytes: text.len() });
    }
    Ok(())
}
