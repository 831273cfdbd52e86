//! Replay: events of the past published once more, for a new consumer or one that has lost its state.
//!
//! Events are taken in *windows* of at most [`WINDOW_EVENTS`]. Within a window the streams advance side by side, each with one
//! event in flight at most, in batches that are confirmed as a whole; so order holds as it does for the relay. Behind each
//! window the position is handed out: who goes on from there gets that window's successor, and at most one window twice.
//! Pending entries are neither read nor touched, private events never go out.

mod position;
mod source;

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use streambox::{Error, EventStore, RecordedEvent, StreamId, outbox::OutboxEvent};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

pub use position::{BadPosition, Position};
pub use source::Of;

use self::source::Source;
use crate::{
    broker::{self, BrokerSettings, Publisher, Refusal},
    chain::Chain,
    core::{Outcome, Outgoing},
    retry::Delays,
};

/// Most events that are taken before the position moves on: so many may come twice after an interruption.
pub const WINDOW_EVENTS: usize = 512;

/// Most events in one batch.
pub const BATCH_EVENTS: usize = 256;

/// How often an event that the broker refuses is published before the replay ends.
pub const REFUSED_ATTEMPTS: u32 = 3;

const REFUSED_DELAY: Duration = Duration::from_secs(1);

/// From one log line about the progress to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What to replay, where to, and how fast.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// What to replay.
    pub of: Of,
    /// Leaves out what was recorded before: milliseconds since the Unix epoch.
    pub from_ms: Option<i64>,
    /// Leaves out what was recorded then or later.
    pub to_ms: Option<i64>,
    /// Where to publish; its form carries the replay's id.
    pub broker: BrokerSettings,
    /// Most events a second.
    pub rate: u32,
}

impl ReplaySettings {
    fn includes(&self, event: &RecordedEvent) -> bool {
        let is_late_enough = self.from_ms.is_none_or(|from| event.recorded_at_ms >= from);
        let is_early_enough = self.to_ms.is_none_or(|to| event.recorded_at_ms < to);
        !event.is_private && is_late_enough && is_early_enough
    }
}

/// What a replay has done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Replayed {
    /// The replay's id.
    pub replay: String,
    /// Events that the broker has confirmed, those of runs before that were interrupted included.
    pub published: u64,
    /// Events that were read and left out: private ones, and those outside of the times.
    pub left_out: u64,
    /// Whether it has come to its end.
    pub done: bool,
    /// How long this run took.
    pub seconds: f64,
}

