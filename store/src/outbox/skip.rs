//! Skipping: an operator's word that a pending entry is not to be published, and the record of it.
//!
//! One transaction removes the entry and writes who did it, when and why. Events are not touched: what was appended stays
//! in the stream for ever, it is only not published by the relay.

use std::{str::FromStr, time::Duration};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{Delete, Put, ReturnConsumedCapacity, TransactWriteItem},
};
use uuid::Uuid;

use super::{Outbox, Predecessor};
use crate::{
    error::{Error, Invalid},
    failure::{Cancelled, Operation},
    limits::{MAX_EVENTS_PER_APPEND, MAX_SKIP_BY_BYTES, MAX_SKIP_REASON_BYTES},
    read::Direction,
    retry::Delays,
    schema::{
        self, ENTITY, GAVE_UP_PREVIOUS, Item, LAST_VERSION, PENDING_PREFIX, PREVIOUS_FIRST, SKIP_PREFIX, SKIP_REASON,
        SKIPPED_AT, SKIPPED_BY, SKIPPED_FIRST, SKIPPED_KEY, SKIPPED_LAST, SKIPPED_STREAM, SKIPS_PARTITION, STREAM_ID,
        read_number,
    },
    stream::{StreamId, excerpt},
};

/// How many of the newest skips are looked through for one that was done before.
const REMEMBERED_SKIPS: u16 = 100;

/// How many pending entries an answer names.
const NAMED_ENTRIES: u16 = 10;

/// How often the append before is looked for, and the transaction sent where another one is in its way. With the delays between
/// them about two seconds: a transaction is half visible for milliseconds.
const SKIP_ATTEMPTS: u32 = 8;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// An operator's word: which pending entry is not to be published, who says so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkipRequest {
    /// The stream, as it stands in the table: also an id that breaks the rules of a [`StreamId`].
    pub stream: String,
    /// The entry.
    pub target: SkipTarget,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether the append before the entry is given up as well, where neither its event nor its entry is in the table any more.
    pub gives_up_previous: bool,
}

impl SkipRequest {
    /// Asks to skip one entry, and nothing before it.
    #[must_use]
    pub fn new(
        stream: impl AsRef<str>,
        target: impl Into<SkipTarget>,
        by: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let (stream, target) = (stream.as_ref().to_owned(), target.into());
        Self { stream, target, by: by.into(), reason: reason.into(), gives_up_previous: false }
    }

    /// The same request, which gives up the append before the entry as well, if that is missing: nobody can tell any more whether
    /// its events were published.
    #[must_use]
    pub fn giving_up_previous(self) -> Self {
        Self { gives_up_previous: true, ..self }
    }
}

/// Names a pending entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipTarget {
    /// The entry that holds this version.
    Version(u64),
    /// The damaged entry that has this sort key, which is not `pending#` and a version of 20 digits.
    Key(String),
}

impl From<u64> for SkipTarget {
    fn from(version: u64) -> Self {
        Self::Version(version)
    }
}

impl FromStr for SkipTarget {
    type Err = Error;

    /// A version, or a sort key as messages name it. A key that is sound stands for its version.
    fn from_str(text: &str) -> Result<Self, Error> {
        let version = schema::parse_number(text).filter(|version| *version > 0);
        match version.or_else(|| schema::pending_first(text)) {
            Some(version) => Ok(Self::Version(version)),
            None if text.starts_with(PENDING_PREFIX) => Ok(Self::Key(text.to_owned())),
            None => Err(Invalid::SkipTarget { target: excerpt(text) }.into()),
        }
    }
}

/// The record of a skip.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skip {
    /// The stream.
    pub stream_id: StreamId,
    /// The first version of the entry that was removed; 0 where its sort key has none.
    pub first: u64,
    /// Its last version; none where the entry could not be read.
    pub last: Option<u64>,
    /// Its sort key, where that has no version.
    pub key: Option<String>,
    /// The first version of the append before it, where that was missing and given up, too.
    pub gave_up_previous: Option<u64>,
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
    /// The append before the entry is missing: neither its first event nor its pending entry is in the table. Somebody has erased
    /// it, so nobody can tell whether its events were published. Nothing was skipped; see
    /// [`SkipRequest::giving_up_previous`].
    PreviousMissing {
        /// First and last version of the entry that was to be skipped; the last is unknown where it can't be read.
        entry: (u64, Option<u64>),
        /// The first version of the append before it.
        previous: u64,
    },
    /// No pending entry holds the version, or has the sort key: it was published, or never appended, or is a private event.
    NotPending {
        /// First and last version of what is pending in the stream, at most ten entries; the last is unknown where an entry
        /// can't be read.
        pending: Vec<(u64, Option<u64>)>,
        /// Whether there are more behind them.
        has_more: bool,
    },
}

