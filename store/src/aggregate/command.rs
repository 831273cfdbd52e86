//! What is known about a command beside the decision, and what comes of it.

use uuid::Uuid;

use super::{Aggregate, Loaded};
use crate::{append::Appended, event::NewEvent, metadata::Metadata};

/// The context of a command: its id, if it may come twice, the version that its sender has seen, and metadata for the events that
/// it leads to.
#[derive(Clone, Debug, Default)]
#[must_use = "hand it to `execute_with` or `save_with`"]
pub struct CommandContext {
    pub(crate) id: Option<Uuid>,
    /// Whether its id is stored in a marker beside its events.
    pub(crate) is_marked: bool,
    pub(crate) expected: Option<u64>,
    metadata: Metadata,
}

/// The outcome of a command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Saved<A, T = ()> {
    /// The aggregate as it is now. For a command that was carried out before, later events may be in it.
    pub loaded: Loaded<A>,
    /// The append; `None` if there was nothing to do. For a command that was carried out before, the first one's.
    pub appended: Option<Appended>,
    /// The appends to other streams, in the order in which they were added. Empty for a command that was carried out before.
    pub others: Vec<Appended>,
    /// The value that the decision has returned; `None` for a command that was carried out before.
    pub returned: Option<T>,
    /// How often the decision was made; 0 for a command that was carried out before.
    pub attempts: u32,
}

impl<A: Aggregate, T> Saved<A, T> {
    /// The version that the command has led to, for a command that was carried out before by its first delivery: what an HTTP service
    /// sends as the `ETag`. If nothing was appended, the version at which that was decided.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.appended.as_ref().map_or(self.loaded.version(), |appended| appended.position.version())
    }
}

impl CommandContext {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// The command's id. A second delivery of it is recognised and changes nothing; see "Commands that may come twice"
    /// in the [module](super).
    pub fn with_id(self, id: Uuid) -> Self {
        Self { id: Some(id), is_marked: false, ..self }
    }

    /// The command's id, as with [`with_id`](Self::with_id), and recognised for ever: however many events have followed, in
    /// whichever process. A *marker* with the id is stored in the same transaction as the events, in the aggregate's stream.
    ///
    /// It costs 2 write units more for each aggregate with events, and one of the transaction's 100 items: 98 events are the most.
    /// In a stream that is longer than the deduplication window, it also costs one request of one read unit
    /// before the decision, unless the id is found within the window. A command that leads to no event stores no marker.
    pub fn with_id_for_ever(self, id: Uuid) -> Self {
        Self { id: Some(id), is_marked: true, ..self }
    }

    /// The version that the sender of the command has seen, an HTTP request's `If-Match` for instance. If the aggregate is at another
    /// one, nothing is decided, and the command ends with a conflict. A command with an id that was carried out before is
    /// recognised first.
    pub fn expecting(mut self, version: u64) -> Self {
        self.expected = Some(version);
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
