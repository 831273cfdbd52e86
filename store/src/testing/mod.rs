//! How to test a service that keeps its history in streambox. Features `testing` and `testing-engine`, for `[dev-dependencies]`.
//!
//! **Decisions need no database.** [`Given`] puts an aggregate into the state that some events give it, runs one
//! decision, and checks what came of it:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use streambox::{aggregate::{Aggregate, DomainEvent, TaggedJson}, testing::Given};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
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
//!     is_placed: bool,
//!     is_shipped: bool,
//! }
//!
//! #[derive(Debug, PartialEq)]
//! struct NotPlaced;
//!
//! impl Order {
//!     fn ship(&self) -> Result<Option<OrderEvent>, NotPlaced> {
//!         match (self.is_placed, self.is_shipped) {
//!             (false, _) => Err(NotPlaced),
//!             (true, false) => Ok(Some(OrderEvent::Shipped)),
//!             (true, true) => Ok(None),
//!         }
//!     }
//! }
//!
//! impl Aggregate for Order {
//!     type Event = OrderEvent;
//!     const CATEGORY: &'static str = "order";
//!
//!     fn apply(&mut self, event: &OrderEvent) {
//!         match event {
//!             OrderEvent::Placed { .. } => self.is_placed = true,
//!             OrderEvent::Shipped => self.is_shipped = true,
//!         }
//!     }
//! }
//!
//! let placed = || OrderEvent::Placed { total_cents: 4990 };
//! Given::<Order>::events([placed()]).when(|order| order.ship()).then([OrderEvent::Shipped]);
//! Given::<Order>::events([placed(), OrderEvent::Shipped]).when(|order| order.ship()).then_nothing();
//! Given::<Order>::nothing().when(|order| order.ship()).then_error(NotPlaced);
//! ```
//!
//! Events that old versions of the service have stored are tested as they stand in the table: [`Given::stored`].
//!
//! **Everything else runs on a real engine.** [`event_store`] gives an [`EventStore`](crate::EventStore) on an
//! in-memory DynamoDB inside the test process (the crate dynoxide, feature `testing-engine`), each with a table of its own. Conflicts, repeats,
//! snapshots and caches are what they are in production:
//!
//! ```
//! use streambox::{ExpectedVersion, NewEvent, StreamId, testing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), streambox::Error> {
//! let store = testing::event_store().await;
//! let order = StreamId::new("order-4711")?;
//! store.append(&order, ExpectedVersion::NoStream, [NewEvent::json("Placed", &())?]).await?;
//! assert_eq!(store.read(&order).await?.position.version(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! **Consumers need no broker.** [`deliver()`] gives a handler what a relay and a broker would deliver of a store's events, each as a
//! [`Received`](crate::message::Received); [`deliver_shuffled`] does it in the worst ways that the relay permits: repeated, begun again from
//! earlier events, interleaved. [`recorded()`] and [`received`] make a single event, without a store:
//!
//! ```
//! use streambox::{ExpectedVersion, NewEvent, StreamId, message::Received, testing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), streambox::Error> {
//! let store = testing::event_store().await;
//! let order = StreamId::new("order-4711")?;
//! store.append(&order, ExpectedVersion::NoStream, [NewEvent::json("Placed", &())?]).await?;
//!
//! let mut placed = Vec::new();
//! testing::deliver(&store, async |event: Received| {
//!     placed.push(event.stream_id);
//!     Ok::<_, streambox::Error>(())
//! })
//! .await;
//! assert_eq!(placed, [order]);
//! # Ok(())
//! # }
//! ```
//!
//! What the engine does not show: throttling, `TransactionConflict`, an index that lags. Code that retries after
//! [`Error::Unavailable`](crate::Error::Unavailable) needs a fake of its own.
//!
//! # SQLite beside the engine
//!
//! The engine of `testing-engine` keeps its tables in SQLite: libsqlite3-sys 0.34, by way of rusqlite 0.36. Cargo permits one version of
//! libsqlite3-sys in a dependency graph, dev-dependencies included, and so refuses crates that need another one:
//!
//! | crate | resolves beside `testing-engine` | does not |
//! |---|---|---|
//! | rusqlite | 0.36 | 0.31 to 0.35, 0.37 to 0.39 |
//! | sqlx | 0.9; 0.8 without default features, and without `sqlite`, `any` and `migrate` | 0.7; 0.8 with its default features, whatever the database |
//! | sea-orm | 2.0.0-rc | 1 |
//! | diesel | 2.3, SQLite included | |
//!
//! The feature `testing` alone brings no SQLite, and resolves beside all of them. [`event_store`] then takes the end point of a local
//! engine from the environment variable [`ENDPOINT_VARIABLE`], for example of AWS's DynamoDB Local:
//!
//! ```sh
//! docker run --detach --publish 8000:8000 amazon/dynamodb-local
//! STREAMBOX_TEST_DYNAMODB_URL=http://127.0.0.1:8000 cargo test
//! ```
//!
//! If the variable is set, it is used with either feature.

mod deliver;
#[cfg(feature = "testing-engine")]
mod engine;
mod given;
mod local;
mod recorded;
mod store;

pub use deliver::{deliver, deliver_shuffled};
#[cfg(feature = "testing-engine")]
pub use engine::EmbeddedDynamoDb;
pub use given::{Given, Outcome};
pub use recorded::{received, recorded};
pub use store::{ENDPOINT_VARIABLE, event_store};
