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

use super::{Outbox, Predecessor};
use crate::{
    error::{Error, Invalid},
    failure::Attempts,
    limits::{MAX_SKIP_BY_BYTES, MAX_SKIP_REASON_BYTES},
    read::Direction,
    retry::Delays,
    schema::{
        self, ENTITY, Item, LAST_VERSION, PREVIOUS_FIRST, RELAY_PARTITION, SKIP_PREFIX, SKIP_REASON, SKIPPED_AT,
        SKIPPED_BY, SKIPPED_FIRST, SKIPPED_LAST, SKIPPED_STREAM, STREAM_ID,
    },
    stream::StreamId,
};

/// How many of the newest skips are looked through for one that was done before.
const REMEMBERED_SKIPS: u16 = 100;

/// How many pending entries an answer names.
const NAMED_ENTRIES: u16 = 10;

/// How often the transaction is sent where another one is in its way.
const SKIP_ATTEMPTS: u32 = 8;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The record of a skip.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skip {
    /// The stream.
    pub stream_id: StreamId,
    /// The first version of the entry that was removed.
    pub first: u64,
    /// Its last version; none where the entry could not be read.
    pub last: Option<u64>,
    /// When: milliseconds since the Unix epoch, by the clock of who did it.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What came of [`Outbox::skip`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skipping {
    /// The entry is removed, and this is its record.
    Done(Skip),
    /// It was removed before. This is the first record; no second one was written.
    DoneBefore(Skip),
    /// An earlier entry of the stream is pending. Only the first can be skipped: a relay takes an entry that is gone as proof
    /// that everything up to it has been published.
    NotFirst {
        /// First and last version of the first pending entry; the last is unknown where it can't be read.
        first: (u64, Option<u64>),
    },
    /// No pending entry holds the version: it was published, or never appended, or is a private event.
    NotPending {
        /// First and last version of what is pending in the stream, at most ten entries; the last is unknown where an entry
        /// can't be read.
        pending: Vec<(u64, Option<u64>)>,
        /// Whether there are more behind them.
        has_more: bool,
    },
}

