//! Damaged streams: which an export has met.

use std::fmt;

use serde::{Deserialize, Serialize};
use streambox::{Corrupt, Error, RecordedEvent};

use super::End;
use crate::output::note;

/// Most damaged streams that an export lists. A table with more needs another remedy than an export.
const MAX_DAMAGED_STREAMS: usize = 10_000;

/// A damaged stream, and the first that is wrong with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Damage {
    pub(super) stream: String,
    at: String,
    what: String,
}

impl Damage {
    pub(super) fn of_event(event: &RecordedEvent, what: String) -> Self {
        Self { stream: event.stream_id.as_str().to_owned(), at: format!("version {}", event.version), what }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}, {}: {}", self.stream, self.at, self.what)
    }
}

impl From<Corrupt> for Damage {
    fn from(Corrupt { stream, at, what }: Corrupt) -> Self {
        Self { stream: stream.as_str().to_owned(), at, what }
    }
}

/// The damage that an error is about; any other error ends the export.
pub(super) fn of(error: Error) -> Result<Damage, End> {
    match error {
        Error::Corrupt(corrupt) => Ok((*corrupt).into()),
        error => Err(End::Store(error)),
    }
}

/// Adds a stream to those that are damaged, and names it on standard error.
pub(super) fn add(damaged: &mut Vec<Damage>, damage: Damage, what_becomes_of_it: &str) -> Result<(), End> {
    if damaged.len() == MAX_DAMAGED_STREAMS {
        return Err(End::TooManyDamaged(MAX_DAMAGED_STREAMS));
    }
    note(&format!("damaged: {damage}; {what_becomes_of_it}"));
    damaged.push(damage);
    Ok(())
}
