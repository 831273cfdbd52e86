//! One call, and what each of its steps needs.

use std::{future::Future, time::Duration};

use aws_sdk_dynamodb::types::TransactWriteItem;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Part;
use crate::{
    error::{Conflict, Corrupt, Error},
    event::RecordedEvent,
    failure::Operation,
    observe, read,
    retry::Backoff,
    stream::{StreamId, StreamPosition},
    table::Table,
};

/// The first delay before a refused or failed transaction is sent again; it doubles each time, half of it jitter.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// One call, checked as far as it can be without knowing the places.
pub(super) struct Call<'a> {
    pub(super) table: &'a Table,
    pub(super) append_id: Uuid,
    pub(super) parts: &'a [Part],
    pub(super) own: &'a [TransactWriteItem],
    pub(super) deadline: Instant,
    pub(super) operation: Operation<'a>,
    /// Whether a write may have been done whose answer is missing.
    pub(super) outcome_unknown: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        table: &'a Table,
        append_id: Uuid,
        parts: &'a [Part],
        own: &'a [TransactWriteItem],
        subject: &'a str,
    ) -> Self {
        let deadline = Instant::now() + table.operation_timeout();
        let operation = table.operation("append", subject);
        Self { table, append_id, parts, own, deadline, operation, outcome_unknown: false }
    }

    /// The position behind the append of an event.
    pub(super) async fn behind(&self, event: RecordedEvent) -> Result<StreamPosition, Error> {
        self.in_time(read::behind_append(self.table, event)).await
    }

    pub(super) async fn end(&self, stream: &StreamId) -> Result<Option<RecordedEvent>, Error> {
        self.in_time(read::last_event(self.table, stream)).await
    }

    pub(super) async fn in_time<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match timeout_at(self.deadline, read).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(self.operation.unavailable(self.outcome_unknown, elapsed)),
        }
    }

    pub(super) fn backoff() -> Backoff {
        Backoff::new(FIRST_DELAY, LONGEST_DELAY)
    }

    pub(super) fn corrupt(&self, part: usize, at: String, what: &str) -> Error {
        Corrupt { stream: self.parts[part].stream.clone(), at, what: what.to_owned() }.into()
    }
}

pub(super) fn conflict(append: &Part, current: StreamPosition) -> Error {
    observe::conflict(append.stream.as_str(), &append.expected, current.version());
    Conflict { expected: append.expected.clone(), current }.into()
}
