//! Append: the events and their pending entry in one `TransactWriteItems`.
//!
//! Check the input and prepare the items (pure), send them until DynamoDB has decided, translate the decision (pure). The
//! condition on each item is that it does not exist yet. Where that fails, the item that DynamoDB returns tells whose it is:
//! the same append id at the same place means that this very append was stored before, anything else means that another
//! writer has the place. Since an event never changes, either answer holds for ever.
//!
//! An append to one stream is a transaction of one part; see [`Transaction`] for more of them.

mod cancelled;
mod check;
mod commit;
mod own;
mod prepare;
mod transaction;

use uuid::Uuid;

pub use self::transaction::{Committed, Transaction};
use crate::{
    event::{NewEvent, event_id},
    stream::{ExpectedVersion, StreamId, StreamPosition},
};

/// What an append has done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// The append's id.
    pub append_id: Uuid,
    /// The version of its first event.
    pub first_version: u64,
    /// Where the stream is now; the next append `At` this position needs no read.
    pub position: StreamPosition,
    /// When the events were recorded: milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
    /// Whether the very same append had been stored before; then this repeats the first result.
    pub already_stored: bool,
    /// The capacity units that the write consumed, those of the whole transaction; 0 where nothing was written by this call.
    pub write_units: f64,
}

impl Appended {
    /// The ids of its events, in order.
    pub fn event_ids(&self) -> impl Iterator<Item = Uuid> + '_ {
        let (stream, events) = (self.position.stream(), self.position.version() + 1 - self.first_version);
        (0..).take(usize::try_from(events).unwrap_or(usize::MAX)).map(|index| event_id(self.append_id, stream, index))
    }
}

/// The append to one stream within a transaction.
#[derive(Clone, Debug)]
struct Part {
    stream: StreamId,
    expected: ExpectedVersion,
    events: Vec<NewEvent>,
}

impl Part {
    /// Whether anything of it is to be published.
    fn has_entry(&self) -> bool {
        self.events.iter().any(|event| !event.is_private())
    }
}
