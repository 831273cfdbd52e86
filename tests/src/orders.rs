//! An aggregate to test with: an order that counts its items, and remembers what was done to it.

use serde::{Deserialize, Serialize};
use streambox::aggregate::{Aggregate, DomainEvent, Repository, RepositoryBuilder, Saved, TaggedJson};

use crate::engine::TestTable;

/// What can happen to an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum OrderEvent {
    /// Number of items added.
    ItemsAdded {
        /// How many.
        items: u64,
    },
    /// A weight was taken, in kilograms.
    Weighed(f64),
    /// It was shipped.
    Shipped,
}

impl DomainEvent for OrderEvent {
    type Codec = TaggedJson;
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The sum of all items added.
    pub items: u64,
    /// Of all events a digest that depends on their order.
    pub digest: u64,
    /// Whether it was shipped.
    pub is_shipped: bool,
    /// What makes the state large.
    pub note: String,
}

/// Why an order can't be shipped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It is empty.
    #[error("the order has no items")]
    Empty,
    /// It was shipped before.
    #[error("the order was shipped before")]
    Shipped,
}

impl Order {
    /// Adds items.
    ///
    /// # Errors
    /// It was shipped.
    pub fn add(&self, items: u64) -> Result<Vec<OrderEvent>, Refusal> {
        if self.is_shipped { Err(Refusal::Shipped) } else { Ok(vec![OrderEvent::ItemsAdded { items }]) }
    }

    /// Ships it; once more is nothing to do.
    ///
    /// # Errors
    /// It is empty.
    pub fn ship(&self) -> Result<Option<OrderEvent>, Refusal> {
        match self.items {
            0 => Err(Refusal::Empty),
            _ => Ok((!self.is_shipped).then_some(OrderEvent::Shipped)),
        }
    }
}

impl Aggregate for Order {
    type Event = OrderEvent;
    const CATEGORY: &'static str = "order";

    fn apply(&mut self, event: &OrderEvent) {
        let number = match event {
            OrderEvent::ItemsAdded { items } => {
                self.items += items;
                *items
            }
            OrderEvent::Weighed(kilograms) => kilograms.to_bits(),
            OrderEvent::Shipped => {
                self.is_shipped = true;
                1
            }
        };
        self.digest = self.digest.wrapping_mul(31).wrapping_add(number);
    }
}

/// A repository over a table's wire.
#[must_use]
pub fn orders(table: &TestTable) -> RepositoryBuilder<Order> {
    Repository::builder(table.store.clone())
}

/// Appends events of one item each to the order `id`, one append for each size.
///
/// # Panics
/// If an append fails.
pub async fn fill(repository: &Repository<Order>, id: &str, appends: impl IntoIterator<Item = usize>) -> Saved<Order> {
    let mut saved = None;
    let mut order = repository.load(id).await.expect("the order loads");
    for events in appends {
        let added = repository.save(&order, vec![OrderEvent::ItemsAdded { items: 1 }; events]).await;
        let added = added.expect("nobody else writes");
        order = added.loaded.clone();
        saved = Some(added);
    }
    saved.expect("at least one append")
}
