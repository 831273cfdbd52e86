//! Append: the events and their pending entry in one `TransactWriteItems`.
//!
//! Prepare the items (pure), send them until DynamoDB has decided, translate the decision (pure). The condition on each
//! item is that it does not exist yet. Where that fails, the item that DynamoDB returns tells whose it is: the same append
//! id at the same place means that this very append was stored before, anything else means that another writer has the
//! place. Since an event never changes, either answer holds for ever.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata as _, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    EventStore,
    error::{Conflict, Corrupt, Error, Invalid},
    event::{AppendRange, NewEvent, RecordedEvent, event_id},
    failure::{Attempts, Verdict, judge},
    limits::{MAX_EVENTS_PER_APPEND, MAX_ITEM_BYTES, MAX_SHORT_STRING_BYTES, MAX_TRANSACTION_BYTES, item_bytes},
    outbox::Previous,
    retry::Delays,
    schema::{self, ENTITY, Item, Recording},
    stream::{ExpectedVersion, StreamId, StreamPosition},
};

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// What an append has done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// The append's id.
    pub append_id: Uuid,
    /// The version of its first event.
    pub first_version: u64,
    /// Where the stream is now; the next append `At` this position needs no read.
    pub position: StreamPosition,
    /// When the events were recorded: milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
    /// Whether the very same append had been stored before; then this repeats the first result.
    pub already_stored: bool,
    /// The capacity units that the write consumed; 0 where nothing was written by this call.
    pub write_units: f64,
}

/// One call of append, checked as far as it can be without knowing the place.
struct Call<'a> {
    store: &'a EventStore,
    append_id: Uuid,
    stream: &'a StreamId,
    expected: &'a ExpectedVersion,
    events: &'a [NewEvent],
    deadline: Instant,
    attempts: Attempts<'a>,
    /// Whether a write may have been done whose answer is missing.
    outcome_unknown: bool,
}

/// What DynamoDB has decided about one place.
enum Decision {
    Stored { recorded_at_ms: i64, write_units: f64 },
    StoredBefore(Box<RecordedEvent>),
    Taken,
}

pub(crate) async fn append(
    store: &EventStore,
    append_id: Uuid,
    stream: &StreamId,
    expected: &ExpectedVersion,
    events: &[NewEvent],
) -> Result<Appended, Error> {
    check(append_id, stream, expected, events)?;
    let call = Call {
        store,
        append_id,
        stream,
        expected,
        events,
        deadline: Instant::now() + store.operation_timeout(),
        attempts: Attempts::of("append", stream.as_str()),
        outcome_unknown: false,
    };
    call.run().await
}

