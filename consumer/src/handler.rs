//! What an event does in DynamoDB.

use std::{error::Error, future::Future};

use aws_sdk_dynamodb::types::TransactWriteItem;
use streambox::{Uuid, message::Received};

/// Why an event can't be handled now.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// Handles events: by items of DynamoDB that are written together with the position, by commands that are harmless when repeated, or both.
pub trait Handler: Send + Sync + 'static {
    /// Returns the items that are the event's effect, at most 99. They are stored in one transaction with the position of the stream, or
    /// not at all. An event without an effect has none.
    ///
    /// It may be called more than once for an event: if the process ends before the transaction, or another consumer was faster. What it does beside the
    /// items it returns has to be harmless when repeated: commands with an id from [`Context::command_id`], for instance.
    ///
    /// # Errors
    /// The event can't be handled now: it is tried again later.
    fn handle(
        &self,
        event: &Received,
        context: &Context<'_>,
    ) -> impl Future<Output = Result<Vec<TransactWriteItem>, HandlerError>> + Send;
}

/// What a handler knows beside the event.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The name of the consumer.
    pub(crate) consumer: &'a str,
    /// The generation of the projection.
    pub(crate) generation: u32,
    pub(crate) event_id: Uuid,
}

impl Context<'_> {
    /// The generation that is written: part of the keys, or of the table's name, of what a projection stores.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The id of a command that the event leads to. The same for each repeat of the event in the same consumer, and different for different names, events
    /// and consumers; the generation does not count.
    #[must_use]
    pub fn command_id(&self, name: &str) -> Uuid {
        let in_event = Uuid::new_v5(&self.event_id, self.consumer.as_bytes());
        Uuid::new_v5(&in_event, name.as_bytes())
    }
}
