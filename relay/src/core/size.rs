//! How much memory entries and events take, about.

use streambox::outbox::{OutboxEvent, PendingEntry};

/// About the memory that an entry and an event take beside their texts.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 128;
const EVENT_OVERHEAD_BYTES: usize = 256;

/// The most that an entry takes: one with copies of its events has 1 KB in the table, in which each copy takes at
/// least 24 bytes for its attributes' names.
pub(super) const MAX_ENTRY_BYTES: usize = ENTRY_OVERHEAD_BYTES
    + streambox::limits::MAX_INLINE_PAYLOAD_BYTES
    + streambox::limits::MAX_INLINE_ENTRY_BYTES
    + streambox::limits::MAX_INLINE_ENTRY_BYTES / 24 * EVENT_OVERHEAD_BYTES;

/// The most that one read of events brings: a page of DynamoDB, of one append.
pub(super) const MAX_EVENTS_BYTES: usize =
    1024 * 1024 + streambox::limits::MAX_EVENTS_PER_APPEND * EVENT_OVERHEAD_BYTES;

pub(super) fn entry_bytes(entry: &PendingEntry) -> usize {
    ENTRY_OVERHEAD_BYTES + entry.events.iter().flatten().map(event_bytes).sum::<usize>()
}

pub(super) fn event_bytes(event: &OutboxEvent) -> usize {
    EVENT_OVERHEAD_BYTES + event.event_type.len() + event.payload.len()
}
