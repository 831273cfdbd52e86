//! Aggregates: state that follows from events, and decisions on it.
//!
//! An [`Aggregate`] says how an event changes its state. A [`Repository`] loads it from its stream, lets a decision
//! look at the state, and appends the events that were decided on. If another writer was there first, it loads what
//! is new and asks again.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use streambox::aggregate::{Aggregate, DomainEvent, Repository, TaggedJson};
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(tag = "type", content = "data")]
//! enum OrderEvent {
//!     Placed { total_cents: u64 },
//!     Shipped,
//! }
//!
//! impl DomainEvent for OrderEvent {
//!     type Codec = TaggedJson;
//! }
//!
//! #[derive(Default, Clone, Serialize, Deserialize)]
//! struct Order {
//!     total_cents: Option<u64>,
//!     is_shipped: bool,
//! }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("the order has not been placed")]
//! struct NotPlaced;
//!
//! impl Order {
//!     fn ship(&self) -> Result<Option<OrderEvent>, NotPlaced> {
//!         self.total_cents.ok_or(NotPlaced)?;
//!         Ok((!self.is_shipped).then_some(OrderEvent::Shipped))
//!     }
//! }
//!
//! impl Aggregate for Order {
//!     type Event = OrderEvent;
//!     const CATEGORY: &'static str = "order";
//!
//!     fn apply(&mut self, event: &OrderEvent) {
//!         match event {
//!             OrderEvent::Placed { total_cents } => self.total_cents = Some(*total_cents),
//!             OrderEvent::Shipped => self.is_shipped = true,
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = streambox::testing::event_store().await;
//! let orders = Repository::<Order>::new(store);
//! let order = orders.load("4711").await?; // stream `order-4711`
//! orders.save(&order, [OrderEvent::Placed { total_cents: 4990 }]).await?;
//!
//! let shipped = orders.execute("4711", |order| order.ship()).await?;
//! assert!(shipped.loaded.state().is_shipped);
//! assert_eq!(shipped.loaded.version(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Events
//!
//! An event type is an enum that implements [`DomainEvent`] and names its codec. With [`TaggedJson`] it has serde's
//! `#[serde(tag = "type", content = "data")]`: the tag is stored as event type, the content as payload. The names are the stored
//! ones: rename a variant with `#[serde(rename = "…")]`, and old events still read. Other formats have an [`EventCodec`] of your own.
//!
//! What can't be read back is refused before anything is sent: a float that is not finite (JSON has none), a map whose
//! keys are not texts, a `skip_serializing` field without a default.
//!
//! # Old events
//!
//! Events are never rewritten. If their shape changes, [`Upcasters`] turn what is stored into what the program
//! knows, on read. An event whose type is not known is an error ([`Error::UnknownEvent`](crate::Error::UnknownEvent))
//! unless the aggregate [ignores](UnknownEvents::Ignore) it; its version counts all the same. Consumers get old events as they are
//! stored: [`Aggregate::decode`] reads them as a load does.
//!
//! # Decisions
//!
//! A decision is a function of the aggregate, state and version: it returns events, none if there is nothing to do, or an error.
//! It may run several times and is to have no effect of its own. [`Repository::execute`] calls it again after a conflict, by
//! default up to [`DEFAULT_EXECUTE_ATTEMPTS`] times. With a [`Decision`] it also asks for items of the caller's own and
//! appends to other streams in the same transaction, and returns a value to the caller.
//!
//! # Versions from outside
//!
//! [`CommandContext::expecting`] names the version that the sender of a command has seen: an HTTP request's `If-Match`. At any
//! other version the command ends with [`ExecuteError::Conflict`]. The `ETag` of the answer is [`Saved::version`].
//!
//! # Many commands on one stream
//!
//! Commands on one stream that come from one repository and its clones take turns, in the order in which they come, for a load and an
//! append each. Repositories of other processes race: one append wins, the others read on and decide again, after waits that grow.
//! A stream takes about as many commands a second as DynamoDB takes appends one after the other. If that is too few, the events
//! belong into several streams.
//!
//! # Commands that may come twice
//!
//! A command with an id ([`CommandContext::with_id`]) is stored once, although it is delivered several times: the id is the
//! append's id, and before the decision runs, the stream's newest events are searched for it; [`Repository::save_with`] searches
//! those up to the version that it was loaded at. A repeat gets the first result, and nothing is decided. What that covers, and
//! what it does not:
//!
//! - A repeat is recognised while fewer than the [deduplication window](RepositoryBuilder::deduplication_window)'s events (100 by
//!   default) have followed. Whether a snapshot or a cache is there makes no difference. `u64::MAX` looks through the
//!   whole stream. The window has to cover what one stream takes in while a command can still be repeated: at 2 events a second
//!   and retries for 10 minutes, 1,200. A repeat that comes later is carried out as a new command; its events have ids of their own.
//! - A command that stored no event leaves no trace: its repeat decides again.
//! - The same id may be used in different streams, and counts in each of them once.
//! - For ever: [`CommandContext::with_id_for_ever`] stores a marker with the id beside the events. It costs 2 write units, and in a
//!   stream that is longer than the window one read unit. A service that has only such commands sets the window to 0.
//!   Exports have no markers: in a table that was imported from one, repeats of what the old table has are not recognised.
//! - For ever, and at no cost: [`EventStore::append_with_id`](crate::EventStore::append_with_id) with the version that
//!   the caller has seen.
//!
//! Where the events looked through are not known from the load or the cache, they are read: one request, at most the
//! window's events.
//!
//! # Several aggregates in one transaction
//!
//! [`Repository::transaction`] begins an [`AggregateTransaction`], to which other aggregates' events, appends to other streams and items
//! of the caller's own are added. For one aggregate a [`Decision`] does the same, and is made again after a conflict.
//!
//! # Snapshots
//!
//! A snapshot is the state at some version, kept beside the events, so that a long stream need not be read from its
//! beginning: one request brings the snapshot and up to 15 events after it (see [`crate::snapshot`]). Every 100 events
//! by default, otherwise by a [`SnapshotPolicy`]; [`Repository::snapshot`] takes one at once.
//!
//! It is written by a task of its own after the append, which never waits for it nor fails with it. A newer one is
//! never overwritten. One that can't be read, was changed, is of another history of the stream, or of another
//! [`SCHEMA_VERSION`](Aggregate::SCHEMA_VERSION), is ignored and counted ([`Repository::stats`]): the events are the truth. **Raise the schema version whenever the
//! state's fields or `apply` change their meaning**; while two versions of a service run side by side, the newer one's
//! snapshots stand. With [`Never`] no snapshot is taken or read.
//!
//! # Cache
//!
//! On by default: it changes no result, and is bounded ([`CacheSettings`]). A cached stream costs one request for the event
//! that the state ends with and what is new behind it: one read unit if nothing is and that event has up to 4 KB. Where the
//! table no longer has that event, because it was restored or created again, the stream is loaded from its beginning. Concurrent loads of a stream share their requests, but none is answered
//! by a request that began before it was called. With an [allowed staleness](CacheSettings::staleness) a load may skip
//! even that request; what is executed on a stale state is still appended at the right place or decided again, and a
//! rejection is made sure of. In a table that was restored within the staleness, or between a load and its append, there is no
//! right place: stop the services that write before a restore.
//!
//! # Tests
//!
//! See the module `streambox::testing` (feature `testing`).