impl Outbox {
    /// Removes the first pending entry of `stream`, if it holds `version`, and records in the same transaction who did it,
    /// when and why. All events of the entry are skipped: it stands for one append. Where a relay is just publishing it, it
    /// may be published all the same.
    ///
    /// Even a consistent `Query` may show an entry before the one in front of it; so a serializable read makes sure first
    /// that the append before is published.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `by` or `reason` is empty or too long, [`Error::Unavailable`] and [`Error::Setup`] as
    /// DynamoDB answers; unavailable, too, where the append before is not visible yet. Repeating it is harmless.
    pub async fn skip(&self, stream: &StreamId, version: u64, by: &str, reason: &str) -> Result<Skipping, Error> {
        check("name of who skips", by, MAX_SKIP_BY_BYTES)?;
        check("reason", reason, MAX_SKIP_REASON_BYTES)?;
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY, self.store.jitter());
        // One id for all attempts, so that a lost answer does not lead to a second record.
        let id = Uuid::new_v4();
        let mut attempts = Attempts::of(self.store.asker(), "skip an entry", stream.as_str());
        loop {
            // More than one: where the first is not visible yet, the next one tells of it.
            let (entries, _) = self.entries(stream, NAMED_ENTRIES).await?;
            let Some(entry) = entries.first() else {
                return self.not_pending(stream, version).await;
            };
            let (first, last) = (entry.first, entry.last);
            if version > last.unwrap_or(first) && self.is_pending(stream, version).await? {
                return Ok(Skipping::NotFirst { first: (first, last) });
            }
            if !(first..=last.unwrap_or(first)).contains(&version) {
                return self.not_pending(stream, version).await;
            }
            if !self.is_settled(stream, entry).await? {
                attempts.made += 1;
                if attempts.made >= SKIP_ATTEMPTS {
                    let why = "the append before it is not visible yet, or not published: ask again";
                    return Err(attempts.unavailable(false, why));
                }
                delays.wait().await;
                continue;
            }
            let at_ms = self.store.now_ms();
            let (by, reason) = (by.to_owned(), reason.to_owned());
            let skip = Skip { stream_id: stream.clone(), first, last, at_ms, by, reason };
            attempts.made += 1;
            let error = match self.remove(&skip, id).await {
                Ok(()) => return Ok(Skipping::Done(skip)),
                Err(error) => error,
            };
            // The entry has gone in the meantime, or another transaction is at it: look again.
            if !is_cancelled(&error) {
                return Err(attempts.failed(error));
            }
            if attempts.made >= SKIP_ATTEMPTS {
                return Err(attempts.unavailable(false, error));
            }
            delays.wait().await;
        }
    }

    /// The newest skips, the newest first, at most `limit`, strongly consistent: one read unit for each 4 KB. What can't be
    /// read of a record (a newer version may write it otherwise) is empty or 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Setup`] as DynamoDB answers.
    pub async fn skips(&self, limit: u16) -> Result<Vec<Skip>, Error> {
        let attempts = Attempts::one(self.store.asker(), "read the skips", self.store.table());
        let output = self
            .store
            .client()
            .query()
            .table_name(self.store.table())
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(i32::from(limit.max(1)))
            .key_condition_expression(format!("{STREAM_ID} = :relay AND begins_with({ENTITY}, :skip)"))
            .expression_attribute_values(":relay", schema::text(RELAY_PARTITION))
            .expression_attribute_values(":skip", schema::text(SKIP_PREFIX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| attempts.failed(error))?;
        Ok(output.items().iter().map(read_skip).collect())
    }

    /// Whether a pending entry holds `version`.
    async fn is_pending(&self, stream: &StreamId, version: u64) -> Result<bool, Error> {
        let (items, _) = self.pending_items(stream, 1..=version, 1, Direction::Backward).await?;
        let nearest = items.first().and_then(read_entry);
        // Of an entry that can't be read the first version is all that is known.
        Ok(nearest.is_some_and(|entry| version <= entry.last.unwrap_or(entry.first)))
    }

    /// Whether the append before an entry is published. The relay asks the same before it publishes.
    async fn is_settled(&self, stream: &StreamId, entry: &Entry) -> Result<bool, Error> {
        match entry.previous {
            None => Ok(true),
            Some(previous) => Ok(self.predecessor(stream, previous).await? == Predecessor::Published),
        }
    }

    /// The first pending entries, and whether there are more.
    async fn entries(&self, stream: &StreamId, limit: u16) -> Result<(Vec<Entry>, bool), Error> {
        let (items, has_more) = self.pending_items(stream, 1..=u64::MAX, limit, Direction::Forward).await?;
        Ok((items.iter().filter_map(read_entry).collect(), has_more))
    }

    async fn not_pending(&self, stream: &StreamId, version: u64) -> Result<Skipping, Error> {
        let holds = |skip: &Skip| {
            skip.stream_id == *stream && (skip.first..=skip.last.unwrap_or(skip.first)).contains(&version)
        };
        if let Some(skip) = self.skips(REMEMBERED_SKIPS).await?.into_iter().find(holds) {
            return Ok(Skipping::DoneBefore(skip));
        }
        let (entries, has_more) = self.entries(stream, NAMED_ENTRIES).await?;
        let pending = entries.iter().map(|entry| (entry.first, entry.last)).collect();
        Ok(Skipping::NotPending { pending, has_more })
    }

    async fn remove(&self, skip: &Skip, id: Uuid) -> Result<(), SdkError<TransactWriteItemsError>> {
        let entry = schema::key(skip.stream_id.as_str(), schema::pending_key(skip.first));
        let [put, delete] = transaction(self.store.table(), skip_item(skip, id), entry);
        self.store
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

fn is_cancelled(error: &SdkError<TransactWriteItemsError>) -> bool {
    matches!(error.as_service_error(), Some(TransactWriteItemsError::TransactionCanceledException(_)))
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

/// The record. Its key begins with the time, so that the newest are found first; the id tells apart what falls into the
/// same millisecond.
fn skip_item(skip: &Skip, id: Uuid) -> Item {
    let mut item = schema::key(RELAY_PARTITION, schema::skip_key(skip.at_ms, id));
    item.extend([
        (SKIPPED_STREAM.to_owned(), schema::text(skip.stream_id.as_str())),
        (SKIPPED_FIRST.to_owned(), schema::number(skip.first)),
        (SKIPPED_AT.to_owned(), schema::number(skip.at_ms)),
        (SKIPPED_BY.to_owned(), schema::text(&skip.by)),
        (SKIP_REASON.to_owned(), schema::text(&skip.reason)),
    ]);
    item.extend(skip.last.map(|last| (SKIPPED_LAST.to_owned(), schema::number(last))));
    item
}

fn read_skip(item: &Item) -> Skip {
    let text = |name| item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default();
    Skip {
        stream_id: StreamId::stored(&text(SKIPPED_STREAM)),
        first: number(item, SKIPPED_FIRST).unwrap_or_default(),
        last: number(item, SKIPPED_LAST),
        at_ms: number(item, SKIPPED_AT).unwrap_or_default(),
        by: text(SKIPPED_BY),
        reason: text(SKIP_REASON),
    }
}

/// What has to be known of a pending entry to remove it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    first: u64,
    /// Unknown where the entry is damaged. That one above all has to be skippable.
    last: Option<u64>,
    /// The first version of the append before that has an entry, too.
    previous: Option<u64>,
}

fn read_entry(item: &Item) -> Option<Entry> {
    let first = schema::pending_first(item.get(ENTITY)?.as_s().ok()?)?;
    let last = number(item, LAST_VERSION).filter(|last| *last >= first);
    Some(Entry { first, last, previous: number(item, PREVIOUS_FIRST) })
}

fn number<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let stream_id = StreamId::new("order-1").unwrap();
        let (by, reason) = ("ada@desk".to_owned(), "a test order".to_owned());
        let skip = Skip { stream_id, first: 3, last: Some(5), at_ms: 1_780_000_000_000, by, reason };
        let item = skip_item(&skip, Uuid::from_u128(1));
        assert_eq!(read_skip(&item), skip);
        let key = item[ENTITY].as_s().unwrap();
        assert_eq!(key, "skip#00000001780000000000#00000000-0000-0000-0000-000000000001");
        let unreadable = Skip { last: None, ..skip };
        assert_eq!(read_skip(&skip_item(&unreadable, Uuid::nil())), unreadable);
    }

    #[test]
    fn a_damaged_entry_has_a_first_version_at_least() {
        let entry = |last: &str| {
            let mut item = schema::key("order-1", schema::pending_key(3));
            item.insert(LAST_VERSION.to_owned(), schema::text(last));
            item
        };
        let read = |item: &Item| read_entry(item).map(|entry| (entry.first, entry.last, entry.previous));
        assert_eq!(read(&entry("x")), Some((3, None, None)));
        let mut whole = entry("");
        whole.insert(LAST_VERSION.to_owned(), schema::number(5));
        whole.insert(PREVIOUS_FIRST.to_owned(), schema::number(2));
        assert_eq!(read(&whole), Some((3, Some(5), Some(2))));
        whole.insert(LAST_VERSION.to_owned(), schema::number(2));
        assert_eq!(read(&whole), Some((3, None, Some(2))), "less than the first is damage, too");
    }
}