/// Why a replay ended before its end. The position behind the last whole window was handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The table can't be read, or holds what it should not.
    #[error(transparent)]
    Store(#[from] Error),
    /// The broker refuses what it was given, the login or the queue, and has never accepted it.
    #[error(transparent)]
    Broker(#[from] Refusal),
    /// The broker refuses an event again and again.
    #[error("version {version} of stream {stream} can't be published: {reason}")]
    Refused {
        /// The stream.
        stream: StreamId,
        /// The version.
        version: u64,
        /// Why.
        reason: String,
    },
    /// The position could not be kept.
    #[error("the position can't be written")]
    Position(#[source] std::io::Error),
}

/// Replays until the end, or until `stop` resolves. `keep` is called with the position behind each window, and at the end.
///
/// # Errors
/// [`ReplayError`]. A broker that can't be reached and a table that is away for the moment are waited for.
pub async fn replay(
    store: &EventStore,
    settings: ReplaySettings,
    mut position: Position,
    stop: impl Future<Output = ()>,
    mut keep: impl FnMut(&Position) -> std::io::Result<()>,
) -> Result<Replayed, ReplayError> {
    let began = Instant::now();
    let (stop_publisher, publisher_stop) = watch::channel(false);
    let publisher = broker::start(Arc::new(settings.broker.clone()), publisher_stop);
    let refusal = broker::refusal_at_start([publisher.state()]);
    let mut run = Run {
        source: Source::open(store, &settings.of, position.next.clone())?,
        publisher,
        pace: Pace::new(settings.rate, began),
        delays: Delays::for_reconnects(),
        next_report: began + REPORT_INTERVAL,
        settings,
    };
    let (mut stop, mut refusal) = (pin!(stop), pin!(refusal));
    while !position.is_done {
        let done = tokio::select! {
            done = run.window() => done?,
            // The position stands before the window: what was confirmed of it comes once more.
            () = &mut stop => break,
            refusal = &mut refusal => return Err(refusal.into()),
        };
        position.published += done.published;
        position.left_out += done.left_out;
        position.is_done = done.is_last;
        position.next = run.source.next();
        keep(&position).map_err(ReplayError::Position)?;
        run.report(&position);
    }
    stop_publisher.send_replace(true);
    run.publisher.close().await;
    Ok(Replayed {
        replay: position.replay.clone(),
        published: position.published,
        left_out: position.left_out,
        done: position.is_done,
        seconds: began.elapsed().as_secs_f64(),
    })
}

struct Run {
    settings: ReplaySettings,
    source: Source,
    publisher: Publisher,
    pace: Pace,
    delays: Delays,
    next_report: Instant,
}

/// What has become of a window.
struct Window {
    published: u64,
    left_out: u64,
    is_last: bool,
}

impl Run {
    /// Reads a window and publishes it.
    async fn window(&mut self) -> Result<Window, ReplayError> {
        let mut streams = Streams::default();
        let (mut read, mut left_out) = (0, 0);
        while read < WINDOW_EVENTS
            && let Some(event) = self.next_event().await?
        {
            read += 1;
            if self.settings.includes(&event) {
                streams.push(event);
            } else {
                left_out += 1;
            }
        }
        let published = read as u64 - left_out;
        while let Some(batch) = streams.next_batch(self.pace.most_at_once()) {
            self.publish(&mut streams, batch).await?;
        }
        Ok(Window { published, left_out, is_last: read < WINDOW_EVENTS })
    }

    /// The next event. A table that is away for the moment is asked again until it answers.
    async fn next_event(&mut self) -> Result<Option<RecordedEvent>, Error> {
        loop {
            match self.source.next_event().await {
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(error = %Chain(&error), "a read failed; it is tried again");
                    sleep(self.delays.next()).await;
                    self.source.reopen()?;
                }
                Ok(event) => {
                    self.delays.reset();
                    return Ok(event);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes a batch until everything in it is confirmed.
    async fn publish(&mut self, streams: &mut Streams, mut batch: Vec<Outgoing>) -> Result<(), ReplayError> {
        let mut attempts = 0;
        loop {
            self.pace.wait_for(batch.len()).await;
            let outcomes = self.publisher.publish(batch.clone()).await;
            let mut refusal = None;
            let mut left = Vec::new();
            for (outgoing, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Confirmed => streams.confirmed(&outgoing.stream),
                    Outcome::Unknown => left.push(outgoing),
                    Outcome::Refused(reason) => {
                        refusal = Some((outgoing.stream.clone(), outgoing.event.version, reason));
                        left.push(outgoing);
                    }
                }
            }
            if let Some((stream, version, reason)) = refusal {
                attempts += 1;
                if attempts == REFUSED_ATTEMPTS {
                    return Err(ReplayError::Refused { stream, version, reason });
                }
                tracing::warn!(%stream, version, reason, "an event can't be published; it is tried again");
                sleep(REFUSED_DELAY * attempts).await;
            }
            if left.is_empty() {
                return Ok(());
            }
            batch = left;
        }
    }

    fn report(&mut self, position: &Position) {
        let now = Instant::now();
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            let (published, left_out) = (position.published, position.left_out);
            tracing::info!(replay = position.replay, published, left_out, "the replay goes on");
        }
    }
}

/// The events of a window by their streams.
#[derive(Default)]
struct Streams {
    waiting: HashMap<StreamId, VecDeque<Arc<OutboxEvent>>>,
    /// Streams of which no event is in flight, in the order of their next events.
    ready: VecDeque<StreamId>,
}

impl Streams {
    fn push(&mut self, event: RecordedEvent) {
        let stream = event.stream_id.clone();
        let waiting = self.waiting.entry(stream.clone()).or_default();
        if waiting.is_empty() {
            self.ready.push_back(stream);
        }
        waiting.push_back(Arc::new(event.into()));
    }

    /// At most one event of each stream, at most `most` in all; `None` where nothing is left.
    fn next_batch(&mut self, most: usize) -> Option<Vec<Outgoing>> {
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(stream) = self.ready.pop_front()
        {
            let event = self.waiting.get(&stream).and_then(|waiting| waiting.front().cloned());
            batch.extend(event.map(|event| Outgoing { stream, event }));
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn confirmed(&mut self, stream: &StreamId) {
        let Some(waiting) = self.waiting.get_mut(stream) else { return };
        waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(stream);
        } else {
            self.ready.push_back(stream.clone());
        }
    }
}

/// Keeps to a rate: after a batch the next one waits until its time.
struct Pace {
    rate: u32,
    next_at: Instant,
}

impl Pace {
    fn new(rate: u32, now: Instant) -> Self {
        Self { rate, next_at: now }
    }

    /// A batch of a fifth of a second at the most, so that the rate holds over short times as well.
    fn most_at_once(&self) -> usize {
        (self.rate as usize / 5).clamp(1, BATCH_EVENTS)
    }

    async fn wait_for(&mut self, events: usize) {
        sleep_until(self.next_at).await;
        self.next_at = self.following(events, Instant::now());
    }

    /// What was not used in time is lost: no burst after a pause.
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    fn following(&self, events: usize, now: Instant) -> Instant {
        self.next_at.max(now) + Duration::from_secs_f64(events as f64 / f64::from(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_a_window_advance_side_by_side_each_with_one_event_in_flight() {
        let mut streams = Streams::default();
        let order = |id: u32| StreamId::new(format!("order-{id}")).unwrap();
        for (id, version) in [(1, 1), (1, 2), (2, 1), (1, 3)] {
            let event = OutboxEvent::new(version, streambox::Uuid::nil(), "E", "{}");
            let waiting = streams.waiting.entry(order(id)).or_default();
            if waiting.is_empty() {
                streams.ready.push_back(order(id));
            }
            waiting.push_back(Arc::new(event));
        }
        let mut next = |most| {
            let batch = streams.next_batch(most)?;
            let sent: Vec<_> = batch.iter().map(|one| (one.stream.to_string(), one.event.version)).collect();
            for one in &batch {
                streams.confirmed(&one.stream);
            }
            Some(sent)
        };
        assert_eq!(next(10), Some(vec![("order-1".into(), 1), ("order-2".into(), 1)]));
        assert_eq!(next(10), Some(vec![("order-1".into(), 2)]));
        assert_eq!(next(10), Some(vec![("order-1".into(), 3)]));
        assert_eq!(next(10), None);
    }

    #[test]
    fn the_rate_holds_and_a_pause_is_not_made_up_for() {
        let began = Instant::now();
        let mut pace = Pace::new(100, began);
        assert_eq!((pace.most_at_once(), Pace::new(1, began).most_at_once()), (20, 1));
        for _ in 0..10 {
            pace.next_at = pace.following(20, pace.next_at);
        }
        assert_eq!(pace.next_at - began, Duration::from_secs(2), "ten batches of 20 at 100 a second");
        let later = began + Duration::from_mins(1);
        assert_eq!(pace.following(20, later) - later, Duration::from_millis(200));
    }
}