use serde::{Serialize, de::DeserializeOwned};

mod builder;
mod cache;
mod codec;
mod command;
mod counters;
mod decision;
mod entry;
mod error;
mod execute;
mod load;
mod queue;
mod recent;
mod replay;
mod repository;
mod snapshots;
mod transaction;
mod upcast;

pub use self::error::ExecuteError;
pub use crate::error::UnknownEvent;
pub use builder::{DEFAULT_DEDUPLICATION_WINDOW, DEFAULT_EXECUTE_ATTEMPTS, RepositoryBuilder};
pub use cache::{CacheSettings, DEFAULT_CACHE_BYTES, DEFAULT_CACHE_ENTRIES};
pub use codec::{DecodeError, DomainEvent, EventCodec, TaggedJson};
pub use command::{CommandContext, Saved};
pub use counters::RepositoryStats;
pub use decision::{Decision, IntoDecision};
pub use entry::Loaded;
pub use queue::MAX_QUEUED_COMMANDS;
pub(crate) use replay::Replay;
pub use repository::Repository;
pub use snapshots::{
    DEFAULT_SNAPSHOT_INTERVAL, EveryEvents, MAX_SNAPSHOTS_IN_FLIGHT, Never, OnDemand, SnapshotPoint, SnapshotPolicy,
    SnapshotResult,
};
pub use transaction::AggregateTransaction;
pub use upcast::{UpcastError, Upcasters};

/// State that follows from the events of a stream. See the [module](self).
///
/// It is serializable for the sake of snapshots, and so that the cache knows its size.
pub trait Aggregate: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What can happen to it.
    type Event: DomainEvent;

    /// Its kind: the stream of the aggregate `id` is `{CATEGORY}-{id}`. Not empty, without `-`.
    const CATEGORY: &'static str;

    /// The version of the state's shape and meaning. Snapshots of another one are ignored.
    const SCHEMA_VERSION: u32 = 1;

    /// What happens to an event whose type [`Event`](Self::Event) does not know.
    const UNKNOWN_EVENTS: UnknownEvents = UnknownEvents::Fail;

    /// Takes in what has happened. It can't fail: what is in the history has happened.
    fn apply(&mut self, event: &Self::Event);

    /// Whether an event is [private](crate::NewEvent::private): part of the history, and not for publication. None is by default.
    #[must_use]
    fn is_private(_event: &Self::Event) -> bool {
        false
    }

    /// How events of old shapes are read. None by default.
    #[must_use]
    fn upcasters() -> Upcasters {
        Upcasters::new()
    }

    /// The events that a stored one means today, from its type and its payload as they stand in the table, in a message or in an
    /// export: upcast, then decoded. Usually one; none if it is removed or [ignored](UnknownEvents::Ignore). It is what a repository
    /// does; do not implement it.
    ///
    /// # Errors
    /// [`DecodeError`]: the type is not known, or an upcaster or the codec can't read the payload.
    fn decode(event_type: &str, payload: &str) -> Result<Vec<Self::Event>, DecodeError> {
        Replay::<Self>::new().decode(event_type, payload)
    }
}

/// What happens to an event whose type the aggregate does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownEvents {
    /// The load fails with [`Error::UnknownEvent`](crate::Error::UnknownEvent).
    Fail,
    /// The event is passed over; its version counts. Right if the state does not depend on other services' events in
    /// the same stream. A snapshot does not know what was passed over: raise the schema version when the type becomes
    /// known.
    Ignore,
}
