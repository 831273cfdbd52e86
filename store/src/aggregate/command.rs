//! What is known about a command beside the decision.

use uuid::Uuid;

use crate::{event::NewEvent, metadata::Metadata};

/// What is known about a command: its id, if it may come twice, and the metadata of the events that it leads to.
#[derive(Clone, Debug, Default)]
#[must_use = "hand it to `execute_with` or `save_with`"]
pub struct Command {
    pub(crate) id: Option<Uuid>,
    metadata: Metadata,
}

impl Command {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// The command's id. A second delivery of it is recognised and changes nothing; see "Commands that may come twice"
    /// in the [module](super).
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// Metadata for each of the events, beside those that an event has of its own: correlation, causation, trace
    /// context.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    pub(crate) fn describe(&self, event: NewEvent) -> NewEvent {
        if self.metadata.is_empty() {
            return event;
        }
        let metadata = self.metadata.clone().overlaid_with(event.metadata());
        event.with_metadata(metadata)
    }
}
