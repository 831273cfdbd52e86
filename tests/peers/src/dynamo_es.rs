//! dynamo-es, the DynamoDB part of cqrs-es: events as the source of truth, without snapshots.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use cqrs_es::{
    Aggregate, DomainEvent, EventStore as _,
    event_sink::EventSink,
    persist::{EventStoreAggregateContext, PersistedEventStore},
};
use dynamo_es::DynamoEventRepository;
use serde::{Deserialize, Serialize};

use crate::side::{Appender, EVENT_TYPE, Placed, Side, create_table};

type Store = PersistedEventStore<DynamoEventRepository, Order>;

pub(crate) struct DynamoEs {
    store: Arc<Store>,
}

impl DynamoEs {
    pub(crate) async fn set_up(client: &Client) -> Self {
        create_table(client, "Events", "AggregateTypeAndId", Some("AggregateIdSequence")).await;
        let repository = DynamoEventRepository::new(client.clone());
        Self { store: Arc::new(PersistedEventStore::new_event_store(repository)) }
    }
}

#[async_trait(?Send)]
impl Side for DynamoEs {
    fn appender(&self, stream: u64) -> Box<dyn Appender> {
        Box::new(DynamoEsAppender { store: Arc::clone(&self.store), id: id(stream), sequence: 0 })
    }

    async fn load(&self, stream: u64) -> u64 {
        self.store.load_events(&id(stream)).await.expect("the engine answers").len() as u64
    }
}

struct DynamoEsAppender {
    store: Arc<Store>,
    id: String,
    sequence: usize,
}

#[async_trait(?Send)]
impl Appender for DynamoEsAppender {
    async fn append(&mut self) {
        let context = EventStoreAggregateContext {
            aggregate_id: self.id.clone(),
            aggregate: Order,
            current_sequence: self.sequence,
            current_snapshot: None,
        };
        self.store.commit(vec![Placed::new()], context, HashMap::new()).await.expect("the engine writes");
        self.sequence += 1;
    }
}

fn id(stream: u64) -> String {
    format!("{stream:04}")
}

/// Whose events they are. No command is carried out.
#[derive(Default, Serialize, Deserialize)]
struct Order;

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = ();
    type Event = Placed;
    type Error = Infallible;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&mut self, _: Placed) {}
}

impl DomainEvent for Placed {
    fn event_type(&self) -> String {
        EVENT_TYPE.to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
