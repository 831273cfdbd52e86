//! streambox, as its guide shows it.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use streambox::{EventStore, ExpectedVersion, NewEvent, StreamId, StreamPosition, create_table};

use crate::side::{Appender, EVENT_TYPE, Placed, Side};

/// The table's name.
pub(crate) const TABLE: &str = "streambox";

pub(crate) struct Streambox {
    store: EventStore,
    is_private: bool,
}

impl Streambox {
    pub(crate) async fn set_up(client: &Client, is_private: bool) -> Self {
        create_table(client, TABLE).await.expect("the engine creates tables");
        Self { store: EventStore::new(client.clone(), TABLE), is_private }
    }
}

#[async_trait(?Send)]
impl Side for Streambox {
    fn appender(&self, stream: u64) -> Box<dyn Appender> {
        let position = StreamPosition::start(id(stream));
        Box::new(StreamboxAppender { store: self.store.clone(), position, is_private: self.is_private })
    }

    async fn load(&self, stream: u64) -> u64 {
        let history = self.store.read(&id(stream)).await.expect("the stream is whole");
        let events: Vec<Placed> =
            history.events.iter().map(|event| event.payload().expect("the event that was appended")).collect();
        events.len() as u64
    }
}

struct StreamboxAppender {
    store: EventStore,
    position: StreamPosition,
    is_private: bool,
}

#[async_trait(?Send)]
impl Appender for StreamboxAppender {
    async fn append(&mut self) {
        let event = NewEvent::json(EVENT_TYPE, &Placed::new()).expect("a valid event");
        let event = if self.is_private { event.private() } else { event };
        let at = ExpectedVersion::At(self.position.clone());
        let appended = self.store.append(self.position.stream(), at, [event]).await.expect("the append works");
        self.position = appended.position;
    }
}

pub(crate) fn id(stream: u64) -> StreamId {
    StreamId::new(format!("order-{stream:04}")).expect("a valid stream id")
}
