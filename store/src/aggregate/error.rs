//! What can go wrong with an aggregate beyond what can go wrong with a stream.

use crate::{
    error::{Conflict, Error},
    stream::StreamId,
};

/// A stored event whose type the program does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stream {stream}, version {version}: the event type {event_type:?} is not known; deploy the program that knows it, add an \
     upcaster, or let the aggregate ignore unknown events"
)]
pub struct UnknownEvent {
    /// The stream.
    pub stream: StreamId,
    /// The event's version.
    pub version: u64,
    /// Its type, as it is stored.
    pub event_type: String,
}

impl From<UnknownEvent> for Error {
    fn from(unknown: UnknownEvent) -> Self {
        Self::UnknownEvent(Box::new(unknown))
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError<E> {
    /// The decision was against it. Nothing was written.
    #[error(transparent)]
    Rejected(E),

    /// Other writers were there first each time. Nothing was written. Try again later, or find out who writes so much
    /// to one stream.
    #[error("gave up after {attempts} attempts, at each of which another writer was first: {conflict}")]
    Contended {
        /// How often the decision was made.
        attempts: u32,
        /// The last conflict.
        conflict: Box<Conflict>,
    },

    /// The stream could not be loaded or appended to.
    #[error(transparent)]
    Store(#[from] Error),
}
