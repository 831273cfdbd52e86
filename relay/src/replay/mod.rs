//! Replay: events of the past published once more, for a new consumer or one that has lost its state.
//!
//! The relay's own [`core`](crate::core) decides, with history as the source of its lanes: so streams are published side by
//! side, an event that breaks what it is published with is published alone, and order holds as it does for the relay. Pending
//! entries are neither read nor touched, private events never go out.
//!
//! A replay to a queue ends with a message of its own ([`REPLAY_ENDED_TYPE`](crate::broker::REPLAY_ENDED_TYPE)), so that
//! the queue's consumer knows when it has everything. To the exchange there is none: no routing key reaches every queue.

mod position;
mod source;

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc, time::Duration};

use serde::Serialize;
use streambox::{Error, EventStore, RecordedEvent, StreamId};
use streambox_programs::now_ms;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub use position::{BadPosition, Of, Position};

use self::{position::Next, source::Source};
use crate::{
    broker::{BrokerSettings, PublisherEnded, Refusal, replay_ended},
    core::{
        Bounds, Core, Done, Halt, HistoryPage, HistoryPosition, HistorySettings, MAX_ATTEMPTS, Notice, Outgoing, Task,
    },
    relay::publishers::{Published, Publishers},
};

/// Most events that are read ahead: at most these are published twice after an interruption.
pub const WINDOW_EVENTS: usize = 512;

/// Events that one read asks for.
const PAGE_EVENTS: usize = 128;

