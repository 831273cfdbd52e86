//! A process manager: an order is placed, so a payment is requested; the payment is received, so the order is paid; or it times out, and the
//! order is cancelled. Its commands have ids that derive from the event, so that an event that comes again changes nothing.
//!
//! `cargo run -p streambox-consumer --example order_process`

use streambox::{
    Error, EventStore, ExpectedVersion, Metadata, NewEvent, StreamId,
    aws_sdk_dynamodb::types::TransactWriteItem,
    message::Received,
    testing::{EmbeddedDynamoDb, deliver_shuffled},
};
use streambox_consumer::{
    Applied, Context, Handler, HandlerError, Inbox, InboxProjection, Projection as _, create_inbox_table,
};

/// What follows from the events of orders and payments. It keeps no state of its own: that is in the streams.
struct OrderProcess {
    store: EventStore,
}

impl Handler for OrderProcess {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        let id = event.stream_id.id();
        match (event.stream_id.category(), event.event_type.as_str()) {
            ("order", "Placed") => self.request_payment(id, event, context).await?,
            ("payment", "Received") => self.end_order(id, "Paid", event, context).await?,
            // By whoever watches the clock: a scheduler appends it if nothing was received in time.
            ("payment", "TimedOut") => self.end_order(id, "Cancelled", event, context).await?,
            _ => {}
        }
        // No effect of its own, only the position.
        Ok(Vec::new())
    }
}

impl OrderProcess {
    async fn request_payment(&self, id: &str, event: &Received, context: &Context<'_>) -> Result<(), Error> {
        let (payment, command) = (StreamId::new(format!("payment-{id}"))?, context.command_id("request payment"));
        let requested = NewEvent::from_json_text("Requested", event.payload.as_str())?.with_metadata(caused_by(event));
        let appended = self.store.append_with_id(command, &payment, ExpectedVersion::NoStream, [requested]).await;
        match appended {
            // A payment that was requested by hand is one as well.
            Ok(_) | Err(Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The order ends once, whatever comes first. Two that decide at the same time name the same version, so one of them is refused, and
    /// its event is handled again.
    async fn end_order(&self, id: &str, end: &str, event: &Received, context: &Context<'_>) -> Result<(), Error> {
        let order = StreamId::new(format!("order-{id}"))?;
        let history = self.store.read(&order).await?;
        if history.events.iter().any(|event| matches!(event.event_type.as_str(), "Paid" | "Cancelled")) {
            return Ok(());
        }
        let (command, expected) = (context.command_id(end), ExpectedVersion::At(history.position));
        let ended = NewEvent::json(end, &())?.with_metadata(caused_by(event));
        self.store.append_with_id(command, &order, expected, [ended]).await?;
        Ok(())
    }
}

fn caused_by(event: &Received) -> Metadata {
    Metadata::caused_by_id(event.event_id, event.metadata.text(Metadata::CORRELATION_ID).as_deref())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = EmbeddedDynamoDb::start().await;
    let store = engine.event_store().await;
    for (order, total_cents) in [("order-1", 4990), ("order-2", 1250), ("order-3", 800)] {
        append(&store, order, NewEvent::json("Placed", &total_cents)?).await?;
    }
    create_inbox_table(&engine.client(), "inbox").await?;
    let inbox = Inbox::new(engine.client(), "inbox", "order-process")?;
    let process = inbox.projection(OrderProcess { store: store.clone() });

    deliver(&store, &process).await;
    // One customer pays, one does not, and one is late.
    append(&store, "payment-1", NewEvent::json("Received", &())?).await?;
    append(&store, "payment-2", NewEvent::json("TimedOut", &())?).await?;
    append(&store, "payment-3", NewEvent::json("TimedOut", &())?).await?;
    deliver(&store, &process).await;
    append(&store, "payment-3", NewEvent::json("Received", &())?).await?;
    deliver(&store, &process).await;
    show(&store).await?;

    // Every position is lost, as if the process had ended each time between the command and the position. Everything is handled again.
    create_inbox_table(&engine.client(), "empty-inbox").await?;
    let again = Inbox::new(engine.client(), "empty-inbox", "order-process")?;
    deliver(&store, &again.projection(OrderProcess { store: store.clone() })).await;
    println!("after all of it once more:");
    show(&store).await
}

/// As a relay and a broker deliver at their worst: repeated, and shuffled.
async fn deliver(store: &EventStore, process: &InboxProjection<OrderProcess>) {
    for seed in 0..3 {
        let receive = async |event: Received| {
            let applied = process.apply(&event, event.previous_version.unwrap_or(0)).await?;
            if applied == Applied::Moved {
                let position = process.position(&event.stream_id).await?;
                assert!(event.version <= position.version, "the events of a stream come in order");
            }
            Ok::<_, streambox_consumer::ApplyError>(())
        };
        deliver_shuffled(store, seed, receive).await;
    }
}

async fn append(store: &EventStore, stream: &str, event: NewEvent) -> Result<(), Error> {
    store.append(&StreamId::new(stream)?, ExpectedVersion::Any, [event]).await?;
    Ok(())
}

async fn show(store: &EventStore) -> Result<(), Box<dyn std::error::Error>> {
    for category in ["order", "payment"] {
        for number in 1..=3 {
            let history = store.read(&StreamId::new(format!("{category}-{number}"))?).await?;
            let types: Vec<_> = history.events.iter().map(|event| event.event_type.as_str()).collect();
            println!("{category}-{number}: {}", types.join(", "));
        }
    }
    Ok(())
}
