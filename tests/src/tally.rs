//! Counts what a consumer receives, and checks the order of first deliveries.

use std::collections::{BTreeSet, HashMap};

/// What was received of a set of streams whose events were published from version 1 on.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    streams: HashMap<String, Seen>,
    distinct: u64,
    duplicates: u64,
    order_violations: Vec<(String, u64)>,
}

/// What was received of one stream.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The highest version.
    last: u64,
    /// The versions below it that were passed over.
    missing: BTreeSet<u64>,
}

impl Tally {
    /// Counts one message. A version whose predecessor has never been received breaks the order of first deliveries; one
    /// that was received before is a duplicate, wherever it comes.
    pub fn count(&mut self, stream: &str, version: u64) {
        let seen = self.streams.entry(stream.to_owned()).or_default();
        if version > seen.last {
            if version != seen.last + 1 {
                self.order_violations.push((stream.to_owned(), version));
                seen.missing.extend(seen.last + 1..version);
            }
            seen.last = version;
            self.distinct += 1;
        } else if seen.missing.remove(&version) {
            self.distinct += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// How many streams.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.streams.len() as u64
    }

    /// How many different events.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// How many messages of events that had been received before.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// All messages.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.distinct + self.duplicates
    }

    /// The events that were received before the one before them.
    #[must_use]
    pub fn order_violations(&self) -> &[(String, u64)] {
        &self.order_violations
    }

    /// The highest version received of a stream.
    #[must_use]
    pub fn last(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |seen| seen.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(versions: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for &version in versions {
            tally.count("order-1", version);
        }
        tally
    }

    #[test]
    fn late_duplicates_are_no_violation() {
        let tally = tally(&[1, 2, 1, 2, 3]);
        assert_eq!((tally.distinct(), tally.duplicates(), tally.order_violations().len()), (3, 2, 0));
    }

    #[test]
    fn an_event_before_its_predecessor_is_a_violation_and_counted_once() {
        let tally = tally(&[1, 3, 2, 3, 4]);
        assert_eq!((tally.distinct(), tally.duplicates()), (4, 1));
        assert_eq!(tally.order_violations(), [("order-1".to_owned(), 3)]);
    }
}
