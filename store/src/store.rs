//! The event store: one table, reached through one client.

use uuid::Uuid;

use crate::{
    append::{self, Appended, Transaction},
    definition,
    error::Error,
    event::{NewEvent, RecordedEvent},
    observe::{Operation, Watch},
    outbox::Outbox,
    read::{self, EventReader, EventStream, History, ReadOptions},
    scan::{EventScan, ScanOptions, StreamScan},
    snapshot::{self, NewSnapshot, Snapshot, SnapshotLoad, SnapshotWrite},
    stream::{ExpectedVersion, StreamId, StreamPosition},
    table::Table,
    verify::Verification,
};

/// The event store. A clone is cheap and shares the client; it holds no state of any stream.
#[derive(Clone, Debug)]
pub struct EventStore {
    pub(crate) table: Table,
}

impl EventStore {
    /// Appends `events` to `stream` if the stream is as `expected`, with a new append id: one transaction, all or
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
    /// "The same place" is the version that `expected` names. At another place the same id is another append, whose events have
    /// ids of their own, since these derive from the version, too. [`ExpectedVersion::Any`] and
    /// [`ExpectedVersion::StreamExists`] name no version: a repeat is recognised only while the append is the stream's newest.
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
        append::append(&self.table, append_id, stream, expected, events).await
    }

    /// Begins a transaction: appends to several streams, and items of the caller's own in other tables, all or nothing.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.table.clone())
    }

    /// Loads a whole stream: strongly consistent, paged to the end, without a gap, never half an append. A stream that has
    /// no event is empty, at version 0.
    ///
    /// # Errors
    /// - [`Error::Corrupt`]: an event is missing or unreadable; the error says which.
    /// - [`Error::Unavailable`], [`Error::Configuration`]: as DynamoDB answers.
    pub async fn read(&self, stream: &StreamId) -> Result<History, Error> {
        let whole = async {
            let mut reader = self.reader(stream);
            let mut events = reader.fetch().await?.unwrap_or_default();
            while let Some(page) = reader.fetch().await? {
                events.extend(page);
            }
            Ok(History { events, position: reader.position().clone(), read_units: reader.read_units() })
        };
        self.watch(Operation::Read, stream).over(whole).await
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
        EventReader::new(self.table.clone(), position)
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
        EventStream::new(self.table.clone(), stream.clone(), options)
    }

    /// Where a stream is: the position behind its newest event, good for an append `At` it. Version 0 if it has none.
    ///
    /// One request, strongly consistent; read units of the newest event alone (one for each 4 KB), whatever the stream's
    /// length. If the newest append is still becoming visible, the position is already the one behind all of it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the newest event is unreadable; [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn position(&self, stream: &StreamId) -> Result<StreamPosition, Error> {
        self.watch(Operation::Position, stream).over(read::end(&self.table, stream)).await
    }

    /// Whether a stream has an event. One request, strongly consistent; read units of its first event alone.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn exists(&self, stream: &StreamId) -> Result<bool, Error> {
        self.watch(Operation::Exists, stream).over(read::exists(&self.table, stream)).await
    }

    /// The event at one version, or `None` if there is none (yet). One request, strongly consistent; one read unit for
    /// each 4 KB of it. One event says nothing about those around it: a gap shows only to what reads more of the stream.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the event is unreadable; [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn event(&self, stream: &StreamId, version: u64) -> Result<Option<RecordedEvent>, Error> {
        self.watch(Operation::Event, stream).over(read::event_at(&self.table, stream, version)).await
    }

    /// All events of the table, or of a category: by a parallel `Scan`, as a [`futures::Stream`](futures_core::Stream) that
    /// fetches as it is polled, at most two pages of 1 MB ahead in each segment.
    ///
    /// The streams come one after the other, each whole and in order, checked as [`read`](Self::read) does it. Their order
    /// is DynamoDB's own; it is the same in each scan with the same number of segments. A scan is not a picture of one moment:
    /// of a stream that grows meanwhile, it shows all that was there at the scan's start, and perhaps more.
    ///
    /// Costs what the whole table has: one read unit for each 4 KB, the items included that are not events, and the streams of
    /// other categories.
    ///
    /// A request that DynamoDB does not answer, or has no capacity for, is sent again, [`SCAN_ATTEMPTS`](crate::SCAN_ATTEMPTS)
    /// times in all. A scan can be interrupted and resumed in another process: its [`token`](EventScan::token) stands for what the consumer
    /// has taken.
    ///
    /// # Errors
    /// [`Error::Invalid`]: too many segments or none, no category's name, a token of another scan. The stream's items are
    /// errors as those of [`read`](Self::read). [`Error::Corrupt`] is about one stream, of which no more comes: ask on, and the
    /// next stream follows. Any other error is the last item.
    pub fn scan_events(&self, options: &ScanOptions) -> Result<EventScan, Error> {
        EventScan::new(&self.table, options)
    }

    /// The streams of the table, or of a category, with their newest version, without a check for gaps. Costs what
    /// [`scan_events`](Self::scan_events) does, but little is transferred.
    ///
    /// # Errors
    /// As [`scan_events`](Self::scan_events); [`Error::Corrupt`] stands in the place of one stream. There is no token to resume from.
    pub fn scan_streams(&self, options: &ScanOptions) -> Result<StreamScan, Error> {
        StreamScan::new(&self.table, options)
    }

    /// Looks at every item of the table, or of a category, and lists what is wrong, as a
    /// [`futures::Stream`](futures_core::Stream) of findings: every rule of writing is checked ([`Fault`](crate::Fault) has them).
    /// Writes nothing.
    ///
    /// The table may be in use: missing items are re-read until an append has had the time to become visible, about two
    /// seconds for each gap that stays. Costs what [`scan_events`](Self::scan_events) does, and a read of the events of each
    /// pending entry.
    ///
    /// # Errors
    /// As [`scan_events`](Self::scan_events); there is no token to resume from. What is wrong with the data is not an error, but a
    /// finding.
    pub fn verify(&self, options: &ScanOptions) -> Result<Verification, Error> {
        Verification::of_table(&self.table, options)
    }

    /// As [`verify`](Self::verify), of one stream: a Query instead of a scan.
    #[must_use]
    pub fn verify_stream(&self, stream: &StreamId) -> Verification {
        Verification::of_stream(&self.table, stream)
    }

    /// Loads a stream from its snapshot on, if there is one that `is_usable`; otherwise from the first event. Strongly
    /// consistent and whole as [`read`](Self::read) is. One request has been made when this returns, if at most 15 events have
    /// come after the snapshot, and no more are needed; otherwise two.
    ///
    /// `is_usable` is asked at most once. A snapshot that it has accepted may still turn out to be
    /// [ahead of the stream](crate::snapshot::IgnoredSnapshot::Ahead) or [of another history](crate::snapshot::IgnoredSnapshot::OtherHistory): what counts is
    /// [`SnapshotLoad::snapshot`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an event is missing or unreadable, [`Error::Unavailable`] and [`Error::Configuration`] as
    /// DynamoDB answers. A snapshot that is unreadable is not an error.
    pub async fn load_snapshot(
        &self,
        stream: &StreamId,
        is_usable: impl FnOnce(&Snapshot) -> bool,
    ) -> Result<SnapshotLoad, Error> {
        self.watch(Operation::LoadSnapshot, stream).over(snapshot::load(&self.table, stream, is_usable)).await
    }

    /// Stores a snapshot, in place of the one that is there: unless that one is newer, or of a newer schema.
    ///
    /// Two versions of a service that run side by side, as during a deployment, would overwrite each other's snapshots
    /// for ever. So a snapshot of a newer schema stays, until it is [`SCHEMA_TAKEOVER_EVENTS`](snapshot::SCHEMA_TAKEOVER_EVENTS) behind: then no
    /// service keeps it up to date, for example after a deployment was rolled back.
    ///
    /// One request: a `TransactWriteItems`, so that a role that may put items only inside transactions suffices. 2
    /// write units for each KB.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the item has more than 400 KB; nothing was sent. [`Error::Unavailable`] and [`Error::Configuration`]
    /// as DynamoDB answers.
    pub async fn write_snapshot(&self, stream: &StreamId, snapshot: &NewSnapshot) -> Result<SnapshotWrite, Error> {
        self.watch(Operation::WriteSnapshot, stream).over(snapshot::write(&self.table, stream, snapshot)).await
    }

    /// The pending entries, as a relay sees them.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.table.clone())
    }

    /// Which table this is: its ARN and the id that DynamoDB gave it when it was created. A table of the same name in another
    /// Region or account, restored, or created again has another identity. One request, `DescribeTable`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Configuration`] as DynamoDB answers.
    pub async fn table_identity(&self) -> Result<String, Error> {
        definition::identity(&self.table).await
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        self.table.name()
    }

    fn watch(&self, operation: Operation, stream: &StreamId) -> Watch {
        self.table.watch(operation, stream.as_str())
    }
}
