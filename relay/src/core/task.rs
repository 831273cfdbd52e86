//! What passes between the core and the shell: tasks, and their results.

use std::{slice, sync::Arc};

use streambox::{
    StreamId,
    outbox::{OutboxEvent, PendingKey, PendingPage, Predecessor, WorkerId},
};

/// Something that the shell has to do. Each is answered once, by [`Done`].
#[derive(Clone, Debug)]
pub enum Task {
    /// One page of the index: its first, or the one behind the page before.
    Scan {
        /// Whether a new pass begins.
        from_start: bool,
    },
    /// A read of one stream.
    Read(Read),
    /// A batch: at most one event of each stream.
    Publish(Vec<Outgoing>),
    /// An event that may be the reason why its batch or connection broke.
    PublishAlone(Outgoing, Isolation),
    /// Confirmed entries, at most 25.
    Delete(Vec<PendingKey>),
    /// Write this worker's row with this beat, then read the rows of all.
    Beat(u64),
    /// Remove the row of a worker that is gone.
    Forget(WorkerId),
    /// Remove this worker's own row.
    Leave,
    /// The next events of the history that is replayed.
    History {
        /// How many at most.
        most: usize,
    },
    /// Every event of the history is published: the last message, if there is one.
    HistoryEnd,
    /// Keep a replay's position.
    Keep(HistoryPosition),
}

/// The result of a [`Task`].
#[derive(Debug)]
pub enum Done {
    /// A page of the index; none if the scan failed.
    Scanned(Option<IndexPage>),
    /// A read's answer.
    Read(Read, Answer),
    /// The outcomes of a batch, in its order.
    Published(Vec<Outgoing>, Vec<Outcome>),
    /// The outcome of an event that was published alone.
    PublishedAlone(Outgoing, Isolation, Outcome),
    /// The keys that were requested, and those that are left.
    Deleted {
        /// All keys of the request.
        asked: Vec<PendingKey>,
        /// Those that DynamoDB did not get to; all of them if the request failed.
        left: Vec<PendingKey>,
    },
    /// The beats that all rows show; none if they could not be read.
    Beaten(Option<Vec<WorkerBeat>>),
    /// A row was removed, or the attempt failed: another one follows if the row still exists.
    Forgotten,
    /// This worker's row was removed, or the attempt failed: then the others notice that its beat stands still.
    Left,
    /// A page of the history; none if the read failed.
    History(Option<HistoryPage>),
    /// The position is kept.
    Kept,
}

impl Done {
    /// The events that were published, with their outcomes; empty if nothing was.
    #[must_use]
    pub fn published(&self) -> (&[Outgoing], &[Outcome]) {
        match self {
            Self::Published(batch, outcomes) => (batch, outcomes),
            Self::PublishedAlone(outgoing, _, outcome) => (slice::from_ref(outgoing), slice::from_ref(outcome)),
            _ => (&[], &[]),
        }
    }
}

/// A page of the index.
#[derive(Clone, Debug)]
pub struct IndexPage {
    /// The stream of each entry on the page.
    pub streams: Vec<StreamId>,
    /// When each of them was recorded: milliseconds since the Unix epoch.
    pub pending_since_ms: Vec<Option<i64>>,
    /// Whether another page follows.
    pub has_more: bool,
}

/// How far a history is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryPosition {
    /// Confirmed events before it.
    pub published: u64,
    /// Events before it that were left out.
    pub left_out: u64,
    /// Confirmed events after it: they are published again when the replay resumes here.
    pub ahead: u64,
    /// Whether everything is published.
    pub is_done: bool,
}

impl HistoryPosition {
    /// The events before it, in the order in which they were read.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.published + self.left_out
    }
}

/// Events of the history, in the order in which they are replayed.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The events; none for each that is left out.
    pub events: Vec<Option<Outgoing>>,
    /// Whether more follow.
    pub has_more: bool,
}

/// The part of a worker's row that matters to the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerBeat {
    /// Whose row it is.
    pub id: WorkerId,
    /// The beat that it wrote last.
    pub beat: u64,
}

/// A read of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The pending entries that end at a version or later.
    Pending {
        /// The stream.
        stream: StreamId,
        /// The first version to look for.
        from: u64,
        /// How many entries at most.
        limit: u16,
    },
    /// One page of the events of an entry that carries no copy of them.
    Events {
        /// The stream.
        stream: StreamId,
        /// The next version that is needed.
        from: u64,
        /// The last version that is needed.
        last: u64,
        /// The public version before them.
        previous: Option<u64>,
    },
    /// Whether the previous entry was published, by a serializable read.
    VisibilityCheck {
        /// The stream.
        stream: StreamId,
        /// The version that it ends with.
        last: u64,
    },
}

impl Read {
    /// The stream that is read.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        let (Self::Pending { stream, .. } | Self::Events { stream, .. } | Self::VisibilityCheck { stream, .. }) = self;
        stream
    }
}

/// The answer to a read.
#[derive(Debug)]
pub enum Answer {
    /// To [`Read::Pending`].
    Pending(PendingPage),
    /// To [`Read::Events`].
    Events(Vec<Arc<OutboxEvent>>),
    /// To [`Read::VisibilityCheck`].
    VisibilityCheck(Predecessor),
    /// The read can't succeed as the table is: the stream halts.
    Unreadable(String),
    /// The read failed and may succeed later.
    Failed,
}

/// An event on its way to the broker.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its stream.
    pub stream: StreamId,
    /// The event.
    pub event: Arc<OutboxEvent>,
}

/// How far an event that is published alone is isolated from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// It has a channel to itself, on a connection that it shares with others of its kind.
    Channel,
    /// It has a connection to itself.
    Connection,
}

/// The outcome of publishing one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has taken responsibility for the message.
    Confirmed,
    /// The broker does not take this message, and said so of this one alone (a return, a nack): a reason for the operator.
    Refused(String),
    /// The broker answered for everything that was published together: it closed the channel or the connection, or left
    /// some without a confirm. This message may be the reason, and it may have arrived.
    Suspect(String),
    /// Published alone, the message closed its channel or its connection, or was not confirmed in time: a reason for the
    /// operator.
    Poison(String),
    /// The connection ended, and no message is at fault. The message may have arrived.
    Unknown,
}
