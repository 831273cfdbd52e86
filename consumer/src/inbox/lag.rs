//! How far a consumer is behind the events, by stream and in all.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use streambox::{Error, EventStore, ScanOptions, StreamId, StreamSummary};

use super::{
    Inbox,
    schema::{self, Fields},
    write::Delays,
};
use crate::Position;

/// How many positions one request reads: what `BatchGetItem` takes.
const BATCH: usize = 100;

/// How often what DynamoDB left out of an answer is asked for again.
const BATCH_ATTEMPTS: u32 = 8;

/// How many events are read at the same time.
const CONCURRENT_READS: usize = 8;

/// How far a consumer is behind, in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// How many streams have public events.
    pub streams: u64,
    /// How many of them are behind.
    pub streams_behind: u64,
    /// By how many versions, in all: at most as many events, since private events are versions, too.
    pub versions_behind: u64,
    /// When the last public event of the stream was recorded that has waited longest for its end: milliseconds since the Unix epoch, by
    /// the appender's clock. None if no stream is behind.
    pub oldest_recorded_at_ms: Option<i64>,
    /// How many streams could not be read: [`EventStore::verify`] names them.
    pub unreadable_streams: u64,
    /// The streams that are furthest behind, the furthest first.
    pub furthest: Vec<StreamLag>,
}

/// How far a consumer is behind in one stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StreamLag {
    /// By how many versions.
    pub versions_behind: u64,
    /// The stream.
    pub stream_id: StreamId,
    /// The version of its last public event.
    pub last_public_version: u64,
    /// When that was recorded: milliseconds since the Unix epoch, by the appender's clock.
    pub last_recorded_at_ms: i64,
    /// The version of the last event whose effect is stored.
    pub applied_version: u64,
}

impl Inbox {
    /// Compares the last public version of each stream of some categories (of all, if none is named) with its position. `most`: how many
    /// streams are listed at most. It is not a picture of one moment.
    ///
    /// Costs a scan of the events table, eventually consistent (half a read unit for each 4 KB of the table, whatever the categories are), half a
    /// read unit for the position of each stream, and one for each stream whose newest event is not applied. Memory is bounded by `most`.
    ///
    /// # Errors
    /// As [`EventStore::scan_streams`]; [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers for the inbox; [`Error::Corrupt`]: a
    /// position is not one that an inbox writes.
    pub async fn lag(&self, store: &EventStore, categories: &BTreeSet<String>, most: usize) -> Result<Lag, Error> {
        let options = ScanOptions::new().eventually_consistent();
        // DynamoDB leaves out what is not of one category; of several, this does.
        let options = match categories.first() {
            Some(only) if categories.len() == 1 => options.category(only),
            _ => options,
        };
        let is_wanted = |stream: &StreamId| categories.is_empty() || categories.contains(stream.category());
        let (mut lag, mut furthest) = (Lag::default(), BinaryHeap::new());
        let mut scan = store.scan_streams(&options)?;
        let (mut batch, mut is_end) = (Vec::with_capacity(BATCH), false);
        while !is_end {
            match scan.next().await {
                Some(Ok(summary)) if is_wanted(&summary.stream_id) => batch.push(summary),
                Some(Err(Error::Corrupt(corrupt))) => lag.unreadable_streams += u64::from(is_wanted(&corrupt.stream)),
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) => {}
                None => is_end = true,
            }
            if batch.len() < BATCH && !is_end {
                continue;
            }
            for behind in self.compare(store, std::mem::take(&mut batch), &mut lag).await? {
                lag.streams_behind += 1;
                lag.versions_behind += behind.versions_behind;
                let oldest = lag.oldest_recorded_at_ms.unwrap_or(i64::MAX);
                lag.oldest_recorded_at_ms = Some(oldest.min(behind.last_recorded_at_ms));
                furthest.push(Reverse(behind));
                if furthest.len() > most {
                    furthest.pop();
                }
            }
        }
        lag.furthest = furthest.into_sorted_vec().into_iter().map(|Reverse(behind)| behind).collect();
        Ok(lag)
    }

    /// Counts some streams, and returns those that are behind.
    async fn compare(
        &self,
        store: &EventStore,
        streams: Vec<StreamSummary>,
        lag: &mut Lag,
    ) -> Result<Vec<StreamLag>, Error> {
        let ids: Vec<_> = streams.iter().map(|summary| &summary.stream_id).collect();
        let positions = self.positions(&ids).await?;
        let applied = |stream: &StreamId| positions.get(stream).map_or(0, |position| position.version);
        let (done, ahead): (Vec<_>, Vec<_>) =
            streams.into_iter().partition(|summary| summary.version <= applied(&summary.stream_id));
        lag.streams += done.len() as u64;
        let last = |summary: StreamSummary| async move {
            // The newest event may be private.
            match store.event(&summary.stream_id, summary.version).await {
                Ok(event) => Ok(event.and_then(|event| event.last_public_version()).map(|last| (summary, Some(last)))),
                Err(Error::Corrupt(_)) => Ok(Some((summary, None))),
                Err(error) => Err(error),
            }
        };
        let found: Vec<_> =
            stream::iter(ahead).map(last).buffer_unordered(CONCURRENT_READS).try_collect::<Vec<_>>().await?;
        let mut behind = Vec::new();
        for (summary, last) in found.into_iter().flatten() {
            let Some(last_public_version) = last else {
                lag.unreadable_streams += 1;
                continue;
            };
            lag.streams += 1;
            let applied_version = applied(&summary.stream_id);
            if last_public_version > applied_version {
                behind.push(StreamLag {
                    versions_behind: last_public_version - applied_version,
                    stream_id: summary.stream_id,
                    last_public_version,
                    last_recorded_at_ms: summary.last_recorded_at_ms,
                    applied_version,
                });
            }
        }
        Ok(behind)
    }

    /// The positions of at most 100 streams, eventually consistent: half a read unit for each. One that is absent has version 0.
    async fn positions(&self, streams: &[&StreamId]) -> Result<HashMap<StreamId, Position>, Error> {
        let mut positions = HashMap::with_capacity(streams.len());
        let mut keys: Vec<_> = streams.iter().map(|stream| self.position_key(stream)).collect();
        let mut request = self.request("read positions", &self.key);
        let mut delays = Delays::of_writes();
        for _ in 0..BATCH_ATTEMPTS {
            if keys.is_empty() {
                return Ok(positions);
            }
            request.count_attempt();
            let asked = KeysAndAttributes::builder().set_keys(Some(std::mem::take(&mut keys))).build();
            let output = self
                .client
                .batch_get_item()
                .request_items(&*self.table, asked.expect("a request has keys"))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| request.failed(error))?;
            for item in output.responses.unwrap_or_default().into_values().flatten() {
                let stream = schema::read_stream(&item);
                let position = Fields::new(&stream, &item).position()?;
                positions.insert(stream, position);
            }
            keys = output.unprocessed_keys.unwrap_or_default().into_values().flat_map(|left| left.keys).collect();
            if !keys.is_empty() {
                delays.wait().await;
            }
        }
        Err(request.unavailable(false, "DynamoDB has no capacity for all of the positions"))
    }
}
