//! The inbox: how far a consumer has applied each stream, which streams are parked, and which generation is current, in a DynamoDB
//! table of its own.
//!
//! - `schema.rs`: every name in the table, and how items are read.
//! - `position.rs` reads; `apply.rs` moves the position, with the effect of an event in the same transaction; `projection.rs` makes a
//!   [`Projection`](crate::Projection) of it.
//! - `parking.rs`: the marks of parked streams; `parked.rs`: what is parked and due; `skip.rs`: an operator passes an event over.
//! - `generation.rs`: the current generation, and how far others are rebuilt; `delete.rs` removes one.
//! - `wait.rs` waits for a version; `lag.rs` compares positions with the events.
//! - `write.rs` sends conditional writes until DynamoDB has done or refused them.
//! - `definition.rs`: the table is created and checked.

mod apply;
mod definition;
mod delete;
mod generation;
mod lag;
mod name;
mod parked;
mod parking;
mod position;
mod projection;
mod schema;
mod skip;
mod wait;
mod write;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use streambox::{Client, DEFAULT_OPERATION_TIMEOUT, Error, StreamId, TableRequest, table_name};

pub use self::{
    apply::MAX_OWN_ITEMS,
    definition::{check_inbox_table, create_inbox_table},
    delete::Deleting,
    generation::{Generation, RebuildProgress},
    lag::{Lag, StreamLag},
    name::{MAX_CONSUMER_NAME_BYTES, consumer_name},
    parked::{DueStream, ParkedStream, ParkedStreams},
    parking::{MAX_REASON_BYTES, Noted},
    projection::{ApplyError, InboxProjection},
    skip::{Skip, SkipRequest, Skipping},
    wait::WaitError,
};

/// How far a consumer has applied each stream, which streams are parked, and which generation is current, in a DynamoDB table.
///
/// The table is one of its own, beside that of the events: several consumers may share it, and it may be in another account.
/// [`create_inbox_table`] creates it for development, `infra/inbox.yaml` in the cloud.
///
/// Each item has a few hundred bytes: a write costs one write unit, two in a transaction; a read costs one read unit. What a method
/// costs beyond that, it says. A write that DynamoDB has no capacity for, or that meets another transaction, is sent again within the
/// [operation timeout](Self::operation_timeout).
#[derive(Clone)]
pub struct Inbox {
    pub(crate) client: Client,
    pub(crate) table: Arc<str>,
    pub(crate) consumer: Arc<str>,
    pub(crate) generation: u32,
    /// Consumer and generation: the sort key of each position.
    key: Arc<str>,
    operation_timeout: Duration,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Inbox {
    /// The inbox of generation 1 of a consumer. Nothing is sent; a missing table shows at the first use.
    ///
    /// Make the client as for an [`EventStore`](streambox::EventStore).
    ///
    /// # Errors
    /// [`Error::Invalid`]: the name of the consumer, or of the table, breaks a rule.
    pub fn new(client: Client, table: &str, consumer: &str) -> Result<Self, Error> {
        let (table, consumer) = (table_name(table)?.into(), consumer_name(consumer)?.into());
        let inbox = Self {
            client,
            table,
            consumer,
            generation: 1,
            key: Arc::default(),
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            clock: Arc::new(SystemTime::now),
        };
        Ok(inbox.generation(1))
    }

    /// The same inbox of another generation, which has positions of its own. 0 counts as 1.
    #[must_use]
    pub fn generation(self, generation: u32) -> Self {
        let generation = generation.max(1);
        Self { generation, key: schema::consumer_key(&self.consumer, generation).into(), ..self }
    }

    /// How long a write may take in all, retries included. 10 seconds by default.
    #[must_use]
    pub fn operation_timeout(self, timeout: Duration) -> Self {
        Self { operation_timeout: timeout, ..self }
    }

    /// The clock by which streams are parked and skips are recorded. The system's by default.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// The name of the consumer.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// The generation whose positions these are. Which one is current, [`current_generation`](Self::current_generation) says.
    #[must_use]
    pub fn of_generation(&self) -> u32 {
        self.generation
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let since_epoch = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    /// The time after a delay: milliseconds since the Unix epoch.
    pub(crate) fn later_ms(&self, delay: Duration) -> i64 {
        self.now_ms().saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
    }

    /// An operation of which nothing has been sent.
    fn request<'a>(&'a self, operation: &'static str, subject: &'a str) -> TableRequest<'a> {
        TableRequest::new(&schema::TABLE, &self.client, &self.table, operation, subject)
    }

    /// The keys of a stream's position.
    fn position_key(&self, stream: &StreamId) -> schema::Item {
        schema::key(stream.as_str(), &self.key)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("table", &self.table).field("consumer", &self.key).finish_non_exhaustive()
    }
}
