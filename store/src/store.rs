//! The event store: one table, reached through one client.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::Client;
use uuid::Uuid;

use crate::{
    append::{Appended, Transaction},
    definition,
    error::Error,
    event::{NewEvent, RecordedEvent},
    failure::RequestContext,
    limits::MAX_RECORDED_AT_MS,
    outbox::Outbox,
    read::{self, EventReader, EventStream, History, ReadOptions},
    retry::Jitter,
    role::Role,
    scan::{EventScan, ScanOptions, StreamScan},
    schema::Compression,
    stream::{ExpectedVersion, StreamId, StreamPosition},
    trace::TraceContext,
    verify::Verification,
};

/// How long an append may take in all, retries included, unless set otherwise.
pub const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The event store. A clone is cheap and shares the client; it holds no state of any stream.
#[derive(Clone)]
pub struct EventStore {
    shared: Arc<Shared>,
    role: Role,
}

struct Shared {
    client: Client,
    table: String,
    /// The table, as a position names it: with its Region.
    place: Arc<str>,
    operation_timeout: Duration,
    compression: Compression,
    jitter: Jitter,
    trace_context: Option<Box<dyn Fn() -> Option<TraceContext> + Send + Sync>>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

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
        let table = table.into();
        let place = match client.config().region() {
            Some(region) => format!("{table} in {region}").into(),
            None => table.as_str().into(),
        };
        let shared = Shared {
            client,
            table,
            place,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            compression: Compression::default(),
            jitter: Jitter::default(),
            trace_context: None,
            clock: Box::new(SystemTime::now),
        };
        EventStoreBuilder { shared, role: Role::default() }
    }

    /// Appends `events` to `stream`, where the stream is as `expected`, with a new append id: one transaction, all or
    /// nothing.
    ///
    /// To make a repeat of a whole command harmless, use [`append_with_id`](Self::append_with_id).
    ///
    /// # Errors
    /// - [`Error::Conflict`]: the stream is elsewhere; the error says where. Nothing was written.
    /// - [`Error::Invalid`]: more than 99 events, more than 400 KB an event or 4 MB in all, and the like. Nothing was sent.
    /// - [`Error::Unavailable`]: no answer within the operation timeout (10 s by default); see there.
    /// - [`Error::Configuration`]: table, permission or credentials are missing.
    /// - [`Error::Corrupt`]: the stream holds what this library never writes.
    pub async fn append(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Appended, Error> {
        self.append_with_id(Uuid::new_v4(), stream, expected, events).await
    }

    /// Appends as [`append`](Self::append) does, under an append id of the caller's choice: however often the same id is
    /// sent to the same place, the events are stored once, and each repeat reports the first result. There is no time
    /// limit. Derive the id from what is being done (a command's id, a message's id), not from the clock.
    ///
    /// "The same place" is the version that `expected` names. At another place the same id is another append, whose events
    /// have the same event ids, since these derive from it. With [`ExpectedVersion::Any`] a repeat is recognised only
    /// while the append is the stream's newest.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_with_id(
        &self,
        append_id: Uuid,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Appended, Error> {
        self.transaction().with_id(append_id).append(stream, expected, events).commit_single().await
    }

    /// Begins a transaction: appends to several streams, and items of the caller's own in other tables, all or nothing.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// Loads a whole stream: strongly consistent, paged to the end, without a gap, never half an append. A stream that has
    /// no event is empty, at version 0.
    ///
    /// # Errors
    /// - [`Error::Corrupt`]: an event is missing or unreadable; the error says which.
    /// - [`Error::Unavailable`], [`Error::Configuration`]: as DynamoDB answers.
    pub async fn read(&self, stream: &StreamId) -> Result<History, Error> {
        let mut reader = self.reader(stream);
        let mut events = reader.next_page().await?.unwrap_or_default();
        while let Some(page) = reader.next_page().await? {
            events.extend(page);
        }
        Ok(History { events, position: reader.position().clone(), read_units: reader.read_units() })
    }

    /// Loads a stream as [`read`](Self::read) does, but page by page: for streams that need not fit into memory.
    #[must_use]
    pub fn reader(&self, stream: &StreamId) -> EventReader {
        self.reader_from(StreamPosition::start(stream.clone()))
    }

    /// Reads on from a position: the events behind it, page by page. A position of another table is refused by the first page, with
    /// [`Error::Invalid`]. Whether the table still has the event that the position stands behind is not looked at.
    #[must_use]
    pub fn reader_from(&self, position: StreamPosition) -> EventReader {
        EventReader::new(self.clone(), position)
    }

    /// Reads a stream, or a part of it, in either direction, as a [`futures::Stream`](futures_core::Stream) that fetches
    /// page by page as it is polled. Strongly consistent and checked as [`read`](Self::read) is: a gap is never passed over,
    /// the stream's newest append is there entire or not at all.
    ///
    /// What is fetched is bounded by the options: one event of a long stream costs one request and the read units of that
    /// event. Backward from a version behind the stream's end costs one request more.
    ///
    /// ```no_run
    /// # async fn example(store: streambox::EventStore, order: streambox::StreamId) -> Result<(), streambox::Error> {
    /// use futures_util::TryStreamExt as _;
    /// use streambox::ReadOptions;
    ///
    /// let mut newest = store.read_stream(&order, ReadOptions::backward().limit(10));
    /// while let Some(event) = newest.try_next().await? {
    ///     println!("{} {}", event.version, event.event_type);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream's items are errors as those of [`read`](Self::read); an error is its last item, behind the events before the
    /// damage.
    #[must_use]
    pub fn read_stream(&self, stream: &StreamId, options: ReadOptions) -> EventStream {
        EventStream::new(self.clone(), stream.clone(), options)
    }

    /// Where a stream is: the position behind its newest event, good for an append `At` it. Version 0 where it has none.
    ///
    /// One request, strongly consistent; read units of the newest event alone (one for each 4 KB), whatever the stream's
    /// length. Where the newest append is still becoming visible, the position is already the one behind all of it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the newest event is unreadable; [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn position(&self, stream: &StreamId) -> Result<StreamPosition, Error> {
        let newest = self.last_event(stream).await?;
        Ok(newest.map_or_else(|| StreamPosition::start(stream.clone()), |event| event.append_position(self.place())))
    }

    /// Whether a stream has an event. One request, strongly consistent; read units of its first event alone.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn exists(&self, stream: &StreamId) -> Result<bool, Error> {
        read::exists(self, stream).await
    }

    /// The event at one version, or `None` where there is none (yet). One request, strongly consistent; one read unit for
    /// each 4 KB of it. One event says nothing about those around it: a gap shows only to what reads more of the stream.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the event is unreadable; [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn event(&self, stream: &StreamId, version: u64) -> Result<Option<RecordedEvent>, Error> {
        // Versions begin with 1.
        if version == 0 { Ok(None) } else { self.event_at(stream, version).await }
    }

    /// All events of the table, or of a category: by a parallel `Scan`, as a [`futures::Stream`](futures_core::Stream) that
    /// fetches as it is polled, at most two pages of 1 MB ahead in each segment.
    ///
    /// The streams come one after the other, each whole and in order, checked as [`read`](Self::read) does it. Their order
    /// is DynamoDB's own; it is the same in each scan with the same number of segments. A scan is no picture of one moment:
    /// of a stream that grows meanwhile, it shows all that was there at the scan's start, and perhaps more.
    ///
    /// Costs what the whole table has: one read unit for each 4 KB, the items included that are no events, and the streams of
    /// other categories.
    ///
    /// A request that DynamoDB does not answer, or has no capacity for, is sent again, [`SCAN_ATTEMPTS`](crate::SCAN_ATTEMPTS)
    /// times in all. A scan can be interrupted and go on in another process: its [`token`](EventScan::token) stands for what the consumer
    /// has taken.
    ///
    /// # Errors
    /// [`Error::Invalid`]: too many segments or none, no category's name, a token of another scan. The stream's items are
    /// errors as those of [`read`](Self::read). [`Error::Corrupt`] is about one stream, of which no more comes: ask on, and the
    /// next stream follows. Any other error is the last item.
    pub fn scan_events(&self, options: &ScanOptions) -> Result<EventScan, Error> {
        EventScan::new(self, options)
    }

    /// The streams of the table, or of a category, with their newest version, without a check for gaps. Costs what
    /// [`scan_events`](Self::scan_events) does, but little is transferred.
    ///
    /// # Errors
    /// As [`scan_events`](Self::scan_events); [`Error::Corrupt`] stands in the place of one stream. There is no token to go on from.
    pub fn scan_streams(&self, options: &ScanOptions) -> Result<StreamScan, Error> {
        StreamScan::new(self, options)
    }

    /// Looks at every item of the table, or of a category, and lists what is wrong, as a
    /// [`futures::Stream`](futures_core::Stream) of findings: every rule of writing is checked ([`Fault`](crate::Fault) has them).
    /// Writes nothing.
    ///
    /// The table may be in use: what is missing is read again until an append has had the time to become visible, about two
    /// seconds for each gap that stays. Costs what [`scan_events`](Self::scan_events) does, and a read of the events of each
    /// pending entry.
    ///
    /// # Errors
    /// As [`scan_events`](Self::scan_events); there is no token to go on from. What is wrong with the data is no error, but a
    /// finding.
    pub fn verify(&self, options: &ScanOptions) -> Result<Verification, Error> {
        Verification::of_table(self, options)
    }

    /// As [`verify`](Self::verify), of one stream: a Query instead of a scan.
    #[must_use]
    pub fn verify_stream(&self, stream: &StreamId) -> Verification {
        Verification::of_stream(self, stream)
    }

    /// The pending entries, as a relay sees them.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        let role = if self.role == Role::Operator { Role::Operator } else { Role::Relay };
        Outbox::new(Self { role, ..self.clone() })
    }

    /// Which table this is: its ARN and the id that DynamoDB gave it when it was created. A table of the same name in another
    /// Region or account, restored, or created anew has another identity. One request, `DescribeTable`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn table_identity(&self) -> Result<String, Error> {
        definition::identity(self).await
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.shared.table
    }

    /// The table and its Region.
    pub(crate) fn place(&self) -> &Arc<str> {
        &self.shared.place
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(crate) fn request_context(&self) -> RequestContext<'_> {
        RequestContext::new(self.client(), self.table(), self.role)
    }

    pub(crate) fn operation_timeout(&self) -> Duration {
        self.shared.operation_timeout
    }

    pub(crate) fn compression(&self) -> Compression {
        self.shared.compression
    }

    pub(crate) fn jitter(&self) -> Jitter {
        self.shared.jitter.clone()
    }

    /// Gives events the current trace context, unless they bring one.
    pub(crate) fn add_trace_context<'a>(&self, events: impl Iterator<Item = &'a mut NewEvent>) {
        if let Some(current) = self.shared.trace_context.as_ref().and_then(|current| current()) {
            events.for_each(|event| event.add_trace_context(&current));
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let since_epoch = (self.shared.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX).min(MAX_RECORDED_AT_MS)
    }

    pub(crate) async fn last_event(&self, stream: &StreamId) -> Result<Option<RecordedEvent>, Error> {
        read::last_event(self, stream).await
    }

    pub(crate) async fn event_at(&self, stream: &StreamId, version: u64) -> Result<Option<RecordedEvent>, Error> {
        read::event_at(self, stream, version).await
    }
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStore").field("table", &self.shared.table).finish_non_exhaustive()
    }
}

