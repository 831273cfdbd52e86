//! A read model gets a new shape: its next generation is filled beside the current one, and readers switch to it when it is as new.
//!
//! A service does this at its start, with the number of the generation that its code writes. Each step can be repeated: a process that has
//! ended in the middle is started again, and continues.
//!
//! `cargo run -p streambox-consumer --example new_generation -- GENERATION CONSUMER EXCHANGE INBOX MODEL`

use std::{env, error::Error};

use indicatif::{ProgressBar, ProgressStyle};
use streambox::{
    EventStore,
    aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update},
    client_from_env,
    message::Received,
};
use streambox_consumer::{
    BadConfiguration, Consumer, Context, Handler, HandlerError, Inbox, InboxProjection, Queues, Rebuild, TlsFiles,
};
use tokio::signal::unix::{SignalKind, signal};

/// How many events each order has had. Each generation has items of its own.
struct EventCounts {
    table: String,
}

impl Handler for EventCounts {
    async fn handle(&self, event: &Received, context: &Context<'_>) -> Result<Vec<TransactWriteItem>, HandlerError> {
        let count = Update::builder()
            .table_name(&self.table)
            .key("key", AttributeValue::S(format!("{}#{}", context.generation(), event.stream_id)))
            .update_expression("ADD event_count :one")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .build()?;
        Ok(vec![TransactWriteItem::builder().update(count).build()])
    }
}

struct Service {
    url: String,
    store: EventStore,
    inbox: Inbox,
    exchange: String,
    model: String,
}

impl Service {
    /// Starts the consumer of a generation, and brings readers to it if they use the one before.
    async fn start(&self, generation: u32) -> Result<Consumer, Box<dyn Error>> {
        let current = self.inbox.current_generation().await?;
        let consumer = if current == generation {
            self.consumer(generation)?
        } else {
            // Readers use it until the switch, so it goes on.
            let former = self.consumer(current)?;
            // From now on the new queue collects what is published. What was published before is in the table.
            self.queues(generation)?.declare(&self.url, TlsFiles::default()).await?;
            println!("declared");
            self.fill(generation, current).await?;
            let consumer = self.consumer(generation)?;
            consumer.caught_up().await?;
            println!("caught up");
            // Both are as new as each other.
            self.inbox.switch_generation(generation).await?;
            println!("switched");
            former.stop().await?;
            consumer
        };
        // Also if an earlier process has ended before it came to this.
        if generation > 1 {
            self.queues(generation - 1)?.delete(&self.url, TlsFiles::default()).await?;
        }
        Ok(consumer)
    }

    async fn fill(&self, generation: u32, current: u32) -> Result<(), Box<dyn Error>> {
        let inbox = self.inbox.clone().generation(generation);
        // As many events as the last rebuild has read, and a bar without an end if there was none.
        let expected = self.inbox.clone().generation(current).rebuild_progress().await?;
        let bar = expected.map_or_else(ProgressBar::no_length, |last| ProgressBar::new(last.events));
        let before = inbox.rebuild_progress().await?.map_or(0, |progress| progress.events);
        bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} events  {msg}  {elapsed}")?);
        let projection = self.projection(generation);
        let report = Rebuild::new(&self.store, &projection)
            .category("order")
            .keep_progress(&inbox)
            .on_progress(|status| {
                bar.set_position(before + status.events);
                bar.set_message(format!("{} streams, {} parked", status.streams, status.parked_streams));
            })
            .run()
            .await?;
        bar.finish_and_clear();
        println!("filled with {} events", report.applied);
        // The consumer of the generation retries what is parked.
        for problem in &report.problems {
            eprintln!("{problem}");
        }
        Ok(())
    }

    fn consumer(&self, generation: u32) -> Result<Consumer, BadConfiguration> {
        let builder = Consumer::builder(&self.url, self.queues(generation)?, self.projection(generation));
        builder.store(self.store.clone()).declare_queues().spawn()
    }

    fn queues(&self, generation: u32) -> Result<Queues, BadConfiguration> {
        let name = format!("{}-{generation}", self.inbox.consumer());
        Queues::new(name)?.exchange(&self.exchange)?.category("order")
    }

    fn projection(&self, generation: u32) -> InboxProjection<EventCounts> {
        self.inbox.clone().generation(generation).projection(EventCounts { table: self.model.clone() })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [generation, consumer, exchange, inbox, model] = &arguments[..] else {
        return Err("usage: new_generation GENERATION CONSUMER EXCHANGE INBOX MODEL".into());
    };
    let (client, generation) = (client_from_env().await, generation.parse()?);
    let service = Service {
        url: env::var("STREAMBOX_AMQP_URL")?,
        store: EventStore::new(client.clone(), env::var("STREAMBOX_TABLE")?),
        inbox: Inbox::new(client, inbox, consumer)?,
        exchange: exchange.clone(),
        model: model.clone(),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut consumer = tokio::select! {
        consumer = service.start(generation) => consumer?,
        // The next process goes on.
        _ = terminate.recv() => return Ok(()),
    };
    println!("generation {generation} is current");
    tokio::select! {
        error = consumer.ended() => return Err(error.into()),
        _ = terminate.recv() => {}
    }
    consumer.stop().await?;
    Ok(())
}
