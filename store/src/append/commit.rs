//! Sends a transaction until DynamoDB has decided.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    time::Duration,
};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata as _, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ReturnConsumedCapacity, TransactWriteItem},
};
use futures_core::Stream as _;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    Appended, Committed, Part,
    cancelled::{self, Cancelled, Existing},
    check::check,
    own,
    prepare::{Place, Prepared, prepare, put},
};
use crate::{
    EventStore,
    error::{Conflict, Corrupt, Error, ItemRefused},
    event::RecordedEvent,
    failure::{Operation, Verdict},
    read::ReadOptions,
    retry::Delays,
    schema,
    stream::{ExpectedVersion, StreamId, StreamPosition},
};

/// The first delay before a refused or failed transaction is sent again; it doubles each time, half of it jitter.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// One call, checked as far as it can be without knowing the places.
struct Call<'a> {
    store: &'a EventStore,
    append_id: Uuid,
    parts: &'a [Part],
    own: &'a [TransactWriteItem],
    deadline: Instant,
    operation: Operation<'a>,
    /// Whether a write may have been done whose answer is missing.
    outcome_unknown: bool,
}

/// Where one append goes, or that it is there.
enum Found {
    At(StreamPosition),
    StoredBefore(Box<RecordedEvent>),
}

/// What DynamoDB has decided.
enum Decision {
    Stored(Committed),
    /// The whole transaction was stored before; this is an event of it.
    StoredBefore {
        part: usize,
        event: Box<RecordedEvent>,
    },
    /// Other writers have the places of these parts.
    Taken(Vec<usize>),
}

pub(super) async fn commit(
    store: &EventStore,
    append_id: Uuid,
    mut parts: Vec<Part>,
    own: Vec<TransactWriteItem>,
) -> Result<Committed, Error> {
    store.add_trace_context(parts.iter_mut().flat_map(|part| &mut part.events));
    check(store, append_id, &parts, &own)?;
    let subject = parts.iter().map(|part| part.stream.as_str()).collect::<Vec<_>>().join(", ");
    let call = Call {
        store,
        append_id,
        parts: &parts,
        own: &own,
        deadline: Instant::now() + store.operation_timeout(),
        operation: Operation::new(store.request_context(), "append", &subject),
        outcome_unknown: false,
    };
    call.run().await
}

