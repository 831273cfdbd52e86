//! What a page of a scan has: rows, and which of its streams are damaged.

use super::{merge::Row, token::Progress};
use crate::{
    error::{Corrupt, Error},
    stream::StreamId,
};

#[derive(Debug)]
pub(super) enum Scanned<R> {
    Row(R),
    /// What is wrong with a stream. Nothing more comes of that stream.
    Damaged(Corrupt),
}

impl<R> Scanned<R> {
    pub(super) fn into_result(self) -> Result<R, Error> {
        match self {
            Self::Row(row) => Ok(row),
            Self::Damaged(corrupt) => Err(corrupt.into()),
        }
    }
}

impl<R: Row> Row for Scanned<R> {
    fn stream(&self) -> &StreamId {
        match self {
            Self::Row(row) => row.stream(),
            Self::Damaged(corrupt) => &corrupt.stream,
        }
    }

    fn progress(&self) -> Progress {
        match self {
            Self::Row(row) => row.progress(),
            Self::Damaged(corrupt) => Progress::behind_events(&corrupt.stream),
        }
    }
}
