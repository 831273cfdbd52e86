//! The one request that reads a stream: a strongly consistent `Query`, over a range of versions or over everything.

use std::{collections::BTreeMap, ops::RangeInclusive};

use aws_sdk_dynamodb::{error::SdkError, operation::query::builders::QueryFluentBuilder};
use futures_util::FutureExt as _;

use super::{
    Direction,
    answer::{Answer, AnswerReader},
    gap::GapWatch,
    page_size::PageSize,
};
use crate::{
    error::Error,
    observe::count,
    schema::{self, Fields, Item},
    stream::StreamId,
    table::{SortKeys, Table},
};

/// One page of at most 1 MB.
pub(super) struct Page {
    pub(super) items: Vec<Fields>,
    /// Whether there is nothing behind it in the range.
    pub(super) is_last: bool,
    pub(super) read_units: f64,
}

/// The events of `stream` with these versions.
pub(super) fn events(table: &Table, stream: &StreamId, versions: RangeInclusive<u64>) -> QueryFluentBuilder {
    let keys = schema::event_key(*versions.start())..=schema::event_key(*versions.end());
    table.query(stream.as_str(), SortKeys::Between(keys))
}

/// The next page of a range, at most `limit` events of it.
pub(super) async fn page(
    table: &Table,
    stream: &StreamId,
    versions: RangeInclusive<u64>,
    direction: Direction,
    limit: Option<u64>,
    size: &mut PageSize,
) -> Result<Page, Error> {
    let request = events(table, stream, versions).scan_index_forward(direction == Direction::Forward);
    let mut reader = Some(AnswerReader::default());
    let answer = loop {
        count::request();
        let request = request.clone().set_limit(size.limit(limit));
        let sent = match &reader {
            Some(reader) => request.customize().interceptor(reader.clone()).send().boxed().await,
            None => request.send().boxed().await,
        };
        match sent {
            // The time in all is over, and the connection was not silent: it is slow.
            Err(SdkError::TimeoutError(_)) if size.shrink() => {}
            Ok(output) => match reader.take() {
                None => break Ok(Answer::of(output)),
                Some(reader) => {
                    if let Some(answer) = reader.take(output) {
                        break Ok(answer);
                    }
                }
            },
            Err(error) => break Err(error),
        }
    };
    let answer = answer.map_err(|error| table.request("read", stream.as_str()).failed(error))?;
    size.grow();
    let (read_units, is_last) = (answer.read_units(), answer.is_last());
    count::read(read_units, answer.items.len());
    Ok(Page { items: answer.items, is_last, read_units })
}

/// A page of everything that a stream has, behind the entity `after`: its items, the key to continue behind, read units.
pub(crate) async fn partition_page(
    table: &Table,
    stream: &StreamId,
    after: Option<&str>,
) -> Result<(Vec<Item>, Option<Item>, f64), Error> {
    let output = table
        .query(stream.as_str(), SortKeys::All)
        .set_exclusive_start_key(after.map(|entity| schema::key(stream.as_str(), entity.to_owned())))
        .send()
        .boxed()
        .await
        .map_err(|error| table.request("read", stream.as_str()).failed(error))?;
    let read_units = output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
    let key = output.last_evaluated_key.filter(|key| !key.is_empty());
    Ok((output.items.unwrap_or_default(), key, read_units))
}

/// The event items of a range by their versions, and the read units. Reads again until all are visible: what is missing after the
/// last attempt is missing for good.
pub(crate) async fn visible_events(
    table: &Table,
    stream: &StreamId,
    versions: RangeInclusive<u64>,
) -> Result<(BTreeMap<u64, Fields>, f64), Error> {
    let expected = versions.end() - versions.start() + 1;
    let mut watch = GapWatch::new();
    let mut found = BTreeMap::new();
    let mut units = 0.0;
    let mut size = PageSize::default();
    loop {
        let mut next = *versions.start();
        while next <= *versions.end() {
            let Page { items, is_last, read_units } =
                page(table, stream, next..=*versions.end(), Direction::Forward, None, &mut size).await?;
            units += read_units;
            let by_version = |item: Fields| Some((schema::event_version(&item.entity)?, item));
            found.extend(items.into_iter().filter_map(by_version));
            match found.last_key_value() {
                // A page of nothing but keys that are none ends the reading: what is behind it counts as missing.
                Some((last, _)) if !is_last && *last >= next => next = last + 1,
                _ => break,
            }
        }
        if found.len() as u64 == expected || watch.wait(stream, next).await.is_err() {
            return Ok((found, units));
        }
    }
}
