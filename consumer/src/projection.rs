//! What an event does, and how far it has been done.

use std::{error::Error, future::Future};

use streambox::{StreamId, Uuid, message::Received};

use crate::Inbox;

/// How far a stream is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The version of the last event whose effect is stored; 0 if there is none.
    pub version: u64,
    /// The id of that event, if it is kept. By it the consumer notices that the events table was restored to an earlier time and that
    /// its history went on differently since.
    pub event_id: Option<Uuid>,
}

/// Whether an event's effect was stored.
///
/// Exhaustive: it was or it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Its effect and its version are stored, together.
    Stored,
    /// Nothing is stored: the stream's last version is not the expected one. Another consumer was faster, or this one assumed wrongly.
    Moved,
}

/// The effects of events, and the position of each stream beside them, in one database: both change in one transaction.
///
/// Effects in DynamoDB need no implementation of this: [`Inbox::projection`] makes one of a [`Handler`](crate::Handler). For any other database
/// implement the two methods.
pub trait Projection: Send + Sync + 'static {
    /// Why the database did not answer, or the event can't be applied.
    type Error: Error + Send + Sync + 'static;

    /// How far a stream is applied.
    fn position(&self, stream: &StreamId) -> impl Future<Output = Result<Position, Self::Error>> + Send;

    /// Stores the effect of an event, with `event.version` and `event.event_id` as the new position of its stream, in one transaction, if
    /// the version of the position is still `last_version` (0: there is no position). Otherwise it stores nothing, and returns
    /// [`Applied::Moved`].
    ///
    /// # Errors
    /// The event can't be applied now. Nothing is stored, and it is tried again later; until then nothing behind it in its stream is
    /// applied.
    fn apply(&self, event: &Received, last_version: u64) -> impl Future<Output = Result<Applied, Self::Error>> + Send;

    /// The inbox that parked streams are noted in, if there is one. Without it, the messages of a stream that can't be applied are kept
    /// unacknowledged.
    fn inbox(&self) -> Option<&Inbox> {
        None
    }
}