impl Call<'_> {
    async fn run(mut self) -> Result<Appended, Error> {
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let at = match self.place().await? {
                Place::At(position) => position,
                Place::StoredBefore(event) => {
                    return Ok(self.stored_before(&event));
                }
            };
            match self.send_until_decided(&at).await? {
                Decision::Stored { recorded_at_ms, write_units } => {
                    return Ok(self.stored(&at, recorded_at_ms, write_units));
                }
                Decision::StoredBefore(event) => return Ok(self.stored_before(&event)),
                Decision::Taken if *self.expected == ExpectedVersion::Any => {
                    // Nothing of ours is there, and the place is taken for ever.
                    self.outcome_unknown = false;
                    self.wait(&mut delays, "another writer was quicker each time").await?;
                }
                Decision::Taken => {
                    let current = self.end().await?.map_or_else(|| at.clone(), |end| position_after(&end));
                    return Err(self.conflict(current));
                }
            }
        }
    }

    /// Where the events go, by what the caller expects.
    async fn place(&mut self) -> Result<Place, Error> {
        let start = || StreamPosition::start(self.stream.clone());
        match self.expected {
            ExpectedVersion::At(position) => Ok(Place::At(position.clone())),
            ExpectedVersion::NoStream | ExpectedVersion::Exact(0) => Ok(Place::At(start())),
            ExpectedVersion::Any => match self.end().await? {
                Some(end) if end.append.id == self.append_id => Ok(Place::StoredBefore(Box::new(end))),
                end => Ok(Place::At(end.as_ref().map_or_else(start, position_after))),
            },
            ExpectedVersion::Exact(expected) => {
                let end = self.end().await?;
                let current = end.as_ref().map_or_else(start, position_after);
                if current.version() == *expected {
                    return Ok(Place::At(current));
                }
                // A repeat of an append that has been stored finds the stream behind the version that it expects.
                if current.version() > *expected {
                    let next = self.event(*expected + 1).await?;
                    if next.append.id == self.append_id && next.append.first == *expected + 1 {
                        return Ok(Place::StoredBefore(Box::new(next)));
                    }
                }
                Err(self.conflict(current))
            }
        }
    }

    /// Sends one and the same request, with one token, until DynamoDB has stored or refused it.
    async fn send_until_decided(&mut self, at: &StreamPosition) -> Result<Decision, Error> {
        let recorded_at_ms = self.store.now_ms();
        let items = transact_items(self.store.table(), self.prepare(at, recorded_at_ms));
        let token = Uuid::new_v4().to_string();
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            self.attempts.made += 1;
            let request = self
                .store
                .client()
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            let error = match timeout_at(self.deadline, request).await {
                Err(elapsed) => return Err(self.attempts.unavailable(true, elapsed)),
                Ok(Ok(output)) => {
                    let write_units = output.consumed_capacity().iter().filter_map(|used| used.capacity_units).sum();
                    return Ok(Decision::Stored { recorded_at_ms, write_units });
                }
                Ok(Err(error)) => error,
            };
            if let Some(reasons) = cancellation_reasons(&error) {
                match judge_cancellation(reasons, self.events.len()) {
                    Cancelled::Exists { place, item } => return self.whose(at, place, item).await,
                    Cancelled::Again => {}
                    Cancelled::Refused(why) => {
                        let advice = format!("DynamoDB refuses the transaction: {why}");
                        return Err(self.attempts.setup(advice, error));
                    }
                }
            } else {
                match judge(&error) {
                    Verdict::Again => self.outcome_unknown |= !is_refusal(&error),
                    Verdict::Mend(advice) => return Err(self.attempts.setup(advice, error)),
                }
            }
            tracing::debug!(stream = %self.stream, attempt = self.attempts.made, error = ?error.code(), "append is tried again");
            self.wait(&mut delays, error).await?;
        }
    }

    /// Decides whose the item is that stands where one of ours should go.
    async fn whose(&mut self, at: &StreamPosition, place: usize, item: Option<Item>) -> Result<Decision, Error> {
        let first = at.version() + 1;
        if place >= self.events.len() {
            let at = schema::pending_key(first);
            return Err(self.corrupt(at, "a pending entry without its event").into());
        }
        let found = match item {
            Some(item) => schema::read_event(item)?,
            // DynamoDB was asked to return the item, but does not promise it.
            None => self.event(first + place as u64).await?,
        };
        if found.append.id == self.append_id && found.append.first == first {
            return Ok(Decision::StoredBefore(Box::new(found)));
        }
        Ok(Decision::Taken)
    }

    /// The items of the transaction: the events in order, then the pending entry.
    fn prepare(&self, at: &StreamPosition, recorded_at_ms: i64) -> Vec<Item> {
        let range = self.range(at.version() + 1);
        items(self.append_id, self.stream, self.events, &range, recorded_at_ms, at.newest_entry())
    }

    fn range(&self, first: u64) -> AppendRange {
        AppendRange { id: self.append_id, first, last: first + self.events.len() as u64 - 1 }
    }

    async fn end(&mut self) -> Result<Option<RecordedEvent>, Error> {
        let read = self.store.last_event(self.stream);
        match timeout_at(self.deadline, read).await {
            Ok(end) => end,
            Err(elapsed) => Err(self.attempts.unavailable(self.outcome_unknown, elapsed)),
        }
    }

    async fn event(&mut self, version: u64) -> Result<RecordedEvent, Error> {
        match timeout_at(self.deadline, self.store.event_at(self.stream, version)).await {
            Ok(Ok(Some(event))) => Ok(event),
            Ok(Ok(None)) => Err(self.corrupt(schema::event_key(version), "the event is missing").into()),
            Ok(Err(error)) => Err(error),
            Err(elapsed) => Err(self.attempts.unavailable(self.outcome_unknown, elapsed)),
        }
    }

    async fn wait(
        &self,
        delays: &mut Delays,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), Error> {
        match timeout_at(self.deadline, delays.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.attempts.unavailable(self.outcome_unknown, why)),
        }
    }

    fn corrupt(&self, at: String, what: impl Into<String>) -> Corrupt {
        Corrupt { stream: self.stream.clone(), at, what: what.into() }
    }

    fn conflict(&self, current: StreamPosition) -> Error {
        Conflict { expected: self.expected.clone(), current }.into()
    }

    fn stored(&self, at: &StreamPosition, recorded_at_ms: i64, write_units: f64) -> Appended {
        let AppendRange { first, last, .. } = self.range(at.version() + 1);
        let has_entry = self.events.iter().any(|event| !event.is_private());
        let newest_entry = if has_entry { Some(Previous { first, recorded_at_ms }) } else { at.newest_entry() };
        Appended {
            append_id: self.append_id,
            first_version: first,
            position: StreamPosition::after(self.stream.clone(), last, newest_entry),
            recorded_at_ms,
            already_stored: false,
            write_units,
        }
    }

    fn stored_before(&self, event: &RecordedEvent) -> Appended {
        Appended {
            append_id: self.append_id,
            first_version: event.append.first,
            position: position_after(event),
            recorded_at_ms: event.recorded_at_ms,
            already_stored: true,
            write_units: 0.0,
        }
    }
}

