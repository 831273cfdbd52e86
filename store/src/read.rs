//! Load: a stream's events in order, strongly consistent, paged to the end, whole.
//!
//! A `Query` is not isolated from a transaction: it may see an append item by item while that is being committed. So each
//! page is checked for gaps, and the end for half an append; what is missing is read again, and if it does not turn up,
//! reported. Reading goes on by version and not by DynamoDB's page key, which makes "read again" the same as "read on".

use std::time::Duration;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use crate::{
    EventStore,
    append::position_at,
    error::{Corrupt, Error},
    event::RecordedEvent,
    failure::Attempts,
    retry::Delays,
    schema::{self, ENTITY, Item, STREAM_ID},
    stream::{StreamId, StreamPosition},
};

/// How often a place is read where an event is missing before the stream is reported as damaged. With the delays between
/// them about two seconds: far longer than a transaction takes to become visible.
pub const GAP_READ_ATTEMPTS: u32 = 7;

const FIRST_GAP_DELAY: Duration = Duration::from_millis(20);
const LONGEST_GAP_DELAY: Duration = Duration::from_secs(1);

/// A stream as it is: all its events, and the position behind them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// The events, from version 1 on.
    pub events: Vec<RecordedEvent>,
    /// Where the stream is; an append `At` it needs no further read.
    pub position: StreamPosition,
    /// The capacity units that the load consumed.
    pub read_units: f64,
}

/// Reads a stream forward, page by page, each page at most 1 MB. See [`EventStore::reader`].
#[derive(Debug)]
pub struct EventReader {
    store: EventStore,
    /// Where the stream was when the reader was last there.
    position: StreamPosition,
    /// The last version to read, even where the stream goes on.
    to: u64,
    /// Whether the stream is known to go as far as `to`, so that an earlier end is a gap.
    reaches_to: bool,
    done: bool,
    read_units: f64,
}

impl EventReader {
    pub(crate) fn new(store: EventStore, position: StreamPosition) -> Self {
        Self { store, position, to: u64::MAX, reaches_to: false, done: false, read_units: 0.0 }
    }

    /// Stops behind version `to`, even where that is in the middle of an append. Fewer events are consumed, and paid for.
    #[must_use]
    pub fn up_to(mut self, to: u64) -> Self {
        self.to = to;
        self.done = self.position.version() >= self.to;
        self
    }

    /// Stops behind version `to`, which is known to exist.
    pub(crate) fn reaching(self, to: u64) -> Self {
        Self { reaches_to: true, ..self.up_to(to) }
    }

    /// The position behind the events read so far.
    #[must_use]
    pub fn position(&self) -> &StreamPosition {
        &self.position
    }

    /// The capacity units consumed so far.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.read_units
    }

    /// The next events in order, or `None` at the end. A page is never empty and has no gap, neither inside nor to the page
    /// before; the end is never in the middle of an append.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where an event is missing or unreadable, [`Error::Unavailable`] and [`Error::Setup`] as DynamoDB
    /// answers. The reader can be asked again after an error; it goes on where it was.
    pub async fn next_page(&mut self) -> Result<Option<Vec<RecordedEvent>>, Error> {
        let mut delays = Delays::new(FIRST_GAP_DELAY, LONGEST_GAP_DELAY);
        let mut attempt = 1;
        while !self.done {
            let next = self.position.version() + 1;
            let page = self.query(next).await?;
            let checked = check_page(page.items, next, page.is_last.then_some(self.to))?;
            let ends_early = self.reaches_to && page.is_last && checked.events.is_empty();
            let missing = checked.missing.or(ends_early.then_some(next));
            if let Some(last) = checked.events.last() {
                self.position = position_at(last);
                self.done = last.version >= self.to || (page.is_last && missing.is_none() && !self.reaches_to);
                return Ok(Some(checked.events));
            }
            let Some(missing) = missing else {
                self.done = page.is_last;
                continue;
            };
            if attempt == GAP_READ_ATTEMPTS {
                let at = format!("version {missing}");
                let what = "the event is missing: the events around it are of appends that have written it".to_owned();
                return Err(Corrupt { stream: self.position.stream().clone(), at, what }.into());
            }
            attempt += 1;
            delays.wait().await;
        }
        Ok(None)
    }

    async fn query(&mut self, from: u64) -> Result<Page, Error> {
        let attempts = Attempts { made: 1, ..Attempts::of("read", self.position.stream().as_str()) };
        let output = self
            .store
            .client()
            .query()
            .table_name(self.store.table())
            .consistent_read(true)
            .key_condition_expression(format!("{STREAM_ID} = :stream AND {ENTITY} BETWEEN :from AND :to"))
            .expression_attribute_values(":stream", schema::text(self.position.stream().as_str()))
            .expression_attribute_values(":from", schema::text(schema::event_key(from)))
            .expression_attribute_values(":to", schema::text(schema::event_key(self.to)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| attempts.failed(error))?;
        self.read_units += output.consumed_capacity().and_then(|used| used.capacity_units).unwrap_or_default();
        let is_last = output.last_evaluated_key().is_none_or(Item::is_empty);
        Ok(Page { items: output.items.unwrap_or_default(), is_last })
    }
}

struct Page {
    items: Vec<Item>,
    is_last: bool,
}

