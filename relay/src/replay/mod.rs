//! Replay: events of the past published once more, for a new consumer or one that has lost its state.
//!
//! Events are taken in *windows* of at most [`WINDOW_EVENTS`]. Within a window the streams advance side by side, each with one
//! event in flight at most, in batches that are confirmed as a whole; so order holds as it does for the relay. The position
//! stands behind the events that are confirmed up to the first that is not, in the order in which they were read: a replay that
//! resumes there repeats at most one window. Pending entries are neither read nor touched, private events never go out.
//!
//! A replay to a queue ends with a message of its own ([`REPLAY_ENDED_TYPE`](crate::broker::REPLAY_ENDED_TYPE)), so that
//! the queue's consumer knows when it has everything. To the exchange there is none: no routing key reaches every queue.

mod pace;
mod position;
mod source;
mod window;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use serde::Serialize;
use streambox::{Error, EventStore, RecordedEvent, StreamId};
use streambox_programs::{Chain, now_ms};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

pub use position::{BadPosition, Of, Position};

use self::{pace::Pace, source::Source, window::Window};
use crate::{
    broker::{self, Alone, BrokerSettings, Publisher, PublisherEnded, Refusal, replay_ended},
    core::{Outcome, Outgoing},
    retry::Backoff,
};

/// Most events that are read ahead: at most these are published twice after an interruption.
pub const WINDOW_EVENTS: usize = 512;

/// Most events in one batch.
pub const BATCH_EVENTS: usize = 256;

/// How often an event that the broker refuses is published before the replay ends.
pub const REFUSED_ATTEMPTS: u32 = 3;

/// After so many connections in a row that ended under a batch without a word, each of its events is published alone.
const MAX_UNKNOWN: u32 = 2;

const REFUSED_DELAY: Duration = Duration::from_secs(1);

/// The longest that what is in flight is waited for when the replay is told to stop: as long as the relay waits by default.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the position is handed out within a window. Writing it after each small batch would be slower than publishing.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

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
    /// How many of these stand behind the position: the next run publishes them again.
    pub repeats: u64,
    /// Events that were read and left out: private ones, and those outside of the times.
    pub left_out: u64,
    /// Whether it has come to its end.
    pub done: bool,
    /// How long this run took.
    pub seconds: f64,
}

