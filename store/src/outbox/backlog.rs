//! How much is pending: the index, counted.

use super::Outbox;
use crate::{
    error::Error,
    schema::{self, OUTBOX_INDEX, PENDING_SINCE},
    stream::StreamId,
};

/// Most keys in one page: about 100 KB.
const PAGE_ENTRIES: u64 = 1_000;

/// What the index shows at one moment. It lags a little behind the table.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PendingCount {
    /// Pending entries.
    pub entries: u64,
    /// Streams that have any.
    pub streams: u64,
    /// The stream of the oldest entry.
    pub oldest_stream: Option<StreamId>,
    /// When the oldest entry's events were recorded, by their appender's clock: milliseconds since the Unix epoch.
    pub oldest_since_ms: Option<i64>,
    /// Whether the index was read to its end. If not, there may be more, and older ones.
    pub is_whole: bool,
    /// The capacity units that the count has consumed.
    pub read_units: f64,
}

impl Outbox {
    /// Counts the pending entries, at most `max_entries`: half a read unit for each 4 KB of the index, about 13 units for
    /// 1,000 entries. Eventually consistent.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn count_pending(&self, max_entries: u64) -> Result<PendingCount, Error> {
        let mut operation = self.table.operation("count the outbox", self.table.name());
        let scan = self.table.scan().index_name(OUTBOX_INDEX);
        let (mut count, mut last, mut from) = (PendingCount::default(), None, None);
        while count.entries < max_entries {
            operation.attempts += 1;
            let limit = i32::try_from((max_entries - count.entries).min(PAGE_ENTRIES)).unwrap_or(i32::MAX);
            let page = scan.clone().limit(limit).set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| operation.failed(error))?;
            count.read_units += page.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
            for item in page.items() {
                let stream = schema::read_stream_id(item);
                let since = schema::read_number(item, PENDING_SINCE);
                count.take(&stream, since, last.as_ref() != Some(&stream));
                last = Some(stream);
            }
            from = page.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                count.is_whole = true;
                break;
            }
        }
        Ok(count)
    }
}

impl PendingCount {
    /// All entries of a stream stand next to each other in the index.
    fn take(&mut self, stream: &StreamId, since_ms: Option<i64>, is_new_stream: bool) {
        self.entries += 1;
        self.streams += u64::from(is_new_stream);
        if let Some(since_ms) = since_ms
            && self.oldest_since_ms.is_none_or(|oldest| since_ms < oldest)
        {
            self.oldest_since_ms = Some(since_ms);
            self.oldest_stream = Some(stream.clone());
        }
    }
}
