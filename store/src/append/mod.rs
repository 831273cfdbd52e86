//! Append: the events and their pending entry in one `TransactWriteItems`.
//!
//! Check the input and prepare the items (pure), send them until DynamoDB has decided, translate the decision (pure). The
//! condition on each item is that it does not exist yet. If that fails, the item that DynamoDB returns shows whose it is:
//! the same append id at the same place means that this very append was stored before, anything else means that another
//! writer has the place. Since an event never changes, either answer holds for ever. A command that is recognised for ever has a
//! marker beside its events, whose key is its id: if that exists, the command was carried out, wherever its events stand.
//!
//! - `check.rs`: what is refused before anything is sent; `prepare.rs`: the items. Both are pure.
//! - `commit.rs` repeats three steps of a call (`call.rs`) until there is a result: `locate.rs`, where each append goes; `send.rs`,
//!   the request; `owner.rs`, whose the items are that were there before.
//! - `cancelled.rs`: what DynamoDB's reasons mean. Pure.
//! - `transaction.rs`: appends to several streams, and items of the caller's own.

mod call;
mod cancelled;
mod check;
mod commit;
mod locate;
mod owner;
mod prepare;
mod send;
mod transaction;

use std::time::SystemTime;

use uuid::Uuid;

pub(crate) use self::commit::{commit, stored_before};
pub use self::transaction::{Committed, Transaction};
use crate::{
    error::Error,
    event::{NewEvent, event_id, time_of},
    schema::Marker,
    stream::{ExpectedVersion, StreamId, StreamPosition},
    table::Table,
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
    /// The capacity units that the write consumed, those of the whole transaction; 0 if nothing was written by this call.
    pub write_units: f64,
}

impl Appended {
    /// The result of an append that had been stored before.
    pub(crate) fn stored_before(first_version: u64, position: StreamPosition, recorded_at_ms: i64) -> Self {
        let append_id = position.append_id().unwrap_or_default();
        Self { append_id, first_version, position, recorded_at_ms, already_stored: true, write_units: 0.0 }
    }

    /// The result of a command that had been carried out before, as its marker tells it.
    pub(crate) fn marked(table: &Table, stream: &StreamId, marker: &Marker) -> Self {
        let Marker { append, recorded_at_ms, newest_public } = *marker;
        let position = StreamPosition::after(table.full_name(), stream.clone(), append.last, append.id, newest_public);
        Self::stored_before(append.first, position, recorded_at_ms)
    }

    /// When the events were recorded, by this process's clock, in whole milliseconds; of an append that had been stored before, by the
    /// first appender's.
    #[must_use]
    pub fn recorded_at(&self) -> SystemTime {
        time_of(self.recorded_at_ms)
    }

    /// The ids of its events, in order.
    pub fn event_ids(&self) -> impl Iterator<Item = Uuid> + '_ {
        let versions = self.first_version..=self.position.version();
        versions.map(|version| event_id(self.append_id, self.position.stream(), version))
    }
}

/// The append to one stream within a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) stream: StreamId,
    expected: ExpectedVersion,
    events: Vec<NewEvent>,
    /// Whether a marker is stored with it, by which its repeat is recognised for ever.
    is_marked: bool,
}

impl Part {
    pub(crate) fn new(
        stream: &StreamId,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self {
        Self { stream: stream.clone(), expected, events: events.into_iter().collect(), is_marked: false }
    }

    pub(crate) fn marked(self, is_marked: bool) -> Self {
        Self { is_marked, ..self }
    }

    /// Whether anything of it is to be published.
    fn has_entry(&self) -> bool {
        self.events.iter().any(|event| !event.is_private())
    }

    /// The version of its last public event, if it goes behind version `behind`: the key of its pending entry.
    fn last_public(&self, behind: u64) -> u64 {
        let events = self.events.iter().rposition(|event| !event.is_private()).map_or(0, |place| place + 1);
        behind + events as u64
    }
}

/// Appends to one stream.
pub(crate) async fn append(
    table: &Table,
    append_id: Uuid,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: impl IntoIterator<Item = NewEvent>,
) -> Result<Appended, Error> {
    let part = Part::new(stream, expected, events);
    let mut results = commit(table, append_id, &mut [part], &[]).await?;
    Ok(results.swap_remove(0))
}