/// The part of a page that can be handed out, and the version that is missing behind it.
#[derive(Debug, PartialEq)]
struct CheckedPage {
    events: Vec<RecordedEvent>,
    missing: Option<u64>,
}

/// Takes the events up to the first that is missing. `end`: there is nothing behind this page up to that version, so that
/// its last append must be there as far.
fn check_page(items: Vec<Item>, next: u64, end: Option<u64>) -> Result<CheckedPage, Corrupt> {
    let mut events = Vec::with_capacity(items.len());
    let mut missing = None;
    for (item, expected) in items.into_iter().zip(next..) {
        let event = schema::read_event(item)?;
        if event.version != expected {
            missing = Some(expected);
            break;
        }
        events.push(event);
    }
    if let (None, Some(last), Some(to)) = (missing, events.last(), end)
        && last.version < last.append.last.min(to)
    {
        missing = Some(last.version + 1);
    }
    if let Some(missing) = missing {
        // An append is seen entire or not at all: what there is of it waits for the rest.
        events.retain(|event| event.append.last < missing);
    }
    Ok(CheckedPage { events, missing })
}

/// The newest event, if there is one: one request, read units by its size.
pub(crate) async fn last_event(store: &EventStore, stream: &StreamId) -> Result<Option<RecordedEvent>, Error> {
    let attempts = Attempts { made: 1, ..Attempts::of("read the end", stream.as_str()) };
    let output = store
        .client()
        .query()
        .table_name(store.table())
        .consistent_read(true)
        .scan_index_forward(false)
        .limit(1)
        .key_condition_expression(format!("{STREAM_ID} = :stream AND {ENTITY} BETWEEN :from AND :to"))
        .expression_attribute_values(":stream", schema::text(stream.as_str()))
        .expression_attribute_values(":from", schema::text(schema::event_key(1)))
        .expression_attribute_values(":to", schema::text(schema::event_key(u64::MAX)))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .map_err(|error| attempts.failed(error))?;
    let newest = output.items.unwrap_or_default().into_iter().next();
    Ok(newest.map(schema::read_event).transpose()?)
}

/// The event at one version, strongly consistent.
pub(crate) async fn event_at(
    store: &EventStore,
    stream: &StreamId,
    version: u64,
) -> Result<Option<RecordedEvent>, Error> {
    let attempts = Attempts { made: 1, ..Attempts::of("read", stream.as_str()) };
    let output = store
        .client()
        .get_item()
        .table_name(store.table())
        .set_key(Some(schema::key(stream.as_str(), schema::event_key(version))))
        .consistent_read(true)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .map_err(|error| attempts.failed(error))?;
    Ok(output.item.map(schema::read_event).transpose()?)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        event::{AppendRange, NewEvent},
        schema::Recording,
    };

    /// Events of the appends 1–2, 3 and 4–6.
    fn page(versions: &[u64]) -> Vec<Item> {
        let stream = StreamId::new("order-1").unwrap();
        let new = NewEvent::from_json_text("Placed", "{}").unwrap();
        let item = |&version: &u64| {
            let (first, last) = [(1, 2), (3, 3), (4, 6)].into_iter().find(|range| version <= range.1).unwrap();
            let range = AppendRange { id: Uuid::from_u128(first.into()), first, last };
            let event = Recording { stream: &stream, version, event_id: Uuid::from_u128(9), new: &new };
            schema::event_item(&event, &range, 1, None)
        };
        versions.iter().map(item).collect()
    }

    fn checked(versions: &[u64], next: u64, end: Option<u64>) -> (Vec<u64>, Option<u64>) {
        let checked = check_page(page(versions), next, end).unwrap();
        (checked.events.iter().map(|event| event.version).collect(), checked.missing)
    }

    #[test]
    fn a_whole_page_is_handed_out_entire() {
        assert_eq!(checked(&[1, 2, 3, 4, 5, 6], 1, Some(u64::MAX)), (vec![1, 2, 3, 4, 5, 6], None));
        assert_eq!(checked(&[], 1, Some(u64::MAX)), (vec![], None));
    }

    #[test]
    fn a_page_ends_before_a_gap() {
        assert_eq!(checked(&[1, 2, 4, 5, 6], 1, Some(u64::MAX)), (vec![1, 2], Some(3)));
        assert_eq!(checked(&[4, 5, 6], 3, Some(u64::MAX)), (vec![], Some(3)));
    }

    #[test]
    fn half_an_append_is_held_back_at_a_gap() {
        assert_eq!(checked(&[1, 2, 3, 4, 6], 1, Some(u64::MAX)), (vec![1, 2, 3], Some(5)));
        assert_eq!(checked(&[3, 4, 6], 3, None), (vec![3], Some(5)));
    }

    #[test]
    fn half_an_append_is_held_back_at_the_end_of_the_stream_but_not_of_a_page() {
        assert_eq!(checked(&[3, 4, 5], 3, Some(u64::MAX)), (vec![3], Some(6)));
        assert_eq!(checked(&[4, 5], 4, Some(u64::MAX)), (vec![], Some(6)));
        assert_eq!(checked(&[3, 4, 5], 3, None), (vec![3, 4, 5], None));
        assert_eq!(checked(&[3, 4, 5], 3, Some(5)), (vec![3, 4, 5], None));
    }
}
