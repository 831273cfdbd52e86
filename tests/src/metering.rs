//! Capacity units: what each engine says that a request has consumed.
//!
//! The tests assert costs to the unit. Where an engine counts otherwise than AWS does, the difference stands here, by name,
//! and the assertion stays exact on either.

use crate::engine::is_embedded;

/// Names what the local stack has started (`localstack/README.md`).
const KIND_VARIABLE: &str = "STREAMBOX_DYNAMODB";

/// How an engine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// As AWS does: the embedded engine, and AWS itself.
    Aws,
    /// As DynamoDB Local 3.3 does, which LocalStack contains, too.
    DynamoDbLocal,
}

/// A put in a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Put {
    /// The write units of the item alone: one for each KB.
    pub units: f64,
    /// Whether the item is in the index, where it takes one unit more.
    pub is_indexed: bool,
}

impl Put {
    /// An event of up to 1 KB.
    pub const EVENT: Self = Self { units: 1.0, is_indexed: false };
    /// A pending entry, which never has more than 1 KB.
    pub const ENTRY: Self = Self { units: 1.0, is_indexed: true };

    /// An event of so many KB.
    #[must_use]
    pub const fn event_of(kilobytes: f64) -> Self {
        Self { units: kilobytes, is_indexed: false }
    }
}

impl Metering {
    /// That of the engine which the tests run on.
    #[must_use]
    pub fn of_tests() -> Self {
        let kind = std::env::var(KIND_VARIABLE).unwrap_or_default();
        match kind.as_str() {
            "dynamodb-local" | "localstack" if !is_embedded() => Self::DynamoDbLocal,
            _ => Self::Aws,
        }
    }

    /// The write units of a transaction of puts.
    #[must_use]
    pub fn transaction(self, puts: &[Put]) -> f64 {
        let units = |put: &Put| match self {
            // A transaction counts twice, the index does not.
            Self::Aws => 2.0 * put.units + f64::from(u8::from(put.is_indexed)),
            // The index counts twice as well.
            Self::DynamoDbLocal => 2.0 * (put.units + f64::from(u8::from(put.is_indexed))),
        };
        let mut each: Vec<_> = puts.iter().map(units).collect();
        if self == Self::DynamoDbLocal {
            // Of the puts that cost the same, it counts one.
            each.sort_by(f64::total_cmp);
            each.dedup();
        }
        each.iter().sum()
    }

    /// The write units of an append of events of up to 1 KB, the pending entry included.
    #[must_use]
    pub fn append(self, events: usize) -> f64 {
        let mut puts = vec![Put::EVENT; events];
        puts.push(Put::ENTRY);
        self.transaction(&puts)
    }

    /// The read units of a read that finds nothing, where AWS counts `units`.
    #[must_use]
    pub fn empty_read(self, units: f64) -> f64 {
        match self {
            Self::Aws => units,
            // It counts what was found.
            Self::DynamoDbLocal => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers")]
    fn an_append_costs_what_was_measured() {
        let large = [Put::event_of(5.0), Put::ENTRY];
        assert_eq!([1, 10, 99].map(|events| Metering::Aws.append(events)), [5.0, 23.0, 201.0]);
        assert_eq!(Metering::Aws.transaction(&large), 13.0);
        assert_eq!([1, 2, 99].map(|events| Metering::DynamoDbLocal.append(events)), [6.0, 6.0, 6.0]);
        assert_eq!(Metering::DynamoDbLocal.transaction(&large), 14.0);
        // An event of 2 KB costs there what the entry costs.
        assert_eq!(Metering::DynamoDbLocal.transaction(&[Put::event_of(2.0), Put::ENTRY]), 4.0);
    }
}