impl Call<'_> {
    async fn run(mut self) -> Result<Committed, Error> {
        let mut delays = self.delays();
        loop {
            let mut places = Vec::with_capacity(self.parts.len());
            for (part, append) in self.parts.iter().enumerate() {
                match self.find_place(append).await? {
                    Found::At(position) => places.push(position),
                    Found::StoredBefore(event) => return self.stored_before(part, *event).await,
                }
            }
            match self.send_until_decided(&places).await? {
                Decision::Stored(committed) => return Ok(committed),
                Decision::StoredBefore { part, event } => return self.stored_before(part, *event).await,
                Decision::Taken(taken) => {
                    let is_final = |&part: &usize| self.parts[part].expected != ExpectedVersion::Any;
                    if let Some(part) = taken.into_iter().find(is_final) {
                        let append = &self.parts[part];
                        let end = self.end(&append.stream).await?;
                        let current =
                            end.map_or_else(|| places[part].clone(), |end| end.append_position(self.store.place()));
                        return Err(conflict(append, current));
                    }
                    // Nothing of ours is there, and the place is taken for ever.
                    self.outcome_unknown = false;
                    if timeout_at(self.deadline, delays.wait()).await.is_err() {
                        return Err(self.operation.busy());
                    }
                }
            }
        }
    }

    /// Where an append goes, by what the caller expects.
    async fn find_place(&mut self, append: &Part) -> Result<Found, Error> {
        let start = || StreamPosition::start(append.stream.clone());
        match append.expected {
            ExpectedVersion::At(ref position) => Ok(Found::At(position.clone())),
            ExpectedVersion::NoStream => Ok(Found::At(start())),
            ExpectedVersion::Any => match self.end(&append.stream).await? {
                Some(end) if end.append.id == self.append_id => Ok(Found::StoredBefore(Box::new(end))),
                end => Ok(Found::At(end.map_or_else(start, |end| end.append_position(self.store.place())))),
            },
            ExpectedVersion::Exact(expected) => {
                let end = self.end(&append.stream).await?;
                let current = end.map_or_else(start, |end| end.append_position(self.store.place()));
                if current.version() == expected {
                    return Ok(Found::At(current));
                }
                // A repeat of an append that has been stored finds the stream behind the version that it expects.
                if current.version() > expected {
                    let next = self.in_time(self.store.event_at(&append.stream, expected + 1)).await?;
                    if let Some(next) = next.filter(|next| self.is_ours(next, expected + 1)) {
                        return Ok(Found::StoredBefore(Box::new(next)));
                    }
                }
                Err(conflict(append, current))
            }
        }
    }

    /// Sends one and the same request, with one token, until DynamoDB has stored or refused it.
    async fn send_until_decided(&mut self, places: &[StreamPosition]) -> Result<Decision, Error> {
        let recorded_at_ms = self.store.now_ms();
        let token = Uuid::new_v4().to_string();
        let mut delays = self.delays();
        loop {
            self.operation.attempts += 1;
            let Request { items, item_places, results } = self.prepare(places, recorded_at_ms);
            let request = self
                .store
                .client()
                .transact_write_items()
                .set_transact_items(Some(items))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            let error = match timeout_at(self.deadline, request).await {
                Err(elapsed) => return Err(self.operation.unavailable(true, elapsed)),
                Ok(Ok(output)) => {
                    let write_units = output.consumed_capacity().iter().filter_map(|used| used.capacity_units).sum();
                    return Ok(Decision::Stored(committed(results, write_units)));
                }
                Ok(Err(error)) => error,
            };
            if let Some(reasons) = cancellation_reasons(&error) {
                match cancelled::judge(reasons, &item_places) {
                    Cancelled::Exist(existing) => return self.whose(places, existing).await,
                    Cancelled::ItemRefused { position, item } => return Err(ItemRefused { position, item }.into()),
                    Cancelled::Transient => {}
                    Cancelled::Refused { place, code, message } => {
                        let advice = self.refused(place, &code, &message);
                        return Err(self.operation.configuration(advice, error));
                    }
                }
            } else {
                match self.operation.judge(&error) {
                    Verdict::Transient => self.outcome_unknown |= !is_refusal(&error),
                    Verdict::Permanent(advice) => {
                        let advice = self.blamed_on_own(&error).await.unwrap_or(advice);
                        return Err(self.operation.configuration(advice, error));
                    }
                }
            }
            let (streams, attempt) = (self.operation.subject, self.operation.attempts);
            tracing::debug!(streams, attempt, error = ?error.code(), "append is tried again");
            self.wait(&mut delays, error).await?;
        }
    }

    /// What to do about a transaction that was cancelled for good.
    fn refused(&self, place: Place, code: &str, message: &str) -> String {
        if let Place::Own { position } = place {
            let what = own::described(&self.own[position]);
            return format!("DynamoDB refuses item {position} of the caller's own, {what}: {code}: {message}");
        }
        let advice = self.operation.context.cancelled(code, message);
        advice.unwrap_or_else(|| format!("DynamoDB refuses the transaction: {place}: {code}: {message}"))
    }

    /// DynamoDB names no item where it refuses a request as a whole. If the store's table can be read, an item of the caller's
    /// own is at fault. One request more, of a transaction that will not be stored.
    async fn blamed_on_own(&self, error: &SdkError<TransactWriteItemsError>) -> Option<String> {
        let (code, message) = (error.code()?, error.message().unwrap_or_default());
        if code == "AccessDeniedException" {
            let denied = own::of_table_in(message, self.own)?;
            return Some(format!(
                "a permission is missing for {denied}: grant it to the program's role in a policy of your own, since those of \
                 infra/roles.yaml are for the store's table ({message})"
            ));
        }
        let is_of_items = ["ResourceNotFoundException", "ValidationException"].contains(&code) && !self.own.is_empty();
        if !is_of_items || self.in_time(self.store.exists(&self.parts[0].stream)).await.is_err() {
            return None;
        }
        Some(format!("DynamoDB refuses {}: {code}: {message}", own::suspects(self.own, message)))
    }

    /// The request, the same each time for the same places, and what the caller is told when it succeeds.
    fn prepare(&self, places: &[StreamPosition], recorded_at_ms: i64) -> Request {
        let mut request = Request { items: Vec::new(), item_places: Vec::new(), results: Vec::new() };
        for (part, (append, at)) in self.parts.iter().zip(places).enumerate() {
            let compression = self.store.compression();
            let Prepared { items, range, newest_entry } =
                prepare(self.append_id, append, at, recorded_at_ms, compression);
            for (index, item) in items.into_iter().enumerate() {
                let is_event = index < append.events.len();
                request.item_places.push(if is_event { Place::Event { part, index } } else { Place::Entry { part } });
                request.items.push(put(self.store.table(), item));
            }
            request.results.push(Appended {
                append_id: self.append_id,
                first_version: range.first,
                position: StreamPosition::after(
                    self.store.place(),
                    append.stream.clone(),
                    range.last,
                    self.append_id,
                    newest_entry,
                ),
                recorded_at_ms,
                already_stored: false,
                write_units: 0.0,
            });
        }
        request.item_places.extend((0..self.own.len()).map(|position| Place::Own { position }));
        request.items.extend_from_slice(self.own);
        request
    }

    /// Decides whose the items are that stand where ours should go.
    async fn whose(&mut self, places: &[StreamPosition], existing: Vec<Existing>) -> Result<Decision, Error> {
        let mut taken = Vec::new();
        // Beside an event that exists, nothing else matters.
        let events = existing.iter().any(|existing| matches!(existing.place, Place::Event { .. }));
        for Existing { place, item } in existing {
            let (part, index) = match place {
                Place::Event { part, index } => (part, index),
                Place::Entry { part } if !events => {
                    let at = schema::pending_key(places[part].version() + 1);
                    return Err(self.corrupt(part, at, "a pending entry without its event").into());
                }
                _ => continue,
            };
            let first = places[part].version() + 1;
            let found = match item {
                Some(item) => schema::read_event(item)?,
                None => self.event(&self.parts[part].stream, first + index as u64).await?,
            };
            if self.is_ours(&found, first) {
                // One event of it is there, so all of the transaction is.
                return Ok(Decision::StoredBefore { part, event: Box::new(found) });
            }
            taken.push(part);
        }
        Ok(Decision::Taken(taken))
    }

    fn is_ours(&self, event: &RecordedEvent, first: u64) -> bool {
        event.append.id == self.append_id && event.append.first == first
    }

    /// What a transaction that was stored before has done. `event` is one of its `part`.
    async fn stored_before(&mut self, part: usize, event: RecordedEvent) -> Result<Committed, Error> {
        let mut results = Vec::with_capacity(self.parts.len());
        for (other, append) in self.parts.iter().enumerate() {
            let found = if other == part { event.clone() } else { self.find_stored(other, append).await? };
            results.push(Appended {
                append_id: self.append_id,
                first_version: found.append.first,
                position: found.append_position(self.store.place()),
                recorded_at_ms: found.recorded_at_ms,
                already_stored: true,
                write_units: 0.0,
            });
        }
        Ok(Committed { appends: results, already_stored: true, write_units: 0.0 })
    }

    /// An event of an append that is known to be stored.
    async fn find_stored(&mut self, part: usize, append: &Part) -> Result<RecordedEvent, Error> {
        let at = match &append.expected {
            ExpectedVersion::At(position) => Some(position.version()),
            ExpectedVersion::NoStream => Some(0),
            ExpectedVersion::Exact(version) => Some(*version),
            ExpectedVersion::Any => None,
        };
        if let Some(version) = at {
            let event = self.event(&append.stream, version + 1).await?;
            if self.is_ours(&event, version + 1) {
                return Ok(event);
            }
        } else {
            let mut newest = self.store.read_stream(&append.stream, ReadOptions::backward());
            while let Some(event) = self
                .in_time(async { poll_fn(|context| Pin::new(&mut newest).poll_next(context)).await.transpose() })
                .await?
            {
                if event.append.id == self.append_id {
                    return Ok(event);
                }
            }
        }
        let what = "an event of the transaction is missing whose other events are there";
        Err(self.corrupt(part, format!("append {}", self.append_id), what).into())
    }

    async fn end(&self, stream: &StreamId) -> Result<Option<RecordedEvent>, Error> {
        self.in_time(self.store.last_event(stream)).await
    }

    async fn event(&self, stream: &StreamId, version: u64) -> Result<RecordedEvent, Error> {
        let missing = || {
            let (at, what) = (schema::event_key(version), "the event is missing".to_owned());
            Corrupt { stream: stream.clone(), at, what }.into()
        };
        self.in_time(self.store.event_at(stream, version)).await?.ok_or_else(missing)
    }

    async fn in_time<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match timeout_at(self.deadline, read).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(self.operation.unavailable(self.outcome_unknown, elapsed)),
        }
    }

    fn delays(&self) -> Delays {
        Delays::new(FIRST_DELAY, LONGEST_DELAY, self.store.jitter())
    }

    async fn wait(
        &self,
        delays: &mut Delays,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), Error> {
        match timeout_at(self.deadline, delays.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.operation.unavailable(self.outcome_unknown, why)),
        }
    }

    fn corrupt(&self, part: usize, at: String, what: impl Into<String>) -> Corrupt {
        Corrupt { stream: self.parts[part].stream.clone(), at, what: what.into() }
    }
}

struct Request {
    items: Vec<TransactWriteItem>,
    /// What each item is.
    item_places: Vec<Place>,
    results: Vec<Appended>,
}

fn committed(mut appends: Vec<Appended>, write_units: f64) -> Committed {
    for append in &mut appends {
        append.write_units = write_units;
    }
    Committed { appends, already_stored: false, write_units }
}

fn conflict(append: &Part, current: StreamPosition) -> Error {
    Conflict { expected: append.expected.clone(), current }.into()
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