/// Settings of an [`EventStore`].
pub struct EventStoreBuilder {
    shared: Shared,
    role: Role,
}

impl EventStoreBuilder {
    /// How long an append may take in all, retries included. 10 seconds by default.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.shared.operation_timeout = timeout;
        self
    }

    /// Whether large payloads are compressed. [`Compression::default`] unless set.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.shared.compression = compression;
        self
    }

    /// Where appends find the trace that they happen in. It is asked once for each append, and what it says goes into the
    /// metadata `traceparent` and `tracestate` of each event that does not bring its own. Nowhere unless set; with the
    /// feature `opentelemetry` there is `TraceContext::current`.
    #[must_use]
    pub fn trace_context(mut self, current: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        self.shared.trace_context = Some(Box::new(current));
        self
    }

    /// Where the delays between attempts get their jitter from: numbers from 0 to 1, which make each delay 50 % to 150 % of
    /// its step. Random unless set; with a source of known numbers, retries are the same each time.
    #[must_use]
    pub fn jitter(mut self, source: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.shared.jitter = Jitter::new(source);
        self
    }

    /// The clock that gives events their time. The system's by default; nothing is ever decided by it.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.shared.clock = Box::new(clock);
        self
    }

    /// What the program does with the table: where a permission is missing, the error names the policy for this role.
    /// [`Role::Writer`] unless set.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> EventStore {
        EventStore { shared: Arc::new(self.shared), role: self.role }
    }
}

impl fmt::Debug for EventStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStoreBuilder").field("table", &self.shared.table).finish_non_exhaustive()
    }
}
