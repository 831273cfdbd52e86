//! Capacity units: what each engine says that a request has consumed.
//!
//! The tests assert costs to the unit. Where an engine counts otherwise than AWS does, the difference stands here, by name,
//! and the assertion stays exact on either.

use streambox::{Client, Compression, EventStore, ExpectedVersion, NewEvent, create_table};
use tokio::sync::OnceCell;

use crate::{
    basics::{event, stream},
    mode::Mode,
    unique,
};

/// What the engine that the tests share was seen to count like.
static LEARNED: OnceCell<Metering> = OnceCell::const_new();

/// How an engine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// As AWS does: the embedded engine, and AWS itself.
    Aws,
    /// As MiniStack 1.5 does: writes as AWS, but a page that is read counts one unit, whatever is in it.
    MiniStack,
    /// As DynamoDB Local 3.3 does, which LocalStack contains, too.
    DynamoDbLocal,
}

/// A put in a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Put {
    /// The write units of the item alone: one for each KB.
    pub units: f64,
    /// Whether the item is in the index, which costs one unit more.
    pub is_indexed: bool,
}

impl Put {
    /// An event of up to 1 KB.
    pub const EVENT: Self = Self { units: 1.0, is_indexed: false };
    /// A pending entry, which never has more than 1 KB.
    pub const ENTRY: Self = Self { units: 1.0, is_indexed: true };

    /// The marker of a command.
    pub const MARKER: Self = Self { units: 1.0, is_indexed: false };

    /// An event of this many KB.
    #[must_use]
    pub const fn event_of(kilobytes: f64) -> Self {
        Self { units: kilobytes, is_indexed: false }
    }
}

impl Metering {
    /// That of the engine which the tests run on.
    ///
    /// # Panics
    /// If the test has no table yet: creating one is what [`learn`](Self::learn)s it.
    #[must_use]
    pub fn of_tests() -> Self {
        if Mode::is_embedded() { Self::Aws } else { *LEARNED.get().expect("a table was created") }
    }

    /// Finds out, once, how an engine counts: an address does not say what answers there. An append and a read tell.
    ///
    /// # Panics
    /// If it does not answer, or counts in no known way.
    pub async fn learn(client: &Client) {
        let ask = Box::pin(async {
            let table = unique("metering");
            create_table(client, &table).await.expect("the engine creates tables");
            let store = EventStore::builder(client.clone(), &table).compression(Compression::Off).build();
            let (order, large) =
                (stream("order-1"), NewEvent::json("Grown", &"x".repeat(5_000)).expect("a valid event"));
            let small = store.append(&order, ExpectedVersion::NoStream, [event(1)]).await.expect("an append works");
            store.append(&order, ExpectedVersion::At(small.position), [large]).await.expect("an append works");
            let read = store.read(&order).await.expect("a read works");
            client.delete_table().table_name(&table).send().await.expect("the engine deletes tables");
            // Of 5 KB and a little.
            let units = (small.write_units, read.read_units);
            let is = |metering: &Self| {
                let expected = (metering.append(1), metering.read(2.0));
                (expected.0 - units.0).abs() + (expected.1 - units.1).abs() < 1e-9
            };
            let known = [Self::Aws, Self::MiniStack, Self::DynamoDbLocal].into_iter().find(is);
            known
                .unwrap_or_else(|| panic!("the engine counts {units:?}, write and read units, which no known one does"))
        });
        LEARNED.get_or_init(|| ask).await;
    }

    /// The write units of a transaction of puts into one table.
    #[must_use]
    pub fn transaction(self, puts: &[Put]) -> f64 {
        let units = |put: &Put| match self {
            // A transaction counts twice, the index does not.
            Self::Aws | Self::MiniStack => 2.0 * put.units + f64::from(u8::from(put.is_indexed)),
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

    /// Whether it counts what is read; else a page costs a unit, and tests have nothing to measure.
    #[must_use]
    pub fn counts_what_is_read(self) -> bool {
        self != Self::MiniStack
    }

    /// The read units of one page, where AWS counts `units`.
    #[must_use]
    pub fn read(self, units: f64) -> f64 {
        if self.counts_what_is_read() { units } else { units.min(1.0) }
    }

    /// The read units of a read that finds nothing, where AWS counts `units`.
    #[must_use]
    pub fn empty_read(self, units: f64) -> f64 {
        match self {
            Self::Aws | Self::MiniStack => units,
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
        assert_eq!(Metering::MiniStack.transaction(&large), 13.0);
        assert_eq!([0.5, 1.0, 7.0].map(|units| Metering::MiniStack.read(units)), [0.5, 1.0, 1.0]);
        assert_eq!([1, 2, 99].map(|events| Metering::DynamoDbLocal.append(events)), [6.0, 6.0, 6.0]);
        assert_eq!(Metering::DynamoDbLocal.transaction(&large), 14.0);
        // An event of 2 KB costs there what the entry costs.
        assert_eq!(Metering::DynamoDbLocal.transaction(&[Put::event_of(2.0), Put::ENTRY]), 4.0);
    }
}
