//! Skips, as plain data: what an operator asks for, what comes of it, and its record.

use std::str::FromStr;

use crate::{
    error::{Error, Invalid},
    schema::{self, PENDING_PREFIX},
    stream::{StreamId, excerpt},
};

/// An operator's word: which pending entry is not to be published, who says so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkipRequest {
    /// The stream, as it stands in the table: also an id that breaks the rules of a [`StreamId`].
    pub stream: String,
    /// The entry.
    pub target: SkipTarget,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether the append before the entry is given up as well, if neither its event nor its entry is in the table any more.
    pub gives_up_previous: bool,
}

impl SkipRequest {
    /// Asks to skip one entry, and nothing before it.
    #[must_use]
    pub fn new(
        stream: impl AsRef<str>,
        target: impl Into<SkipTarget>,
        by: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let (stream, target) = (stream.as_ref().to_owned(), target.into());
        Self { stream, target, by: by.into(), reason: reason.into(), gives_up_previous: false }
    }

    /// The same request, which gives up the append before the entry as well, if that is missing: it is unknown whether
    /// its events were published.
    #[must_use]
    pub fn giving_up_previous(self) -> Self {
        Self { gives_up_previous: true, ..self }
    }
}

/// Names a pending entry.
///
/// Exhaustive: an entry has a version or only its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipTarget {
    /// The entry that holds this version.
    Version(u64),
    /// The damaged entry that has this sort key, which is not `pending#` and a version of 20 digits.
    Key(String),
}

impl From<u64> for SkipTarget {
    fn from(version: u64) -> Self {
        Self::Version(version)
    }
}

impl FromStr for SkipTarget {
    type Err = Error;

    /// A version, or a sort key as messages name it. A key that is sound stands for its version.
    fn from_str(text: &str) -> Result<Self, Error> {
        let version = schema::parse_number(text).filter(|version| *version > 0);
        match version.or_else(|| schema::pending_last(text)) {
            Some(version) => Ok(Self::Version(version)),
            None if text.starts_with(PENDING_PREFIX) => Ok(Self::Key(text.to_owned())),
            None => Err(Invalid::SkipTarget { target: excerpt(text) }.into()),
        }
    }
}

/// The record of a skip.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skip {
    /// The stream.
    pub stream_id: StreamId,
    /// The first version of the entry that was removed; none if it could not be read.
    pub first: Option<u64>,
    /// Its last version; 0 if its sort key has none.
    pub last: u64,
    /// Its sort key, if that has no version.
    pub key: Option<String>,
    /// The last public version before it, if that was missing and given up, too.
    pub gave_up_previous: Option<u64>,
    /// When: milliseconds since the Unix epoch, by the clock of who did it.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The outcome of [`Outbox::skip`](super::Outbox::skip).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skipping {
    /// The entry is removed, and this is its record.
    Done(Skip),
    /// It was removed before. This is the first record; no second one was written.
    DoneBefore(Skip),
    /// An earlier entry of the stream is pending. Only the first can be skipped: a relay takes a missing entry as proof
    /// that everything up to it has been published.
    NotFirst {
        /// First and last version of the first pending entry; the first is unknown if it can't be read.
        first: (Option<u64>, u64),
    },
    /// The append before the entry is missing: neither its last public event nor its pending entry is in the table. Somebody has erased
    /// it, so it is unknown whether its events were published. Nothing was skipped; see
    /// [`SkipRequest::giving_up_previous`].
    PreviousMissing {
        /// First and last version of the entry that was to be skipped; the first is unknown if it can't be read.
        entry: (Option<u64>, u64),
        /// The last public version before it.
        previous: u64,
    },
    /// No pending entry holds the version, or has the sort key: it was published, or never appended, or is a private event.
    NotPending {
        /// First and last version of what is pending in the stream, at most ten entries; the first is unknown if an entry
        /// can't be read.
        pending: Vec<(Option<u64>, u64)>,
        /// Whether there are more behind them.
        has_more: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_named_by_a_version_or_by_its_sort_key() {
        let target = |text: &str| text.parse::<SkipTarget>().map_err(|error| error.to_string());
        assert_eq!(target("7"), Ok(SkipTarget::Version(7)));
        assert_eq!(target("pending#00000000000000000007"), Ok(SkipTarget::Version(7)));
        for key in ["pending#abc", "pending#7", "pending#+0000000000000000007", "pending#00000000000000000000"] {
            assert_eq!(target(key), Ok(SkipTarget::Key(key.to_owned())));
        }
        for wrong in ["0", "+7", "-1", "", "abc", "event#00000000000000000007", "snapshot"] {
            assert!(target(wrong).unwrap_err().contains("`pending#…`"), "{wrong}");
        }
    }
}
