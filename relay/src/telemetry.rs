//! What a running relay reports to observers: a snapshot of its state, and the moments that no snapshot can show.
//!
//! The shell replaces the [`Snapshot`] at most every [`SNAPSHOT_INTERVAL`], if something has changed; reading it costs
//! the relay nothing. What has to be counted or timed one by one goes to an [`Observer`], from the relay's own task: an
//! observer returns at once and never waits. Times are by the relay's monotonic clock.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;
use streambox::StreamId;
use streambox_programs::now_ms;
use tokio::{sync::watch, time::Instant};

use crate::{
    broker::PublisherState,
    core::{Halt, Outcome, Outgoing, Totals},
    model::{Backlog, HaltedStream, Request, RequestFailure, json},
};

/// The shortest time from one snapshot to the next.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);

/// Most halted streams in a snapshot, those first that have been halted for the longest. Their number is always reported.
pub const MAX_SHOWN_HALTS: usize = 100;

/// Sees the moments. Every method does nothing unless it is written.
pub trait Observer: Send + Sync {
    /// A batch has come back from the broker.
    fn batch_published(&self, _batch: &PublishedBatch) {}

    /// A stream is halted, or another attempt to publish it has failed.
    fn stream_halted(&self, _halt: &HaltedStream) {}

    /// A stream that was halted is published again, or has nothing pending any more.
    fn stream_resumed(&self, _stream: &StreamId) {}

    /// What became of one event of a batch, and how long the batch took. Called for each after
    /// [`batch_published`](Self::batch_published).
    fn event_published(&self, _outgoing: &Outgoing, _outcome: &Outcome, _took: Duration) {}

    /// A request to DynamoDB is made.
    fn request_made(&self, _request: Request) {}

    /// A request to DynamoDB has failed and will be made again.
    fn request_failed(&self, _request: Request) {}
}

/// A batch that has come back from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedBatch {
    /// Events that the broker has confirmed.
    pub confirmed: usize,
    /// Events that it can't or won't take: their streams halt.
    pub refused: usize,
    /// Events of which nothing is known: they are published again.
    pub unknown: usize,
    /// From handing over the batch to the last confirm, the wait for a connection included.
    pub took: Duration,
}

impl PublishedBatch {
    pub(crate) fn of(outcomes: &[Outcome], took: Duration) -> Self {
        let mut batch = Self { confirmed: 0, refused: 0, unknown: 0, took };
        for outcome in outcomes {
            *match outcome {
                Outcome::Confirmed => &mut batch.confirmed,
                Outcome::Refused(_) | Outcome::Poison(_) => &mut batch.refused,
                Outcome::Suspect(_) | Outcome::Unknown => &mut batch.unknown,
            } += 1;
        }
        batch
    }

    /// Events in the batch.
    #[must_use]
    pub fn events(&self) -> usize {
        self.confirmed + self.refused + self.unknown
    }
}

/// A relay's state at one moment.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// What has been done since the start.
    #[serde(flatten)]
    pub totals: Totals,
    /// Streams that are worked on.
    pub open_streams: usize,
    /// Reads under way.
    pub reads_under_way: usize,
    /// Confirmed entries that are not deleted yet.
    pub deletes_waiting: usize,
    /// Bytes of events that are held.
    pub buffered_bytes: usize,
    /// How many streams are halted.
    pub halted_streams: usize,
    /// The first [`MAX_SHOWN_HALTS`] of them.
    pub halted: Vec<HaltedStream>,
    /// Since when the broker has answered for none of the messages that are on their way to it; none if it has nothing to
    /// answer for.
    #[serde(rename = "unanswered_for_seconds", serialize_with = "json::seconds_since")]
    pub unanswered_since: Option<Instant>,
    /// What the index has shown; none before the first scan.
    pub backlog: Option<Backlog>,
    /// The live workers of the group by their ids, this one included; none if the relay runs outside of a group. Each has one
    /// share of the streams.
    pub workers: Vec<String>,
    /// The last failure of a request to DynamoDB.
    pub last_error: Option<RequestFailure>,
    /// What DynamoDB refuses until somebody fixes something, as each kind of request was answered last.
    pub refused: Vec<RequestFailure>,
}

impl HaltedStream {
    pub(crate) fn of(stream: &StreamId, halt: &Halt) -> Self {
        let (now, now_ms) = (Instant::now(), now_ms());
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self {
            stream: stream.to_string(),
            version: halt.version,
            reason: halt.reason.clone(),
            since_ms: now_ms.saturating_sub(ms(now.saturating_duration_since(halt.since))),
            attempts: halt.attempts,
            retry_at_ms: Some(now_ms.saturating_add(ms(halt.retry_at.saturating_duration_since(now)))),
            worker: None,
        }
    }
}

/// Where a relay reports. Clones share one place.
#[derive(Clone)]
pub struct Telemetry {
    snapshot: Arc<watch::Sender<Arc<Snapshot>>>,
    observers: Arc<[Arc<dyn Observer>]>,
    /// When the relay's loop ticked last.
    last_tick: Arc<Mutex<Instant>>,
    /// What the publishers say of themselves.
    publishers: Arc<Mutex<Vec<watch::Receiver<PublisherState>>>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Telemetry {
    /// Reports to these observers, one after the other.
    #[must_use]
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        let (snapshot, last_tick) = (watch::Sender::new(Arc::default()), Mutex::new(Instant::now()));
        Self {
            snapshot: Arc::new(snapshot),
            observers: observers.into(),
            last_tick: Arc::new(last_tick),
            publishers: Arc::default(),
        }
    }

    /// What each publisher's connection is doing; empty before they are started.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    #[must_use]
    pub fn publishers(&self) -> Vec<PublisherState> {
        let publishers = self.publishers.lock().expect("nobody panics with this lock");
        publishers.iter().map(|state| state.borrow().clone()).collect()
    }

    /// Where the publishers report their state.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn set_publishers(&self, publishers: Vec<watch::Receiver<PublisherState>>) {
        *self.publishers.lock().expect("nobody panics with this lock") = publishers;
    }

    /// When the relay's loop ticked last; before its first tick, when this was made. It ticks at least at every report,
    /// every 10 seconds, however little there is to do: one that stands still is stuck.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    #[must_use]
    pub fn last_tick(&self) -> Instant {
        *self.last_tick.lock().expect("nobody panics with this lock")
    }

    pub(crate) fn tick(&self, now: Instant) {
        *self.last_tick.lock().expect("nobody panics with this lock") = now;
    }

    /// The newest snapshot, and a signal whenever there is a newer one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    pub(crate) fn report(&self, moment: impl Fn(&dyn Observer)) {
        self.observers.iter().for_each(|observer| moment(&**observer));
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.send_replace(Arc::new(snapshot));
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("snapshot", &*self.snapshot.borrow()).finish_non_exhaustive()
    }
}
