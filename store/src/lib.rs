//! An event store on DynamoDB whose every append is published.
//!
//! One transaction writes an append's events and a pending entry into the partition of their stream. A separate program,
//! `streambox-relay`, publishes what is pending to RabbitMQ, at least once and in stream order, and removes each entry
//! afterwards. So no event is lost between the database and the broker, and no transaction spans the two.
//!
//! The pattern is the one of the CQRS Journey's chapter on event stores (Microsoft patterns & practices, 2012), there on
//! Azure table storage.
//!
//! Begin with the example, continue with the [`guide`], and use [`aggregate`]s if decisions are made on a state. None of the
//! latter is obligatory: the plain store is complete in itself.
//!
//! ```no_run
//! use streambox::{EventStore, ExpectedVersion, NewEvent, StreamId, client_from_env};
//!
//! # async fn example() -> Result<(), streambox::Error> {
//! let store = EventStore::new(client_from_env().await, "streambox");
//! let order = StreamId::new("order-4711")?;
//!
//! let placed = NewEvent::json("OrderPlaced", &serde_json::json!({ "total_cents": 4990 }))?;
//! let appended = store.append(&order, ExpectedVersion::NoStream, [placed]).await?;
//!
//! let paid = NewEvent::json("OrderPaid", &serde_json::json!({ "method": "card" }))?;
//! store.append(&order, ExpectedVersion::At(appended.position), [paid]).await?;
//!
//! let history = store.read(&order).await?;
//! assert_eq!(history.position.version(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Dropped futures
//!
//! A future that is dropped, by a `timeout` or a `select!`, sends nothing more; what it has sent is not called back. So an append or a
//! command whose future was dropped may have been stored, as after [`Error::Unavailable`] with `outcome_unknown`: repeat it with the same
//! append id or command id. All of it is stored or nothing, in any case. A read leaves nothing behind. A command that waited for its turn
//! gives it to the next one; a snapshot that was begun is finished, since it is a task of its own.
//!
//! # Stability
//!
//! Public enums and structs can grow (`#[non_exhaustive]`) unless their documentation says why they do not. The foreign crates whose
//! types are part of the interface are re-exported, so that a service has their versions: [`aws_config`], [`aws_sdk_dynamodb`],
//! [`futures_core`], [`serde_json`], [`uuid`]. [`outbox`] and [`schema`] are for relays and for tools that read the table: they follow the stored
//! format, and may change in a minor version.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `credentials`: profiles of `aws sso login` and `aws login`, and those with a `credential_process`. Keys, and the roles of
//!   instances, containers and pods, need no feature.
//! - `testing`: for the tests of services: given/when/then, deliveries to a consumer, a store on an engine that runs elsewhere.
//! - `testing-engine`: `testing`, and an in-memory engine in the test process. It brings SQLite: see the module `testing`.
//! - `tune`: how often to take snapshots.
//! - `opentelemetry`: the current trace context.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod aggregate;
mod append;
mod authorities;
mod builder;
mod client;
mod definition;
mod error;
mod event;
mod failure;
// Only for rustdoc, so that nothing else needs the repository's documents to be there.
#[cfg(doc)]
pub mod guide {
    //! What a service team needs to know, a page a question. The pages are those of the repository, which has
    //! [more of them](https://github.com/streambox-rs/streambox/blob/main/docs/README.md), about the relay and its operation for example.

    #[doc = include_str!("../guide/aggregates.md")]
    pub mod aggregates {}
    #[doc = include_str!("../guide/consuming.md")]
    pub mod consuming {}
    #[doc = include_str!("../guide/store.md")]
    pub mod store {}
}
mod hook;
mod json;
pub mod limits;
pub mod message;
mod metadata;
mod misconfiguration;
pub mod observe;
pub mod outbox;
mod read;
mod retry;
mod scan;
pub mod schema;
pub mod snapshot;
mod store;
mod stream;
mod table;
mod table_definition;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
#[cfg(feature = "tune")]
pub mod tune;
mod verify;

pub use append::{Appended, Committed, Transaction};
/// The configuration that [`client()`] takes.
pub use aws_config;
/// Items of your own, and all that a client can be set to.
pub use aws_sdk_dynamodb;
/// The DynamoDB client that an [`EventStore`] is made from.
pub use aws_sdk_dynamodb::Client;
pub use builder::{DEFAULT_OPERATION_TIMEOUT, EventStoreBuilder};
pub use client::{
    REQUEST_TIMEOUT, RequestLimits, SILENCE_TIMEOUT, SLOWEST_UPLOAD_BYTES_PER_SECOND, behavior_version, client,
    client_from_env, client_from_env_with, client_with,
};
pub use definition::{
    CREATE_TABLE_TIMEOUT, TableCheck, TableCreation, TableDifference, TableNote, check_table, create_table, table_name,
};
pub use error::{Conflict, Corrupt, Error, Invalid, ItemRefused};
pub use event::{AppendRange, NewEvent, RecordedEvent};
pub use failure::TableRequest;
/// The `Stream` that [`EventStream`], [`EventScan`] and [`StreamScan`] are.
pub use futures_core;
pub use hook::StoredAppend;
pub use limits::MAX_SCAN_SEGMENTS;
pub use metadata::Metadata;
pub use misconfiguration::Misconfiguration;
pub use read::{Direction, EventReader, EventStream, GAP_READ_ATTEMPTS, History, ReadOptions};
pub use scan::{DEFAULT_SCAN_SEGMENTS, EventScan, SCAN_ATTEMPTS, ScanOptions, ScanToken, StreamScan, StreamSummary};
pub use schema::{Compression, DEFAULT_COMPRESSION_LEVEL, DEFAULT_COMPRESSION_THRESHOLD_BYTES};
/// Metadata and payloads as values.
pub use serde_json;
pub use store::EventStore;
pub use stream::{ExpectedVersion, StreamId, StreamIdError, StreamPosition};
pub use table_definition::{IndexDefinition, TableDefinition};
pub use trace::TraceContext;
/// Append and event ids; the name-based ones are made with `Uuid::new_v5`.
pub use uuid;
/// The type of append and event ids.
pub use uuid::Uuid;
pub use verify::{Fault, Finding, Verification, VerifiedCounts};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
