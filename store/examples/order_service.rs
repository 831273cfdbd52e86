//! A service that takes and ships orders: commands decide on the state, events are the truth.
//!
//! `cargo run -p streambox --features testing-engine --example order_service`
//!
//! The store is an in-memory engine, so that the example needs nothing else. A service makes its own with
//! `EventStore::new(client_from_env().await, "streambox")`; everything behind that line is the same.

use serde::{Deserialize, Serialize};
use streambox::{
    Metadata, Uuid,
    aggregate::{Aggregate, CommandContext, DomainEvent, ExecuteError, Repository, TaggedJson},
    testing,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum OrderEvent {
    Placed { customer: String, total_cents: u64 },
    Paid { method: String },
    Shipped,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum Order {
    #[default]
    New,
    Placed {
        total_cents: u64,
    },
    Paid,
    Shipped,
}

impl DomainEvent for OrderEvent {
    type Codec = TaggedJson;
}

/// Why a command is refused: what the service tells its caller.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the order has been placed already")]
    AlreadyPlaced,
    #[error("the order has not been placed")]
    NotPlaced,
    #[error("the order is not paid")]
    NotPaid,
}

/// The decisions: functions of the state, without I/O. They are tested with `testing::Given`.
impl Order {
    fn place(&self, customer: &str, total_cents: u64) -> Result<[OrderEvent; 1], Refused> {
        match self {
            Self::New => Ok([OrderEvent::Placed { customer: customer.to_owned(), total_cents }]),
            _ => Err(Refused::AlreadyPlaced),
        }
    }

    fn pay(&self, method: &str) -> Result<Option<OrderEvent>, Refused> {
        match self {
            Self::New => Err(Refused::NotPlaced),
            Self::Placed { .. } => Ok(Some(OrderEvent::Paid { method: method.to_owned() })),
            // A second payment message changes nothing.
            Self::Paid | Self::Shipped => Ok(None),
        }
    }

    fn ship(&self) -> Result<Option<OrderEvent>, Refused> {
        match self {
            Self::Paid => Ok(Some(OrderEvent::Shipped)),
            Self::Shipped => Ok(None),
            _ => Err(Refused::NotPaid),
        }
    }
}

impl Aggregate for Order {
    type Event = OrderEvent;
    const CATEGORY: &'static str = "order";

    fn apply(&mut self, event: &OrderEvent) {
        *self = match event {
            OrderEvent::Placed { total_cents, .. } => Self::Placed { total_cents: *total_cents },
            OrderEvent::Paid { .. } => Self::Paid,
            OrderEvent::Shipped => Self::Shipped,
        };
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = testing::event_store().await;
    let orders = Repository::<Order>::new(store.clone());

    // The command comes over a queue and may be delivered twice: its id makes the second time harmless.
    let place = CommandContext::new()
        .with_id(Uuid::parse_str("0197a3c2-5b1e-7d44-9f0a-6a1c2e8b7d30")?)
        .with_metadata(Metadata::new().with(Metadata::CORRELATION_ID, "checkout-9"));
    for _ in 0..2 {
        let placed = orders.execute_with("4711", &place, |order| order.place("customer-7", 4990)).await?;
        println!("placed: version {}, {:?}", placed.loaded.version(), placed.loaded.state());
    }

    // A command that the state forbids. Nothing is written.
    match orders.execute("4711", |order| order.ship()).await {
        Err(ExecuteError::Rejected(refused)) => println!("not shipped: {refused}"),
        other => panic!("an order that is not paid is not shipped: {other:?}"),
    }

    // Two instances of the service at the same time: one is first, the other decides again on what is there then.
    let other_instance = Repository::<Order>::new(store.clone());
    let (one, two) = tokio::join!(
        orders.execute("4711", |order| order.pay("card")),
        other_instance.execute("4711", |order| order.pay("card")),
    );
    println!("paid: version {}", one?.loaded.version().max(two?.loaded.version()));
    orders.execute("4711", |order| order.ship()).await?;

    for event in store.read(&"order-4711".parse()?).await?.events {
        println!("{} {} {}", event.version, event.event_type, event.payload);
    }
    Ok(())
}