/// The longest that what is in flight is waited for when the replay is told to stop: as long as the relay waits by default.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

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
    let mut at = Place::at(position);
    if !at.position.is_done {
        let publishers = Publishers::start(&Arc::new(settings.broker.clone()), 1);
        let refusal = publishers.refusal_at_start();
        let mut run = Run {
            core: Core::replaying(&core_settings(settings.rate), fastrand::u64(..), began),
            source: Some(Box::new(Source::open(store, &settings, at.position.next.clone())?)),
            is_to_queue: settings.broker.form.queue.is_some(),
            publishers,
            tasks: JoinSet::new(),
            end: None,
            failure: None,
            next_report: began + REPORT_INTERVAL,
        };
        let ended = tokio::select! {
            ended = run.run(&mut at, &mut keep, stop) => ended,
            refusal = refusal => Err(refusal.into()),
        };
        at.move_to(run.core.position());
        let kept = keep(&at.position).map_err(ReplayError::Position);
        run.publishers.stop();
        // Those that hold a publisher let go of it.
        run.tasks.shutdown().await;
        run.publishers.close().await;
        ended.and(kept)?;
    }
    let position = at.position;
    Ok(Replayed {
        replay: position.replay.clone(),
        published: position.confirmed(),
        repeats: position.ahead,
        left_out: position.left_out,
        done: position.is_done,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn core_settings(rate: u32) -> HistorySettings {
    let (window_events, page_events) = (WINDOW_EVENTS, PAGE_EVENTS);
    HistorySettings { bounds: Bounds::default(), rate, window_events, page_events }
}

/// A replay's position, and what it takes to move it.
struct Place {
    position: Position,
    /// The counts of the runs before.
    published_before: u64,
    left_out_before: u64,
    /// How many events of this run the position has passed, and where a replay resumes behind each of the next ones.
    passed: u64,
    behind: VecDeque<Next>,
}

impl Place {
    fn at(position: Position) -> Self {
        let (published_before, left_out_before) = (position.published, position.left_out);
        Self { position, published_before, left_out_before, passed: 0, behind: VecDeque::new() }
    }

    fn move_to(&mut self, at: HistoryPosition) {
        for _ in self.passed..at.passed() {
            self.position.next = self.behind.pop_front().expect("a place for each event that was read");
        }
        self.passed = at.passed();
        self.position.published = self.published_before + at.published;
        self.position.left_out = self.left_out_before + at.left_out;
        self.position.ahead = at.ahead;
        self.position.is_done = at.is_done;
    }
}

/// The shell of a core that replays.
struct Run {
    core: Core,
    /// None while it is read.
    source: Option<Box<Source>>,
    is_to_queue: bool,
    publishers: Publishers,
    tasks: JoinSet<Result<Finished, PublisherEnded>>,
    /// The stream of the message that says that everything was published.
    end: Option<StreamId>,
    /// Why no more can be read.
    failure: Option<Error>,
    next_report: Instant,
}

/// What a task has done.
enum Finished {
    Read(Box<Source>, Result<Option<(HistoryPage, Vec<Next>)>, Error>),
    Published(Published),
}

impl Run {
    async fn run(
        &mut self,
        at: &mut Place,
        keep: &mut impl FnMut(&Position) -> std::io::Result<()>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ReplayError> {
        let mut stop = pin!(stop);
        let mut deadline: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.core.set_ready_publishers(self.publishers.ready());
            while let Some(task) = self.core.next_task(now) {
                match task {
                    Task::Keep(position) => {
                        at.move_to(position);
                        keep(&at.position).map_err(ReplayError::Position)?;
                        self.core.done(Done::Kept, Instant::now());
                    }
                    Task::HistoryEnd => {
                        at.move_to(self.core.position());
                        let events = self.end(&at.position).into_iter().map(Some).collect();
                        self.core.done(Done::History(Some(HistoryPage { events, has_more: false })), now);
                    }
                    task => self.start(task),
                }
            }
            self.report(&at.position, now);
            if self.core.is_finished() {
                return self.outcome();
            }
            let due = self.core.next_due().into_iter().chain([self.next_report]).min();
            tokio::select! {
                Some(task) = self.tasks.join_next() => {
                    let finished = task.unwrap_or(Err(PublisherEnded))?;
                    at.behind.extend(self.take(finished));
                }
                () = self.publishers.changed() => {}
                () = sleep_until(due.unwrap_or(self.next_report)) => {}
                () = &mut stop, if deadline.is_none() => {
                    deadline = Some(Instant::now() + STOP_TIMEOUT);
                    self.core.stop();
                    self.publishers.stop();
                }
                () = sleep_until(deadline.unwrap_or(now)), if deadline.is_some() => return Ok(()),
            }
        }
    }

    fn start(&mut self, task: Task) {
        match task {
            Task::History { most } => {
                let mut source = self.source.take().expect("one read at a time");
                self.tasks.spawn(async move {
                    let read = source.read(most).await;
                    Ok(Finished::Read(source, read))
                });
            }
            Task::Publish(batch) => {
                let publishing = self.publishers.publish(batch);
                self.tasks.spawn(async { publishing.await.map(Finished::Published) });
            }
            Task::PublishAlone(outgoing, isolation) => {
                let publishing = self.publishers.publish_alone(outgoing, isolation);
                self.tasks.spawn(async { publishing.await.map(Finished::Published) });
            }
            task => unreachable!("{task:?} is a task of the outbox"),
        }
    }

    /// Returns the places of the events that were read.
    fn take(&mut self, finished: Finished) -> Vec<Next> {
        let (done, places) = match finished {
            Finished::Published(published) => (self.publishers.take_back(published), Vec::new()),
            Finished::Read(source, read) => {
                self.source = Some(source);
                let read = read.unwrap_or_else(|error| {
                    self.failure = Some(error);
                    self.core.stop();
                    None
                });
                let (page, places) = read.unzip();
                (Done::History(page), places.unwrap_or_default())
            }
        };
        self.core.done(done, Instant::now());
        places
    }

    /// What says that everything was published.
    fn end(&mut self, position: &Position) -> Option<Outgoing> {
        self.is_to_queue.then(|| {
            let (stream, event) = replay_ended(&position.replay, position.published, now_ms());
            self.end = Some(stream.clone());
            Outgoing { stream, event: Arc::new(event) }
        })
    }

    /// How it has ended.
    fn outcome(&mut self) -> Result<(), ReplayError> {
        if let Some(error) = self.failure.take() {
            return Err(error.into());
        }
        let Some((stream, halt)) = self.core.given_up() else { return Ok(()) };
        let (stream, version, reason) = (stream.clone(), halt.version, halt.reason.clone());
        Err(match &self.end {
            Some(end) if *end == stream => ReplayError::Unannounced { reason },
            _ => ReplayError::Refused { stream, version, reason },
        })
    }

    fn report(&mut self, position: &Position, now: Instant) {
        for notice in self.core.take_notices() {
            if let Notice::Halted { stream, halt } = notice
                && halt.attempts < MAX_ATTEMPTS
            {
                let Halt { version, reason, attempts, .. } = halt;
                tracing::warn!(%stream, version, reason, attempts, "an event can't be published; it is tried again");
            }
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            let Position { replay, published, left_out, .. } = position;
            tracing::info!(replay, published, left_out, "the replay goes on");
        }
    }
}