enum Place {
    At(StreamPosition),
    StoredBefore(Box<RecordedEvent>),
}

/// The position at an event.
pub(crate) fn position_at(event: &RecordedEvent) -> StreamPosition {
    StreamPosition::after(event.stream_id.clone(), event.version, event.newest_entry)
}

/// The position behind the append of an event. Its last event may not be visible yet; but since one of its events is, the
/// append has been committed as a whole.
pub(crate) fn position_after(end: &RecordedEvent) -> StreamPosition {
    StreamPosition::after(end.stream_id.clone(), end.append.last, end.newest_entry)
}

fn items(
    append_id: Uuid,
    stream: &StreamId,
    events: &[NewEvent],
    range: &AppendRange,
    recorded_at_ms: i64,
    previous: Option<Previous>,
) -> Vec<Item> {
    let recordings: Vec<_> = events
        .iter()
        .zip(range.first..)
        .enumerate()
        .map(|(index, (new, version))| Recording { stream, version, event_id: event_id(append_id, stream, index), new })
        .collect();
    let has_entry = events.iter().any(|event| !event.is_private());
    let newest_entry = if has_entry { Some(Previous { first: range.first, recorded_at_ms }) } else { previous };
    let event_item = |event| schema::event_item(event, range, recorded_at_ms, newest_entry);
    let mut items: Vec<_> = recordings.iter().map(event_item).collect();
    if has_entry {
        items.push(schema::pending_item(&recordings, range, recorded_at_ms, previous));
    }
    items
}

fn transact_items(table: &str, items: Vec<Item>) -> Vec<TransactWriteItem> {
    let put = |item| {
        Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression(format!("attribute_not_exists({ENTITY})"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("a put has a table and an item")
    };
    items.into_iter().map(|item| TransactWriteItem::builder().put(put(item)).build()).collect()
}

/// Everything that can be refused before anything is sent.
fn check(append_id: Uuid, stream: &StreamId, expected: &ExpectedVersion, events: &[NewEvent]) -> Result<(), Invalid> {
    if append_id.is_nil() {
        return Err(Invalid::AppendId(append_id));
    }
    if let ExpectedVersion::At(position) = expected
        && position.stream() != stream
    {
        return Err(Invalid::ForeignPosition { stream: stream.clone(), position_of: position.stream().clone() });
    }
    if events.is_empty() {
        return Err(Invalid::NoEvents);
    }
    if events.len() > MAX_EVENTS_PER_APPEND {
        return Err(Invalid::TooManyEvents { limit: MAX_EVENTS_PER_APPEND, events: events.len() });
    }
    events.iter().try_for_each(|event| check_routing_key(stream, event))?;
    check_sizes(append_id, stream, events)
}

fn check_routing_key(stream: &StreamId, event: &NewEvent) -> Result<(), Invalid> {
    let bytes = stream.category().len() + 1 + event.event_type().len();
    if bytes > MAX_SHORT_STRING_BYTES {
        let what = "routing key `{category}.{event type}`";
        return Err(Invalid::TooLong { what, limit_bytes: MAX_SHORT_STRING_BYTES, bytes });
    }
    Ok(())
}

fn check_sizes(append_id: Uuid, stream: &StreamId, events: &[NewEvent]) -> Result<(), Invalid> {
    let items = widest_items(append_id, stream, events);
    let mut total_bytes = 0;
    for (index, item) in items.iter().enumerate() {
        total_bytes += check_item(index, item)?;
    }
    if total_bytes > MAX_TRANSACTION_BYTES {
        return Err(Invalid::AppendTooLarge { limit_bytes: MAX_TRANSACTION_BYTES, bytes: total_bytes });
    }
    Ok(())
}

fn check_item(index: usize, item: &Item) -> Result<usize, Invalid> {
    match item_bytes(item) {
        bytes if bytes > MAX_ITEM_BYTES => Err(Invalid::EventTooLarge { index, limit_bytes: MAX_ITEM_BYTES, bytes }),
        bytes => Ok(bytes),
    }
}

/// The items with numbers at their widest: the place is not known yet, and what was accepted must fit wherever it goes.
fn widest_items(append_id: Uuid, stream: &StreamId, events: &[NewEvent]) -> Vec<Item> {
    let widest = AppendRange { id: append_id, first: u64::MAX - events.len() as u64, last: u64::MAX };
    let previous = Previous { first: u64::MAX, recorded_at_ms: i64::MAX };
    items(append_id, stream, events, &widest, i64::MAX, Some(previous))
}

/// What an append would refuse of one event in `stream`; else the bytes of its item.
pub(crate) fn check_event(stream: &StreamId, event: &NewEvent) -> Result<usize, Invalid> {
    check_routing_key(stream, event)?;
    let items = widest_items(Uuid::max(), stream, std::slice::from_ref(event));
    check_item(0, &items[0])
}

/// Whether DynamoDB has answered that it did not do it.
fn is_refusal(error: &SdkError<TransactWriteItemsError>) -> bool {
    matches!(error, SdkError::ServiceError(answer) if answer.raw().status().as_u16() < 500)
}

fn cancellation_reasons(error: &SdkError<TransactWriteItemsError>) -> Option<&[CancellationReason]> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            Some(cancelled.cancellation_reasons())
        }
        _ => None,
    }
}

