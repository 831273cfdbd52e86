//! What is parked, and what of it is due.

use aws_sdk_dynamodb::{
    operation::query::builders::QueryFluentBuilder,
    types::{ReturnConsumedCapacity, Select},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use streambox::{Error, StreamId};

use super::{
    Inbox,
    schema::{self, ATTEMPTS, CONSUMER, Fields, LATEST_VERSION, PARKED_INDEX, PARKED_SINCE, REASON, RETRY_AT},
};
use crate::Position;

/// How many items are read at the same time.
const CONCURRENT_READS: usize = 8;

/// A stream that waits until an event can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedStream {
    /// The stream.
    pub stream_id: StreamId,
    /// How far it is applied.
    pub position: Position,
    /// Since when: milliseconds since the Unix epoch, by the clock of who parked it.
    pub parked_since_ms: i64,
    /// When it is tried again: milliseconds since the Unix epoch.
    pub retry_at_ms: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: String,
    /// The highest version of which a message may have been acknowledged.
    pub latest_version: u64,
}

impl ParkedStream {
    pub(super) fn read(stream: &StreamId, position: Position, fields: &Fields<'_>) -> Result<Option<Self>, Error> {
        if !fields.has(LATEST_VERSION) && !fields.has(RETRY_AT) {
            return Ok(None);
        }
        let read = || {
            Ok(Self {
                stream_id: stream.clone(),
                position,
                parked_since_ms: fields.number(PARKED_SINCE)?,
                retry_at_ms: fields.number(RETRY_AT)?,
                attempts: fields.number(ATTEMPTS)?,
                reason: fields.text(REASON)?,
                latest_version: fields.number(LATEST_VERSION)?,
            })
        };
        read().map(Some).map_err(|corrupt: streambox::Corrupt| corrupt.into())
    }
}

/// A parked stream whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DueStream {
    /// The stream.
    pub stream_id: StreamId,
    /// Since when it is due: what [`Inbox::claim`] needs.
    pub retry_at_ms: i64,
}

/// Parked streams.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedStreams {
    /// The streams, in the order in which they are tried again.
    pub streams: Vec<ParkedStream>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Inbox {
    /// The parked streams whose time has come, the first due first, at most `limit`.
    ///
    /// One request to the index, eventually consistent: half a read unit for each 4 KB, which are some 40 streams; half a unit if there
    /// are none. It may show what was claimed a moment ago, which [`claim`](Self::claim) then refuses.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn due(&self, now_ms: i64, limit: u16) -> Result<Vec<DueStream>, Error> {
        let mut request = self.request("find what is due", &self.key);
        request.count_attempt();
        let query = self
            .query_parked()
            .key_condition_expression(format!("{CONSUMER} = :consumer AND {RETRY_AT} <= :now"))
            .expression_attribute_values(":now", schema::number(now_ms))
            .limit(i32::from(limit.max(1)));
        let output = query.send().await.map_err(|error| request.failed(error))?;
        let due = output.items().iter().map(|item| {
            let stream_id = schema::read_stream(item);
            let retry_at_ms = Fields::new(&stream_id, item).number(RETRY_AT)?;
            Ok(DueStream { stream_id, retry_at_ms })
        });
        due.collect::<Result<_, streambox::Corrupt>>().map_err(Error::from)
    }

    /// What is parked, in the order in which it is tried again, at most `limit` streams.
    ///
    /// Half a read unit of the index for each 4 KB of keys, and one of the table for each stream.
    ///
    /// # Errors
    /// As [`position`](Self::position).
    pub async fn parked(&self, limit: u16) -> Result<ParkedStreams, Error> {
        let mut request = self.request("find what is parked", &self.key);
        request.count_attempt();
        let query = self
            .query_parked()
            .key_condition_expression(format!("{CONSUMER} = :consumer"))
            .limit(i32::from(limit.max(1)));
        let output = query.send().await.map_err(|error| request.failed(error))?;
        let has_more = output.last_evaluated_key().is_some_and(|key| !key.is_empty());
        let ids: Vec<_> = output.items().iter().map(schema::read_stream).collect();
        let reads = ids.iter().map(|stream| self.parked_stream(stream));
        let found: Vec<_> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
        // What is not parked any more was so a moment ago.
        Ok(ParkedStreams { streams: found.into_iter().flatten().collect(), has_more })
    }

    /// How many streams are parked. Half a read unit of the index for each 4 KB of keys, in requests of 1 MB.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn count_parked(&self) -> Result<u64, Error> {
        let (mut from, mut count) = (None, 0);
        loop {
            let mut request = self.request("count what is parked", &self.key);
            request.count_attempt();
            let page = self
                .query_parked()
                .key_condition_expression(format!("{CONSUMER} = :consumer"))
                .select(Select::Count)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| request.failed(error))?;
            count += u64::from(page.count().unsigned_abs());
            match page.last_evaluated_key {
                Some(key) if !key.is_empty() => from = Some(key),
                _ => return Ok(count),
            }
        }
    }

    fn query_parked(&self) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&*self.table)
            .index_name(PARKED_INDEX)
            .expression_attribute_values(":consumer", schema::text(&self.key))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }
}
