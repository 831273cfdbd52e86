//! The outbox: what a relay needs of the table. **For relays and tools**: services that append and load never touch it, and it may change
//! in a minor version.
//!
//! The sparse index says which streams have something pending: it is eventually consistent and only a hint. The pending
//! entries themselves are read with a consistent `Query`, and deleted when everything in them is published.
//!
//! - `entry.rs`, `worker.rs`, `skip.rs`: plain data.
//! - `pending.rs`: what is pending, and its deletion; `backlog.rs` counts it.
//! - `previous.rs`: the visibility check of the previous entry.
//! - `workers.rs`: the heartbeats of a relay group.
//! - `skipping.rs`: an operator removes an entry.

mod backlog;
pub(crate) mod entry;
mod pending;
mod previous;
pub(crate) mod skip;
mod skipping;
pub(crate) mod worker;
mod workers;

use std::error::Error as StdError;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

pub use self::{
    backlog::PendingCount,
    entry::{OutboxEvent, PendingEntry, PendingKey},
    pending::{PendingPage, ScanCursor, ScanPage},
    previous::Predecessor,
    skip::{Skip, SkipRequest, SkipTarget, Skipping},
    worker::{HaltedStream, WorkerId, WorkerRow},
};
pub use crate::stream::Previous;
use crate::{definition::is_being_built, error::Error, failure::Operation, schema::OUTBOX_INDEX, table::Table};

/// Access to the pending entries. See [`EventStore::outbox`](crate::EventStore::outbox).
#[derive(Clone, Debug)]
pub struct Outbox {
    table: Table,
}

impl Outbox {
    pub(crate) fn new(table: Table) -> Self {
        Self { table }
    }

    /// The error of a failed read of the table or the index. While either is being created, DynamoDB reports that the table or the
    /// index does not exist; that is transient.
    async fn unless_being_built<E>(&self, operation: &Operation<'_>, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let code = error.as_service_error().and_then(|error| error.code());
        if matches!(code, Some("ResourceNotFoundException" | "ValidationException"))
            && is_being_built(&self.table).await
        {
            let what = format!(
                "the table or its index `{OUTBOX_INDEX}` is being built; pending entries are published as soon as it is ready"
            );
            return operation.unavailable(false, what);
        }
        operation.failed(error)
    }
}
