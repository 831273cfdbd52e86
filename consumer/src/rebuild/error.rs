//! Why a rebuild, or a stream of it, was given up.

use std::error::Error;

use streambox::{Corrupt, ScanToken, StreamId};

/// Why a rebuild has ended early. What it has applied stays applied; it can be repeated from [`token`](Self::token) or, without one, from the
/// beginning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// A setting is not valid, the token does not fit, or the kept one can't be read. Nothing was read of the events.
    #[error("the rebuild can't begin")]
    Settings(#[source] streambox::Error),

    /// The table can't be read, for example since DynamoDB has not answered. Everything that was read before is applied.
    #[error("the table can't be read")]
    Read {
        /// Where to resume, if anything was read.
        token: Option<Box<ScanToken>>,
        /// What DynamoDB said.
        source: streambox::Error,
    },

    /// An event can't be applied, and its stream can't be parked: the projection names no inbox, or
    /// [as many](super::Rebuild::max_parked_streams) are parked as may be. Correct the projection, or what it writes to, and resume.
    #[error(
        "version {version} of stream {stream_id} can't be applied, {attempts} attempts have failed{}",
        after_parked(*.parked_streams)
    )]
    Apply {
        /// The stream.
        stream_id: StreamId,
        /// The event's version.
        version: u64,
        /// How often it was tried.
        attempts: u32,
        /// How many streams this run has left parked before.
        parked_streams: u64,
        /// Where to resume, if anything was applied before.
        token: Option<Box<ScanToken>>,
        /// What the last attempt has failed with.
        source: Box<dyn Error + Send + Sync>,
    },

    /// A stream of which an event can't be applied could not be parked: DynamoDB does not answer for the inbox, for example.
    #[error("stream {stream_id} can't be parked")]
    Park {
        /// The stream.
        stream_id: StreamId,
        /// Where to resume, if anything was applied before.
        token: Option<Box<ScanToken>>,
        /// What DynamoDB said.
        source: streambox::Error,
    },

    /// The projection has not applied what the token says: it is of another projection or generation, or was emptied since. Rebuild without
    /// the token. It is noticed only by chance, if the stream in which the scan was goes on.
    #[error(
        "the projection is at version {position} of stream {stream_id}, and should be at version {expected}: the token is of another \
         projection or generation, or the projection was changed meanwhile; rebuild without the token, which applies nothing twice"
    )]
    Behind {
        /// The stream.
        stream_id: StreamId,
        /// The version of its position.
        position: u64,
        /// The version that it must have, at least.
        expected: u64,
    },
}

impl RebuildError {
    /// Where to resume, if there is such a place.
    #[must_use]
    pub fn token(&self) -> Option<&ScanToken> {
        match self {
            Self::Read { token, .. } | Self::Apply { token, .. } | Self::Park { token, .. } => token.as_deref(),
            Self::Settings(_) | Self::Behind { .. } => None,
        }
    }
}

fn after_parked(streams: u64) -> String {
    match streams {
        0 => String::new(),
        1 => ", and 1 stream is parked already".to_owned(),
        streams => format!(", and {streams} streams are parked already: is something wrong with all of them?"),
    }
}

/// Why a stream is not complete in the projection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamProblem {
    /// An event of it is missing in the table or can't be read. What comes before it is applied.
    #[error(transparent)]
    Damaged(#[from] Corrupt),

    /// The projection has applied another event as this version than the table has: the table was restored to an earlier time, and the
    /// stream has another history since. Nothing of it was applied by this run. Fill a new generation.
    #[error(
        "stream {stream_id}: the projection has applied another event as version {version} than the table has, which was restored; fill a \
         new generation of the projection"
    )]
    OtherHistory {
        /// The stream.
        stream_id: StreamId,
        /// The version of the projection's position.
        version: u64,
    },

    /// An event of it can't be applied. It is parked, by this run or before: a consumer of the generation retries it, and applies it up
    /// to its newest event.
    #[error("stream {stream_id} is parked: {reason}")]
    Parked {
        /// The stream.
        stream_id: StreamId,
        /// Why the last attempt has failed.
        reason: String,
    },
}

impl StreamProblem {
    /// The stream.
    #[must_use]
    pub fn stream_id(&self) -> &StreamId {
        match self {
            Self::Damaged(corrupt) => &corrupt.stream,
            Self::OtherHistory { stream_id, .. } | Self::Parked { stream_id, .. } => stream_id,
        }
    }
}
