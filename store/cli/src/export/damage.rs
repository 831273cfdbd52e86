//! Damaged streams: which an export has met.

use std::fmt;

use serde::{Deserialize, Serialize};
use streambox::{Corrupt, Error, RecordedEvent};
use streambox_programs::Failure;

use super::Stop;
use crate::output::note;

/// Most damaged streams that an export lists. A table with more needs another remedy than an export.
const MAX_DAMAGED_STREAMS: usize = 10_000;

/// A damaged stream, and the first fault in it.
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

/// The damage that an error is about; any other error ends the export.
impl TryFrom<Error> for Damage {
    type Error = Stop;

    fn try_from(error: Error) -> Result<Self, Stop> {
        let Error::Corrupt(corrupt) = error else { return Err(Stop::Store(error)) };
        let Corrupt { stream, at, what, .. } = *corrupt;
        Ok(Self { stream: stream.as_str().to_owned(), at, what })
    }
}

/// Adds a stream to those that are damaged, and names it on standard error.
pub(super) fn add(damaged: &mut Vec<Damage>, damage: Damage, what_becomes_of_it: &str) -> Result<(), Failure> {
    if damaged.len() == MAX_DAMAGED_STREAMS {
        return Err(Failure::new(format!(
            "more than {MAX_DAMAGED_STREAMS} streams are damaged, too many for an export. `streambox verify` lists what is wrong"
        )));
    }
    note(&format!("damaged: {damage}; {what_becomes_of_it}"));
    damaged.push(damage);
    Ok(())
}