impl Outbox {
    /// Removes a pending entry, and records in the same transaction who did it, when and why. All events of the entry are
    /// skipped: it stands for one append. Where a relay is just publishing it, it may be published all the same.
    ///
    /// An entry that is named by a version has to be the first of its stream, and the append before it published: even a
    /// consistent `Query` may show an entry before the one in front of it, so a serializable read makes sure. One with a damaged
    /// sort key is no append's entry, and nobody concludes anything from its absence: it can be removed wherever it stands.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `by` or `reason` is empty or too long, or a key is not one of a pending entry; [`Error::Busy`]
    /// where other transactions were in the way; [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers. Repeating it is
    /// harmless.
    pub async fn skip(&self, request: &SkipRequest) -> Result<Skipping, Error> {
        check("name of who skips", &request.by, MAX_SKIP_BY_BYTES)?;
        check("reason", &request.reason, MAX_SKIP_REASON_BYTES)?;
        let stream = StreamId::stored(&request.stream);
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY, self.store.jitter());
        // One id for all attempts, so that a lost answer does not lead to a second record.
        let id = Uuid::new_v4();
        let mut operation = Operation::new(self.store.request_context(), "skip an entry", stream.as_str());
        loop {
            operation.attempts += 1;
            let is_last = operation.attempts >= SKIP_ATTEMPTS;
            let skip = match &request.target {
                SkipTarget::Version(version) => match self.first_entry(&stream, *version).await? {
                    Ok(entry) => {
                        let mut skip = self.record(request, &stream, entry.first, entry.last);
                        match self.before(&stream, &entry).await? {
                            Before::Published => {}
                            Before::Missing(previous) if is_last && request.gives_up_previous => {
                                skip.gave_up_previous = Some(previous);
                            }
                            before if is_last => return before.refuses(&entry).ok_or_else(|| operation.busy()),
                            _ => {
                                delays.wait().await;
                                continue;
                            }
                        }
                        skip
                    }
                    Err(skipping) => return Ok(skipping),
                },
                SkipTarget::Key(key) if !key.starts_with(PENDING_PREFIX) || schema::pending_first(key).is_some() => {
                    return Err(Invalid::SkipTarget { target: excerpt(key) }.into());
                }
                SkipTarget::Key(key) => {
                    if !self.is_there(&stream, key).await? {
                        return self.not_pending(&stream, &request.target).await;
                    }
                    Skip { key: Some(key.clone()), ..self.record(request, &stream, 0, None) }
                }
            };
            let error = match self.remove(&skip, id).await {
                Ok(()) => return Ok(Skipping::Done(skip)),
                Err(error) => error,
            };
            let reasons = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    cancelled.cancellation_reasons().to_vec()
                }
                _ => return Err(operation.failed(error)),
            };
            // The entry has gone in the meantime, or another transaction is at it: look again.
            if is_last || matches!(Cancelled::by(&reasons), Cancelled::Refused { .. }) {
                return Err(operation.cancelled(&reasons, error));
            }
            delays.wait().await;
        }
    }

    /// The newest skips, the newest first, at most `limit`, strongly consistent: one read unit for each 4 KB. What can't be
    /// read of a record (a newer version may write it otherwise) is empty or 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn skips(&self, limit: u16) -> Result<Vec<Skip>, Error> {
        let operation = Operation::one(self.store.request_context(), "read the skips", self.store.table());
        let output = self
            .store
            .client()
            .query()
            .table_name(self.store.table())
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(i32::from(limit.max(1)))
            .key_condition_expression(format!("{STREAM_ID} = :skips AND begins_with({ENTITY}, :skip)"))
            .expression_attribute_values(":skips", schema::text(SKIPS_PARTITION))
            .expression_attribute_values(":skip", schema::text(SKIP_PREFIX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        Ok(output.items().iter().map(read_skip).collect())
    }

    /// Whether a pending entry holds `version`.
    async fn is_pending(&self, stream: &StreamId, version: u64) -> Result<bool, Error> {
        let keys = schema::pending_key(1)..=schema::pending_key(version);
        let (items, _) = self.pending_items(stream, keys, 1, Direction::Backward).await?;
        let nearest = items.first().and_then(read_entry);
        // Of an entry that can't be read the first version is all that is known.
        Ok(nearest.is_some_and(|entry| version <= entry.last.unwrap_or(entry.first)))
    }

    /// The first pending entry of a stream, if it holds `version`; else what there is to say instead.
    async fn first_entry(&self, stream: &StreamId, version: u64) -> Result<Result<Entry, Skipping>, Error> {
        // More than one: where the first is not visible yet, the next one tells of it.
        let (mut entries, _) = self.entries(stream, NAMED_ENTRIES).await?;
        if entries.is_empty() {
            return self.not_pending(stream, &version.into()).await.map(Err);
        }
        let entry = entries.swap_remove(0);
        let (first, last) = (entry.first, entry.last);
        if version > last.unwrap_or(first) && self.is_pending(stream, version).await? {
            return Ok(Err(Skipping::NotFirst { first: (first, last) }));
        }
        if !(first..=last.unwrap_or(first)).contains(&version) {
            return self.not_pending(stream, &version.into()).await.map(Err);
        }
        Ok(Ok(entry))
    }

    /// What is known of the append before an entry. The relay asks the same before it publishes.
    async fn before(&self, stream: &StreamId, entry: &Entry) -> Result<Before, Error> {
        let Some(previous) = entry.previous else { return Ok(Before::Published) };
        Ok(match self.predecessor(stream, previous).await? {
            Predecessor::Published => Before::Published,
            Predecessor::Pending => Before::Pending(previous),
            Predecessor::Missing => Before::Missing(previous),
            Predecessor::Unsettled => Before::Busy,
        })
    }

    /// The first pending entries, and whether there are more.
    async fn entries(&self, stream: &StreamId, limit: u16) -> Result<(Vec<Entry>, bool), Error> {
        let keys = schema::pending_key(1)..=schema::pending_key(u64::MAX);
        let (items, has_more) = self.pending_items(stream, keys, limit, Direction::Forward).await?;
        Ok((items.iter().filter_map(read_entry).collect(), has_more))
    }

    /// Whether an item has this very key.
    async fn is_there(&self, stream: &StreamId, key: &str) -> Result<bool, Error> {
        let (items, _) = self.pending_items(stream, key.to_owned()..=key.to_owned(), 1, Direction::Forward).await?;
        Ok(!items.is_empty())
    }

    async fn not_pending(&self, stream: &StreamId, target: &SkipTarget) -> Result<Skipping, Error> {
        let is_it = |skip: &Skip| match target {
            SkipTarget::Version(version) => (skip.first..=skip.last.unwrap_or(skip.first)).contains(version),
            SkipTarget::Key(key) => skip.key.as_ref() == Some(key),
        };
        let skips = self.skips(REMEMBERED_SKIPS).await?;
        if let Some(skip) = skips.into_iter().find(|skip| skip.stream_id == *stream && is_it(skip)) {
            return Ok(Skipping::DoneBefore(skip));
        }
        let (entries, has_more) = self.entries(stream, NAMED_ENTRIES).await?;
        let pending = entries.iter().map(|entry| (entry.first, entry.last)).collect();
        Ok(Skipping::NotPending { pending, has_more })
    }

    fn record(&self, request: &SkipRequest, stream: &StreamId, first: u64, last: Option<u64>) -> Skip {
        let (by, reason) = (request.by.clone(), request.reason.clone());
        let at_ms = self.store.now_ms();
        Skip { stream_id: stream.clone(), first, last, key: None, gave_up_previous: None, at_ms, by, reason }
    }

    async fn remove(&self, skip: &Skip, id: Uuid) -> Result<(), SdkError<TransactWriteItemsError>> {
        let key = skip.key.clone().unwrap_or_else(|| schema::pending_key(skip.first));
        let entry = schema::key(skip.stream_id.as_str(), key);
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

/// What is known of the append before an entry that is to be skipped.
enum Before {
    /// Everything of it, or there is none.
    Published,
    /// Its entry is there, though the Query has not shown it.
    Pending(u64),
    /// Neither its event nor its entry is there.
    Missing(u64),
    /// Another transaction is under way on it.
    Busy,
}

impl Before {
    /// Why an entry can't be skipped; none where nothing is known.
    fn refuses(&self, entry: &Entry) -> Option<Skipping> {
        match *self {
            Self::Pending(previous) => Some(Skipping::NotFirst { first: (previous, None) }),
            Self::Missing(previous) => Some(Skipping::PreviousMissing { entry: (entry.first, entry.last), previous }),
            Self::Published | Self::Busy => None,
        }
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

/// The record. Its key begins with the time, so that the newest are found first; the id tells apart what falls into the
/// same millisecond.
fn skip_item(skip: &Skip, id: Uuid) -> Item {
    let mut item = schema::key(SKIPS_PARTITION, schema::skip_key(skip.at_ms, id));
    item.extend([
        (SKIPPED_STREAM.to_owned(), schema::text(skip.stream_id.as_str())),
        (SKIPPED_FIRST.to_owned(), schema::number(skip.first)),
        (SKIPPED_AT.to_owned(), schema::number(skip.at_ms)),
        (SKIPPED_BY.to_owned(), schema::text(&skip.by)),
        (SKIP_REASON.to_owned(), schema::text(&skip.reason)),
    ]);
    item.extend(skip.last.map(|last| (SKIPPED_LAST.to_owned(), schema::number(last))));
    item.extend(skip.key.as_ref().map(|key| (SKIPPED_KEY.to_owned(), schema::text(key))));
    item.extend(skip.gave_up_previous.map(|first| (GAVE_UP_PREVIOUS.to_owned(), schema::number(first))));
    item
}

fn read_skip(item: &Item) -> Skip {
    let text = |name| item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default();
    Skip {
        stream_id: StreamId::stored(&text(SKIPPED_STREAM)),
        first: read_number(item, SKIPPED_FIRST).unwrap_or_default(),
        last: read_number(item, SKIPPED_LAST),
        key: item.contains_key(SKIPPED_KEY).then(|| text(SKIPPED_KEY)),
        gave_up_previous: read_number(item, GAVE_UP_PREVIOUS),
        at_ms: read_number(item, SKIPPED_AT).unwrap_or_default(),
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
    let versions = first..first.saturating_add(MAX_EVENTS_PER_APPEND as u64);
    let last = read_number(item, LAST_VERSION).filter(|last| versions.contains(last));
    // Nothing can be proved of an append that can't be one before.
    let previous = read_number(item, PREVIOUS_FIRST).filter(|previous| (1..first).contains(previous));
    Some(Entry { first, last, previous })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::arbitrary;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let stream_id = StreamId::new("order-1").unwrap();
        let (by, reason) = ("ada@desk".to_owned(), "a test order".to_owned());
        let (key, gave_up_previous) = (None, Some(1));
        let at_ms = 1_780_000_000_000;
        let skip = Skip { stream_id, first: 3, last: Some(5), key, gave_up_previous, at_ms, by, reason };
        let item = skip_item(&skip, Uuid::from_u128(1));
        assert_eq!(read_skip(&item), skip);
        let key = item[ENTITY].as_s().unwrap();
        assert_eq!(key, "skip#00000001780000000000#00000000-0000-0000-0000-000000000001");
        let unreadable = Skip { last: None, gave_up_previous: None, ..skip };
        assert_eq!(read_skip(&skip_item(&unreadable, Uuid::nil())), unreadable);
        let without_version = Skip { first: 0, key: Some("pending#abc".to_owned()), ..unreadable };
        assert_eq!(read_skip(&skip_item(&without_version, Uuid::nil())), without_version);
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
        whole.insert(LAST_VERSION.to_owned(), schema::number(u64::MAX));
        assert_eq!(read(&whole), Some((3, None, Some(2))), "so is more than an append can have");
        whole.insert(PREVIOUS_FIRST.to_owned(), schema::number(3));
        assert_eq!(read(&whole), Some((3, None, None)), "it is not before itself");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_pending_can_be_looked_at(
            item in arbitrary::damaged(schema::key("order-1", schema::pending_key(3)), PENDING_PREFIX)
        ) {
            if let Some(entry) = read_entry(&item) {
                let versions = entry.first..entry.first + MAX_EVENTS_PER_APPEND as u64;
                assert!(entry.last.is_none_or(|last| versions.contains(&last)));
                assert!(entry.previous.is_none_or(|previous| previous < entry.first));
            }
            read_skip(&item);
        }
    }

    #[test]
    fn an_entry_is_named_by_a_version_or_by_its_sort_key() {
        let target = |text: &str| text.parse::<SkipTarget>().map_err(|error| error.to_string());
        assert_eq!(target("7"), Ok(SkipTarget::Version(7)));
        assert_eq!(target("pending#00000000000000000007"), Ok(SkipTarget::Version(7)));
        for key in ["pending#abc", "pending#7", "pending#+0000000000000000007", "pending#00000000000000000000"] {
            assert_eq!(target(key), Ok(SkipTarget::Key(key.to_owned())));
        }
        for wrong in ["0", "+7", "-1", "", "abc", "event#00000000000000000007", "snapshot"] {
            assert!(target(wrong).unwrap_err().contains("`pending#…`"), "{wrong}");
        }
    }
}
