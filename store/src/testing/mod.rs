//! How to test a service that keeps its history in streambox. Feature `testing`, for `[dev-dependencies]`.
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
//! in-memory DynamoDB inside the test process (the crate dynoxide), each with a table of its own. Conflicts, repeats,
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
//! **Consumers need no broker.** [`deliver`] gives a handler what a relay and a broker would deliver of a store's events, each as a
//! [`Received`](crate::message::Received); [`deliver_shuffled`] does it in the worst ways that the relay permits: repeated, begun again from
//! earlier events, interleaved. [`recorded`] and [`received`] make a single event, without a store:
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

mod deliver;
mod engine;
mod given;
mod recorded;

pub use deliver::{deliver, deliver_shuffled};
pub use engine::{EmbeddedDynamoDb, event_store};
pub use given::{Given, Outcome};
pub use recorded::{received, recorded};
