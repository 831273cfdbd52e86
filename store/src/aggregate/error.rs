//! What can go wrong with an aggregate beyond what can go wrong with a stream.

use crate::{
    error::{Conflict, Error},
    observe::{Failure, Outcome},
};

/// Why a command was not carried out.
///
/// Exhaustive: each is another answer to the sender (to HTTP: 409 or 422, 412, 503, and what the store's error says), and none is to be
/// forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The decision was against it. Nothing was written.
    #[error(transparent)]
    Rejected(E),

    /// A stream is not where the command or the decision expects it: the aggregate's, if the command
    /// [expects](super::CommandContext::expecting) a version; or another one that the decision appends to. Nothing was written.
    #[error(transparent)]
    Conflict(Box<Conflict>),

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

impl<E> Failure for ExecuteError<E> {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Rejected(_) => Outcome::Rejected,
            Self::Conflict(_) => Outcome::Conflict,
            Self::Contended { .. } => Outcome::Contended,
            Self::Store(error) => error.outcome(),
        }
    }
}

impl<E> ExecuteError<E> {
    /// Whether the same command may succeed later, unchanged. Repeat it with the same id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Contended { .. } => true,
            Self::Store(error) => error.is_retryable(),
            Self::Rejected(_) | Self::Conflict(_) => false,
        }
    }
}
