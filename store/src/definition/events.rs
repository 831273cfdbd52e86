//! What the table of events has to be.

use crate::schema::{ENTITY, OUTBOX_INDEX, PENDING_SINCE, RECORDED_AT, STREAM_ID, TAKEN_AT};
use crate::table_definition::{IndexDefinition, TableDefinition};

impl TableDefinition {
    /// The table of an [`EventStore`](crate::EventStore).
    pub const EVENTS: Self = Self {
        keys: [STREAM_ID, ENTITY],
        index: IndexDefinition {
            name: OUTBOX_INDEX,
            title: "the index `outbox`",
            keys: [STREAM_ID, PENDING_SINCE],
            without: "nothing is published",
        },
        times: &[RECORDED_AT, PENDING_SINCE, TAKEN_AT],
    };
}