/// Why a transaction was cancelled, all reasons considered.
#[derive(Debug, PartialEq)]
enum Cancelled {
    /// The item at this place of the transaction exists already.
    Exists { place: usize, item: Option<Item> },
    /// Another transaction was under way, or capacity was short.
    Again,
    /// For good.
    Refused(String),
}

fn judge_cancellation(reasons: &[CancellationReason], events: usize) -> Cancelled {
    let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
    let failed = reasons.iter().position(|reason| code(reason) == "ConditionalCheckFailed");
    let in_conflict = reasons.iter().any(|reason| code(reason) == "TransactionConflict");
    match failed {
        // Another append of this place is being committed item by item: its events will tell whose it is.
        Some(place) if place >= events && in_conflict => return Cancelled::Again,
        // A failed condition decides, whatever else there is: the place is taken.
        Some(place) => {
            let item = reasons[place].item().filter(|item| !item.is_empty()).cloned();
            return Cancelled::Exists { place, item };
        }
        None => {}
    }
    let for_now = ["None", "TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"];
    match reasons.iter().find(|reason| !for_now.contains(&code(reason).as_str())) {
        Some(reason) => Cancelled::Refused(format!("{}: {}", code(reason), reason.message().unwrap_or_default())),
        None => Cancelled::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    #[test]
    fn a_failed_condition_decides_even_beside_a_transaction_conflict() {
        let reasons = [reason("TransactionConflict"), reason("ConditionalCheckFailed"), reason("None")];
        assert_eq!(judge_cancellation(&reasons, 2), Cancelled::Exists { place: 1, item: None });
    }

    #[test]
    fn a_pending_entry_alone_decides_nothing_while_its_event_is_being_committed() {
        let committing = [reason("TransactionConflict"), reason("ConditionalCheckFailed")];
        assert_eq!(judge_cancellation(&committing, 1), Cancelled::Again);
        let orphan = [reason("None"), reason("ConditionalCheckFailed")];
        assert_eq!(judge_cancellation(&orphan, 1), Cancelled::Exists { place: 1, item: None });
    }

    #[test]
    fn conflicts_and_throttling_alone_are_tried_again() {
        for code in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
            assert_eq!(judge_cancellation(&[reason("None"), reason(code)], 1), Cancelled::Again, "{code}");
        }
    }

    #[test]
    fn what_is_invalid_is_never_tried_again() {
        for code in ["ValidationError", "ItemCollectionSizeLimitExceeded", "SomethingNew"] {
            let judged = judge_cancellation(&[reason("TransactionConflict"), reason(code)], 1);
            assert!(matches!(&judged, Cancelled::Refused(why) if why.starts_with(code)), "{judged:?}");
        }
    }

    #[test]
    fn a_transaction_is_its_events_in_order_and_one_pending_entry() {
        let stream = StreamId::new("order-1").unwrap();
        let events = ["A", "B"].map(|event_type| NewEvent::from_json_text(event_type, "{}").unwrap());
        let id = Uuid::from_u128(1);
        let range = AppendRange { id, first: 4, last: 5 };
        let items = items(id, &stream, &events, &range, 7, Some(Previous { first: 3, recorded_at_ms: 6 }));
        let keys: Vec<_> = items.iter().map(|item| item[ENTITY].as_s().unwrap().as_str()).collect();
        assert_eq!(keys, ["event#00000000000000000004", "event#00000000000000000005", "pending#00000000000000000004"]);
        let entry = schema::read_pending(items[2].clone()).unwrap();
        assert_eq!((entry.first, entry.last), (4, 5));
        assert_eq!(entry.previous, Some(Previous { first: 3, recorded_at_ms: 6 }));
    }
}
