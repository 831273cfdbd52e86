//! The relay inside of a service: the same relay as the program's, in the service's own process, woken after each of its appends.
//! `builder`: its settings.

mod builder;

use std::{fmt, time::Duration};

use serde::Serialize;
use streambox::{StoredAppend, StreamId};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use self::builder::RelayBuilder;
use crate::{
    model::HaltedStream,
    relay::{RelayError, RunSummary},
    telemetry::Telemetry,
    view::{About, View},
};

/// A relay that runs inside of a service, and a member of the relay group as any other.
///
/// It ends when it is stopped; when this value is dropped, it stops as well, and nobody waits for it.
pub struct Relay {
    wakes: mpsc::Sender<StreamId>,
    telemetry: Telemetry,
    about: About,
    /// Dropped or used: the relay stops.
    stop: oneshot::Sender<()>,
    /// None when its result was returned.
    running: Option<JoinHandle<Result<RunSummary, RelayError>>>,
}

/// What a relay says of itself, at most a quarter of a second old.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RelayStatus {
    /// What keeps pending events from being published, as sentences; empty if nothing does. A halted stream does not: it stops only
    /// itself.
    pub not_ready: Vec<String>,
    /// Events that the broker has confirmed since the start.
    pub published: u64,
    /// Pending entries that were deleted since the start.
    pub entries_deleted: u64,
    /// Pending entries of all streams, as the index has shown them last; none before the first look.
    pub pending_entries: Option<u64>,
    /// The age of the oldest of them, by this machine's clock and its appender's.
    pub oldest_pending: Option<Duration>,
    /// How many streams of this worker are halted.
    pub halted_streams: usize,
    /// The first hundred of them, and why.
    pub halted: Vec<HaltedStream>,
    /// The live workers of the group by their ids, this one included.
    pub workers: Vec<String>,
}

impl RelayStatus {
    /// Whether what is pending can go out: for the service's own readiness, if it wants to depend on it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_ready.is_empty()
    }
}

impl Relay {
    /// A function for [`EventStoreBuilder::on_append`](streambox::EventStoreBuilder::on_append) that wakes this relay for each append
    /// with something to publish. It returns at once, whatever the relay is doing.
    pub fn waker(&self) -> impl Fn(&StoredAppend<'_>) + Clone + Send + Sync + use<> {
        let wakes = self.wakes.clone();
        move |append| {
            if append.has_public_events {
                wake(&wakes, append.stream);
            }
        }
    }

    /// Says that something was just appended to a stream. If the stream is this worker's, its pending entries are read at once,
    /// instead of after the next look at the index. Returns at once.
    ///
    /// It is a hint, and nothing is lost without it. A stream of another worker waits for that one's look: 25 ms after work and up to
    /// half a second at idle, unless set otherwise. A relay that has a thousand wakes to catch up with takes no more of them: it
    /// looks all the time.
    pub fn wake(&self, stream: &StreamId) {
        wake(&self.wakes, stream);
    }

    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        let view = View::of(&self.telemetry, &self.about, false, Vec::new());
        let oldest_pending = view.oldest_age();
        let mut not_ready = view.not_ready;
        if self.running.as_ref().is_none_or(JoinHandle::is_finished) {
            not_ready.insert(0, "the relay has ended".to_owned());
        }
        RelayStatus {
            not_ready,
            published: view.relay.totals.published,
            entries_deleted: view.relay.totals.deleted,
            pending_entries: view.relay.backlog.map(|backlog| backlog.entries),
            oldest_pending,
            halted_streams: view.relay.halted_streams,
            halted: view.relay.halted,
            workers: view.relay.workers,
        }
    }

    /// Resolves when the relay has ended by itself, which it does only with an error: what was pending still is. A second call
    /// after that never resolves. It may be dropped and called again, in a `select!` for instance.
    pub async fn ended(&mut self) -> RelayError {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let result = running.await;
        self.running = None;
        match joined(result) {
            Ok(_) => RelayError::Ended("it ended without a reason".to_owned()),
            Err(error) => error,
        }
    }

    /// Stops it: it begins nothing new, finishes what is in flight within the drain timeout, deletes what was confirmed and leaves
    /// its group. What is still pending then is another worker's, or its own after the next start.
    ///
    /// # Errors
    /// [`RelayError`]: it had ended before, and why.
    pub async fn stop(self) -> Result<RunSummary, RelayError> {
        // It may have ended already.
        let _ = self.stop.send(());
        match self.running {
            Some(running) => joined(running.await),
            None => Err(RelayError::Ended("it had ended before".to_owned())),
        }
    }
}

fn wake(wakes: &mpsc::Sender<StreamId>, stream: &StreamId) {
    // If there is no room, it looks at the index soon anyway.
    let _ = wakes.try_send(stream.clone());
}

fn joined(result: Result<Result<RunSummary, RelayError>, tokio::task::JoinError>) -> Result<RunSummary, RelayError> {
    result.unwrap_or_else(|error| Err(RelayError::Ended(error.to_string())))
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("about", &self.about).finish_non_exhaustive()
    }
}
