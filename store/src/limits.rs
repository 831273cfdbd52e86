//! The limits of appends, which are checked before anything is sent, and of scans.
//!
//! Sources: "Quotas in Amazon DynamoDB" (AWS), and AMQP 0-9-1, section 4.2.5.3
//! (short strings).

/// The largest version of an event: in a message it is a signed number of 64 bits. No version that is read is larger, so that
/// none overflows when the next one is computed.
pub const MAX_VERSION: u64 = i64::MAX.unsigned_abs();

/// Most items in one `TransactWriteItems`.
pub const MAX_TRANSACTION_ITEMS: usize = 100;

/// Most events in one append: the transaction's items less the pending entry. The limit is the same for private events alone.
pub const MAX_EVENTS_PER_APPEND: usize = MAX_TRANSACTION_ITEMS - 1;

/// Most bytes of all items of one `TransactWriteItems` (4 MB).
pub const MAX_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of one item, attribute names included (400 KB).
pub const MAX_ITEM_BYTES: usize = 400 * 1024;

/// Most bytes of a stream id: DynamoDB's longest partition key.
pub const MAX_STREAM_ID_BYTES: usize = 2048;

/// Most bytes of an AMQP short string: routing key, type, message id.
pub const MAX_SHORT_STRING_BYTES: usize = 255;

/// Most bytes of what an event puts into the headers of its message: stream id, event type, message id, and the metadata in
/// [`Metadata::HEADERS`](crate::Metadata::HEADERS), names included (16 KiB).
///
/// AMQP can't split a message's headers over frames. A broker that gets more than the `frame_max` of the connection closes the
/// connection, with every other message of the batch on it. `RabbitMQ`'s default `frame_max` is 128 KiB; 16 KiB is far more
/// than identifiers and a trace context need, and also fits if an operator has lowered it.
pub const MAX_MESSAGE_HEADER_BYTES: usize = 16 * 1024;

/// Most arrays and objects within each other in a payload, and in metadata, whose own object counts as one.
///
/// Parsers have limits of their own, `serde_json` 127 levels. What is accepted must be read by all of them, also within what is put
/// around it: the envelope of `CloudEvents`, a list of events, the state of an aggregate. 27 levels are left for that.
pub const MAX_JSON_DEPTH: usize = 100;

/// The latest time that an event is recorded with: the end of the year 9999, in milliseconds since the Unix epoch. ISO 8601, in which
/// messages and the programs write it, goes no further. A clock that does is taken to stand there.
pub const MAX_RECORDED_AT_MS: i64 = 253_402_300_799_999;

/// What one write unit pays for.
pub const WRITE_UNIT_BYTES: usize = 1024;

/// Most bytes of a pending entry that carries a copy of its events: what one write unit pays for.
pub const MAX_INLINE_ENTRY_BYTES: usize = WRITE_UNIT_BYTES;

/// Most bytes of all payloads, unpacked, in the copies that a pending entry carries. One of 1 KB can unpack to megabytes, and a
/// relay holds many: beyond this it reads the events, one entry at a time.
pub const MAX_INLINE_PAYLOAD_BYTES: usize = 8 * 1024;

/// Most bytes of a relay worker's row while none of its streams is halted: a heartbeat costs one write unit.
pub const MAX_WORKER_ROW_BYTES: usize = WRITE_UNIT_BYTES;

/// Most bytes of the row while streams are halted: a heartbeat costs up to four write units then, and `status` has room for
/// their names, however long, and for what to do about them.
pub const MAX_HALTED_WORKER_ROW_BYTES: usize = 4 * WRITE_UNIT_BYTES;

/// Most bytes of a relay worker's id.
pub const MAX_WORKER_ID_BYTES: usize = 128;

/// Most bytes of the reason of a skip.
pub const MAX_SKIP_REASON_BYTES: usize = 1024;

/// Most bytes of the name of who skips.
pub const MAX_SKIP_BY_BYTES: usize = 255;

/// Most requests in one `BatchWriteItem`.
pub const MAX_BATCH_DELETES: usize = 25;

/// Most segments of a scan. A scan holds at most two pages of 1 MB of each in memory.
pub const MAX_SCAN_SEGMENTS: u16 = 64;
