//! How an event store is made: its settings.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::Client;

use crate::{
    hook::{AppendHook, StoredAppend},
    observe::Observation,
    schema::Compression,
    store::EventStore,
    table::{Settings, Table},
    trace::TraceContext,
};

/// How long an append may take in all, retries included, unless set otherwise.
pub const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

impl EventStore {
    /// The store in `table`. Nothing is sent; a missing table shows at the first use.
    ///
    /// Make the client with [`client_from_env`](crate::client_from_env) or [`client`](crate::client()), which set the time
    /// limits that the SDK does not. A client that is made in another way needs limits of its own, and
    /// `disable_clock_skew_correction(true)` (or `AWS_DISABLE_CLOCK_SKEW_CORRECTION=true`): else AWS takes the appends of a machine
    /// whose clock is hours wrong, and the relay's order of first delivery rests on clocks that are less than half an hour apart.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self::builder(client, table).build()
    }

    /// The store in `table`, with settings of its own.
    #[must_use]
    pub fn builder(client: Client, table: impl Into<String>) -> EventStoreBuilder {
        let settings = Settings {
            client,
            name: table.into(),
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            compression: Compression::default(),
            trace_context: None,
            observer: None,
            append_hook: None,
            clock: Box::new(SystemTime::now),
        };
        EventStoreBuilder { settings }
    }
}

/// Settings of an [`EventStore`].
pub struct EventStoreBuilder {
    settings: Settings,
}

impl EventStoreBuilder {
    /// How long an append may take in all, retries included. 10 seconds by default.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.operation_timeout = timeout;
        self
    }

    /// Whether large payloads are compressed. [`Compression::default`] unless set.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Where appends find the trace that they happen in. It is asked once for each append, and what it says goes into the
    /// metadata `traceparent` and `tracestate` of each event that does not bring its own. Nowhere unless set; with the
    /// feature `opentelemetry` there is `TraceContext::current`.
    #[must_use]
    pub fn trace_context(mut self, current: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        self.settings.trace_context = Some(Box::new(current));
        self
    }

    /// Calls `observer` after each operation with what it has done: for metrics. See the module [`observe`](crate::observe). Nobody
    /// unless set; once more replaces it.
    ///
    /// It runs on the task of the operation, between its end and its return, so it is to be quick and not to block. If it panics, that
    /// is logged as an error, and the operation returns as if nothing were wrong.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Observation) + Send + Sync + 'static) -> Self {
        self.settings.observer = Some(Arc::new(observer));
        self
    }

    /// Calls `hook` after each append that is stored, once for each stream of a transaction: to wake a relay in the same process
    /// (`streambox_relay::Relay::waker`), or whatever else waits for new events here. Nobody unless set; once more replaces it.
    ///
    /// It is a signal and no promise: an append whose process ends, whose answer is lost or whose future is dropped before this is
    /// stored without it, and a repeat that finds its append stored calls it again. A conflict, and any other error, does not.
    ///
    /// It runs on the task of the append, between its end and its return, so it is to be quick and not to block: what takes long
    /// delays the return, and does not fail it. If it panics, that is logged as an error, and the append returns as if nothing were
    /// wrong.
    #[must_use]
    pub fn on_append(mut self, hook: impl Fn(&StoredAppend<'_>) + Send + Sync + 'static) -> Self {
        self.settings.append_hook = Some(AppendHook::new(hook));
        self
    }

    /// The clock that gives events their time. The system's by default; nothing is ever decided by it.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.settings.clock = Box::new(clock);
        self
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> EventStore {
        EventStore { table: Table::new(self.settings) }
    }
}

impl fmt::Debug for EventStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStoreBuilder").field("table", &self.settings.name).finish_non_exhaustive()
    }
}