/// Why a replay ended before its end. The last position was handed out.
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
    /// Every event was published, and the broker refuses the message that says so.
    #[error("every event was published, but the message that says so can't be: {reason}")]
    Unannounced {
        /// Why.
        reason: String,
    },
    /// A part of the relay's broker side ended that should not have, which is a fault of the program.
    #[error(transparent)]
    Ended(#[from] PublisherEnded),
    /// The position could not be kept.
    #[error("the position can't be written")]
    Position(#[source] std::io::Error),
}

/// Replays until the end, or until `stop` resolves: then what is in flight is waited for, for at most 20 seconds. `keep` is called
/// with the position at least once a window, once a second while events are confirmed, and at the end, whatever the end is.
///
/// # Errors
/// [`ReplayError`]. A broker that can't be reached and a table that is away for the moment are waited for.
pub async fn replay(
    store: &EventStore,
    settings: ReplaySettings,
    position: Position,
    stop: impl Future<Output = ()>,
    mut keep: impl FnMut(&Position) -> std::io::Result<()>,
) -> Result<Replayed, ReplayError> {
    let began = Instant::now();
    let (stopping, stopped) = watch::channel(false);
    let broker = Arc::new(settings.broker.clone());
    let publisher = broker::start(Arc::clone(&broker), stopped.clone(), Arc::default());
    let alone = Alone::start(broker, stopped.clone());
    let refusal = broker::refusal_at_start([publisher.state()]);
    let mut run = Run {
        source: Source::open(store, &settings.of, position.next.clone())?,
        publisher,
        alone,
        pace: Pace::new(settings.rate, began),
        backoff: Backoff::for_reconnects(),
        stopped,
        next_keep: began + KEEP_INTERVAL,
        next_report: began + REPORT_INTERVAL,
        settings,
        position,
    };
    let mut is_idle = true;
    let ended = {
        let mut work = pin!(run.publish_all(&mut keep));
        tokio::select! {
            ended = &mut work => ended,
            () = stop => {
                stopping.send_replace(true);
                timeout(STOP_TIMEOUT, work).await.unwrap_or_else(|_| {
                    is_idle = false;
                    Ok(())
                })
            }
            refusal = refusal => Err(refusal.into()),
        }
    };
    let kept = keep(&run.position).map_err(ReplayError::Position);
    stopping.send_replace(true);
    if is_idle {
        run.publisher.close().await;
        run.alone.close().await;
    }
    ended.and(kept)?;
    let position = run.position;
    Ok(Replayed {
        replay: position.replay.clone(),
        published: position.confirmed(),
        repeats: position.ahead,
        left_out: position.left_out,
        done: position.is_done,
        seconds: began.elapsed().as_secs_f64(),
    })
}

struct Run {
    settings: ReplaySettings,
    position: Position,
    source: Source,
    publisher: Publisher,
    alone: Alone,
    pace: Pace,
    backoff: Backoff,
    stopped: watch::Receiver<bool>,
    next_keep: Instant,
    next_report: Instant,
}

/// The replay was told to stop.
struct Stopped;

impl Run {
    /// Publishes window after window, until the end or until it is told to stop.
    async fn publish_all(
        &mut self,
        keep: &mut impl FnMut(&Position) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        while !self.position.is_done {
            let Ok(read) =
                unless_stopped(&mut self.stopped, read(&mut self.source, &self.settings, &mut self.backoff)).await
            else {
                return Ok(());
            };
            let mut window = read?;
            let is_last = window.len() < WINDOW_EVENTS;
            window.settle(&mut self.position);
            while let Some(batch) = window.next_batch(self.pace.most_at_once()) {
                if self.publish(&mut window, batch).await?.is_err() {
                    return Ok(());
                }
                self.keep_if_due(keep)?;
            }
            if is_last {
                self.position.next = self.source.next();
                if self.settings.broker.form.queue.is_some() && self.announce_the_end().await?.is_err() {
                    return Ok(());
                }
                self.position.is_done = true;
            }
            self.next_keep = Instant::now();
            self.keep_if_due(keep)?;
            self.report();
        }
        Ok(())
    }

    /// Publishes a batch until everything in it is confirmed.
    async fn publish(
        &mut self,
        window: &mut Window,
        mut batch: Vec<Outgoing>,
    ) -> Result<Result<(), Stopped>, ReplayError> {
        let (mut attempts, mut unknown) = (0, 0);
        loop {
            if unless_stopped(&mut self.stopped, self.pace.wait_for(batch.len())).await.is_err()
                || unless_stopped(&mut self.stopped, self.publisher.ready()).await.is_err()
            {
                return Ok(Err(Stopped));
            }
            let outcomes = self.outcomes(&batch, unknown >= MAX_UNKNOWN).await?;
            unknown = if outcomes.contains(&Outcome::Unknown) { unknown + 1 } else { 0 };
            let mut refusal = None;
            let mut left = Vec::new();
            for (outgoing, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Confirmed => window.confirmed(&outgoing.stream),
                    Outcome::Unknown | Outcome::Suspect(_) => left.push(outgoing),
                    Outcome::Refused(reason) | Outcome::Poison(reason) => {
                        refusal.get_or_insert((outgoing.stream.clone(), outgoing.event.version, reason));
                        left.push(outgoing);
                    }
                }
            }
            window.settle(&mut self.position);
            if left.is_empty() {
                return Ok(Ok(()));
            }
            if let Some((stream, version, reason)) = refusal {
                attempts += 1;
                if attempts == REFUSED_ATTEMPTS {
                    return Err(ReplayError::Refused { stream, version, reason });
                }
                tracing::warn!(%stream, version, reason, attempts, "an event can't be published; it is tried again");
                if unless_stopped(&mut self.stopped, sleep(REFUSED_DELAY * attempts)).await.is_err() {
                    return Ok(Err(Stopped));
                }
            }
            batch = left;
        }
    }

    /// Publishes a batch, and each of its events alone if it broke off and one of them may be the reason.
    async fn outcomes(&self, batch: &[Outgoing], is_suspect: bool) -> Result<Vec<Outcome>, PublisherEnded> {
        if is_suspect {
            return try_join_all(batch.iter().map(|outgoing| self.alone.settle(outgoing.clone()))).await;
        }
        let outcomes = self.publisher.publish(batch.to_vec()).await?;
        try_join_all(batch.iter().zip(outcomes).map(|(outgoing, outcome)| async {
            match outcome {
                Outcome::Suspect(_) => self.alone.settle(outgoing.clone()).await,
                outcome => Ok(outcome),
            }
        }))
        .await
    }

    /// Publishes what says that everything was published.
    async fn announce_the_end(&mut self) -> Result<Result<(), Stopped>, ReplayError> {
        let (stream, event) = replay_ended(&self.position.replay, self.position.published, now_ms());
        let announced = self.publish(&mut Window::default(), vec![Outgoing { stream, event: Arc::new(event) }]).await;
        announced.map_err(|error| match error {
            ReplayError::Refused { reason, .. } => ReplayError::Unannounced { reason },
            error => error,
        })
    }

    fn keep_if_due(&mut self, keep: &mut impl FnMut(&Position) -> std::io::Result<()>) -> Result<(), ReplayError> {
        let now = Instant::now();
        if now >= self.next_keep {
            keep(&self.position).map_err(ReplayError::Position)?;
            self.next_keep = now + KEEP_INTERVAL;
        }
        Ok(())
    }

    fn report(&mut self) {
        let now = Instant::now();
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            let Position { replay, published, left_out, .. } = &self.position;
            tracing::info!(replay, published, left_out, "the replay goes on");
        }
    }
}

async fn unless_stopped<T>(stopped: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Result<T, Stopped> {
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stopped| *stopped) => Err(Stopped),
        done = work => Ok(done),
    }
}

/// Reads a window; one that is not full is the last.
async fn read(source: &mut Source, settings: &ReplaySettings, backoff: &mut Backoff) -> Result<Window, Error> {
    let mut window = Window::default();
    while window.len() < WINDOW_EVENTS
        && let Some(event) = next_event(source, backoff).await?
    {
        if settings.includes(&event) {
            window.push(event, source.next());
        } else {
            window.leave_out(source.next());
        }
    }
    Ok(window)
}

/// The next event. A table that is away for the moment is asked again until it answers.
async fn next_event(source: &mut Source, backoff: &mut Backoff) -> Result<Option<RecordedEvent>, Error> {
    loop {
        match source.next_event().await {
            Err(error @ Error::Unavailable { .. }) => {
                tracing::warn!(error = %Chain(&error), "a read failed; it is tried again");
                sleep(backoff.next()).await;
                source.reopen()?;
            }
            Ok(event) => {
                backoff.reset();
                return Ok(event);
            }
            Err(error) => return Err(error),
        }
    }
}
