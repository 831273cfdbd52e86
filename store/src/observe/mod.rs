//! What an observer of a service sees of its store: an observation after each operation, and spans.
//!
//! # Observations
//!
//! [`EventStoreBuilder::observe`](crate::EventStoreBuilder::observe) takes a function that is called after each operation with an
//! [`Observation`]: plain data for the counters and histograms of whatever metrics library the service uses. All its texts are
//! good labels: the operation, the outcome and the category are few; the stream id is not in it.
//!
//! There is one observation for each call of the service's, and none for what a call does inside: the load and the appends of a
//! [`Repository::execute`](crate::aggregate::Repository::execute) are in the observation of `execute`. So sums over all observations are right: no
//! request and no unit is in two of them. A load that shares another load's request has no request itself.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), streambox::Error> {
//! # let engine = streambox::testing::EmbeddedDynamoDb::start().await;
//! # let (client, table) = (engine.client(), engine.event_store().await.table().to_owned());
//! use std::{collections::HashMap, sync::{Arc, Mutex}, time::Duration};
//! use streambox::{EventStore, StreamId};
//!
//! /// With the crate `prometheus-client` this would be a `Family<Labels, Counter>`, and one of `Histogram` for the latency.
//! #[derive(Default)]
//! struct Operations(Mutex<HashMap<(&'static str, String, &'static str), (u64, Duration)>>);
//!
//! let operations = Arc::new(Operations::default());
//! let counted = Arc::clone(&operations);
//! let store = EventStore::builder(client, table)
//!     .observe(move |seen| {
//!         let labels = (seen.operation.as_str(), seen.category.clone(), seen.outcome.as_str());
//!         let mut operations = counted.0.lock().expect("nothing panics that holds it");
//!         let (count, latency) = operations.entry(labels).or_default();
//!         *count += 1;
//!         *latency += seen.latency;
//!     })
//!     .build();
//!
//! store.read(&StreamId::new("order-4711")?).await?;
//! let operations = operations.0.lock().expect("nothing panics that holds it");
//! assert_eq!(operations[&("read", "order".to_owned(), "ok")].0, 1);
//! # Ok(())
//! # }
//! ```
//!
//! What is not observed: [`verify`](crate::EventStore::verify), the operations of [`outbox`](crate::outbox), and those on the table's
//! definition. A stream id that breaks a rule is refused before the operation begins.
//!
//! # Spans
//!
//! Operations are spans of the crate `tracing`, of level `DEBUG` and target `streambox`, inner ones included: in a trace the load
//! and the appends of an `execute` are below it. A subscriber whose filter is `streambox=debug` sees them all; at `info` they
//! cost next to nothing. A span's name is `streambox.` and the operation:
//!
//! | span | is |
//! |---|---|
//! | `streambox.append` | an append to one stream, of the service's own or inside another operation |
//! | `streambox.transaction` | appends to several streams, or one with items of the caller's own |
//! | `streambox.read` | a whole stream |
//! | `streambox.page` | the next page of a reader or of a stream of events; one that needs no request has none |
//! | `streambox.position`, `streambox.exists`, `streambox.event` | one request |
//! | `streambox.load_snapshot` | the snapshot and what stands beside it; what comes behind is pages |
//! | `streambox.write_snapshot` | a raw snapshot, or one that a repository writes in the background |
//! | `streambox.load` | an aggregate, from wherever it comes |
//! | `streambox.save` | a repository's append at the place that was loaded |
//! | `streambox.execute` | a command, its wait for the turn included |
//! | `streambox.snapshot` | a snapshot that was asked for: load and write |
//! | `streambox.scan` | the next page of a scan of the table |
//!
//! Each has the same fields. All but the first are known when it ends:
//!
//! | field | is |
//! |---|---|
//! | `stream` | the stream id, of a transaction all of them; a value for traces, never for a metric's label |
//! | `outcome` | an [`Outcome`] |
//! | `requests`, `attempts`, `conflicts`, `read_units`, `write_units`, `events_read`, `events_written` | as in an [`Observation`], with all that is inside |
//!
//! Each conflict is an event `streambox.conflict` of level `DEBUG` with the fields `stream`, `expected` and `version`. It is an ordinary
//! outcome; how many there are is in the observation.

pub(crate) mod count;
mod spans;
mod watch;

use std::{sync::Arc, time::Duration};

pub(crate) use self::{spans::conflict, watch::Watch};
use crate::error::Error;

/// Gets the observations.
pub(crate) type Observer = Arc<dyn Fn(&Observation) + Send + Sync>;

/// What an operation has done. See the [module](self).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Observation {
    /// The operation.
    pub operation: Operation,
    /// The category of its stream; of a transaction, that of the first stream. Empty if it has none.
    pub category: String,
    /// How it has ended.
    pub outcome: Outcome,
    /// How many requests were sent. Each of them the SDK may have repeated.
    pub requests: u32,
    /// How often a decision was made, as [`Saved::attempts`](crate::aggregate::Saved::attempts) says it; 0 for an operation that is not a command.
    pub attempts: u32,
    /// How often another writer was first.
    pub conflicts: u32,
    /// From the call to its end, with all waiting.
    pub latency: Duration,
    /// The read units that DynamoDB has reported.
    pub read_units: f64,
    /// The write units that DynamoDB has reported. For a transaction that it refuses it reports none, although it counts them.
    pub write_units: f64,
    /// How many events were read, those included by which a cached state or a snapshot is verified.
    pub events_read: u64,
    /// How many events were written.
    pub events_written: u64,
}

