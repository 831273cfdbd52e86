//! A service with its relay inside: what it appends is published right after it, and no other process is needed.
//!
//! ```sh
//! export STREAMBOX_TABLE=streambox STREAMBOX_AMQP_URL=amqp://127.0.0.1:5672/%2f
//! cargo run -p streambox-relay --example service_with_relay -- order-1 order-2     # places two orders
//! ```
//!
//! Several of them on one table share the streams, with each other and with `streambox-relay run`. A stream that belongs to another
//! worker is published by that one, at its next look.

use std::{env, error::Error};

use streambox::{EventStore, ExpectedVersion, NewEvent, StreamId, client_from_env, serde_json::json};
use streambox_relay::{Relay, Unroutable};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (client, table) = (client_from_env().await, env::var("STREAMBOX_TABLE")?);
    let mut relay = Relay::builder(EventStore::new(client.clone(), &table), env::var("STREAMBOX_AMQP_URL")?)
        .exchange(env::var("STREAMBOX_EXCHANGE").unwrap_or_else(|_| "streambox".to_owned()))
        // The example is to end although nobody listens.
        .unroutable(Unroutable::Accept)
        .spawn()?;
    // Each append wakes the relay.
    let store = EventStore::builder(client, &table).on_append(relay.waker()).build();

    let served = tokio::select! {
        served = serve(&store) => served,
        // It ends by itself only if table or broker refuse it, or by a fault: the service decides what that means.
        error = relay.ended() => return Err(error.into()),
    };
    // Before the process ends: what is in flight is finished, and the group knows at once that this worker is gone.
    let summary = relay.stop().await?;
    println!("published {} events", summary.published);
    served
}

/// The service: here its requests are the arguments.
async fn serve(store: &EventStore) -> Result<(), Failure> {
    for order in env::args().skip(1) {
        let placed = NewEvent::json("OrderPlaced", &json!({ "total_cents": 4990 }))?;
        store.append(&StreamId::new(&order)?, ExpectedVersion::NoStream, [placed]).await?;
        println!("placed {order}");
    }
    Ok(())
}
