//! What is known about a command beside the decision, and what comes of it.

use uuid::Uuid;

use super::Loaded;
use crate::{append::Appended, event::NewEvent, metadata::Metadata};

/// What is known about a command: its id, if it may come twice, and the metadata of the events that it leads to.
#[derive(Clone, Debug, Default)]
#[must_use = "hand it to `execute_with` or `save_with`"]
pub struct Command {
    pub(crate) id: Option<Uuid>,
    metadata: Metadata,
}

/// The outcome of a command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Saved<A> {
    /// The aggregate after it.
    pub loaded: Loaded<A>,
    /// The append; `None` if there was nothing to do. For a repeated command, the first one's.
    pub appended: Option<Appended>,
    /// How often the decision was made; 0 for a command that was carried out before.
    pub attempts: u32,
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