/// Texts of the cases of an enum.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$case_doc])* $case,)*
        }

        impl $name {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$case),*];

            /// The name as a text, for a label: lower case, with underscores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$case => $text,)*
                }
            }
        }
    };
}

named! {
    /// An operation that is observed.
    Operation {
        /// An append to one stream: [`EventStore::append`](crate::EventStore::append), or a transaction of one append alone.
        Append = "append",
        /// A [`Transaction`](crate::Transaction), or one of [aggregates](crate::aggregate::AggregateTransaction).
        Transaction = "transaction",
        /// [`EventStore::read`](crate::EventStore::read).
        Read = "read",
        /// A page of an [`EventReader`](crate::EventReader), an [`EventStream`](crate::EventStream) or a
        /// [`SnapshotLoad`](crate::snapshot::SnapshotLoad) that was fetched.
        Page = "page",
        /// [`EventStore::position`](crate::EventStore::position).
        Position = "position",
        /// [`EventStore::exists`](crate::EventStore::exists).
        Exists = "exists",
        /// [`EventStore::event`](crate::EventStore::event).
        Event = "event",
        /// [`EventStore::load_snapshot`](crate::EventStore::load_snapshot).
        LoadSnapshot = "load_snapshot",
        /// [`EventStore::write_snapshot`](crate::EventStore::write_snapshot), by the service or by a repository in the background.
        WriteSnapshot = "write_snapshot",
        /// [`Repository::load`](crate::aggregate::Repository::load).
        Load = "load",
        /// [`Repository::save`](crate::aggregate::Repository::save).
        Save = "save",
        /// [`Repository::execute`](crate::aggregate::Repository::execute).
        Execute = "execute",
        /// [`Repository::snapshot`](crate::aggregate::Repository::snapshot).
        Snapshot = "snapshot",
        /// A page of one segment of a scan that was fetched; the category is the one that is scanned, empty for all.
        Scan = "scan",
    }
}

named! {
    /// How an operation has ended: the kinds of [`Error`] and of [`ExecuteError`](crate::aggregate::ExecuteError).
    Outcome {
        /// It is done; or there was nothing to do, or it had been done before.
        Ok = "ok",
        /// A stream was not at the expected version.
        Conflict = "conflict",
        /// A command gave up: other writers were first each time.
        Contended = "contended",
        /// The decision was against the command.
        Rejected = "rejected",
        /// The condition of an item of the caller's own did not hold.
        ItemRefused = "item_refused",
        /// The input can't be stored.
        Invalid = "invalid",
        /// DynamoDB did not answer in time, or had no capacity.
        Unavailable = "unavailable",
        /// Other transactions, or other commands, were in progress all the time.
        Busy = "busy",
        /// A setting, credentials, a permission or the table is wrong or missing.
        Configuration = "configuration",
        /// The table holds what this library never writes.
        Corrupt = "corrupt",
        /// An event of a type that the program does not know.
        UnknownEvent = "unknown_event",
        /// The caller dropped the future before it was done. What was sent may have been stored.
        Dropped = "dropped",
    }
}

/// An error of an operation.
pub(crate) trait Failure {
    fn outcome(&self) -> Outcome;
}

impl Failure for Error {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Conflict(_) => Outcome::Conflict,
            Self::Invalid(_) => Outcome::Invalid,
            Self::Unavailable { .. } => Outcome::Unavailable,
            Self::Busy { .. } => Outcome::Busy,
            Self::Configuration { .. } => Outcome::Configuration,
            Self::ItemRefused(_) => Outcome::ItemRefused,
            Self::Corrupt(_) => Outcome::Corrupt,
            Self::UnknownEvent(_) => Outcome::UnknownEvent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_span_in_the_table() {
        let docs = include_str!("mod.rs").lines().take_while(|line| line.starts_with("//!"));
        let table: String = docs.filter(|line| line.starts_with("//! | `streambox.")).collect();
        for operation in Operation::ALL {
            let name = format!("streambox.{}", operation.as_str());
            assert!(table.contains(&format!("`{name}`")), "{name} is not in the table");
            assert_eq!(spans::name(*operation), name);
        }
        assert_eq!(table.matches("`streambox.").count(), Operation::ALL.len());
    }

    #[test]
    fn a_case_is_named_as_it_is_written() {
        let snake = |case: &dyn std::fmt::Debug| {
            let name = format!("{case:?}");
            let letters = name.char_indices().map(|(at, letter)| match letter {
                upper if upper.is_uppercase() && at > 0 => format!("_{}", upper.to_lowercase()),
                letter => letter.to_lowercase().to_string(),
            });
            letters.collect::<String>()
        };
        assert!(Operation::ALL.iter().all(|operation| snake(operation) == operation.as_str()));
        assert!(Outcome::ALL.iter().all(|outcome| snake(outcome) == outcome.as_str()));
    }
}
