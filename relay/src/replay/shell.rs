//! The loop of a replay, and its position. The relay's own loop reports to observers, is in a group and deletes; this one keeps a
//! position.

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc, time::Duration};

use streambox::{Error, StreamId};
use streambox_programs::now_ms;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    ReplayError,
    position::{Position, ResumePoint},
    source::Source,
};
use crate::{
    broker::{PublisherEnded, replay_ended},
    core::{Core, Done, Halt, HistoryPage, HistoryPosition, MAX_ATTEMPTS, Notice, Outgoing, Task},
    relay::publishers::{Published, Publishers},
};

/// The longest time to wait for what is in flight when the replay stops: as long as the relay waits by default.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// From one log line about the progress to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A replay's position, and what moving it needs.
pub(super) struct Progress {
    pub(super) position: Position,
    /// The counts of the runs before.
    published_before: u64,
    left_out_before: u64,
    /// How many events of this run the position has passed, and where a replay resumes after each of the next ones.
    passed: u64,
    resume_points: VecDeque<ResumePoint>,
}

impl Progress {
    pub(super) fn from(position: Position) -> Self {
        let (published_before, left_out_before) = (position.published, position.left_out);
        Self { position, published_before, left_out_before, passed: 0, resume_points: VecDeque::new() }
    }

    fn move_to(&mut self, at: HistoryPosition) {
        for _ in self.passed..at.passed() {
            self.position.next = self.resume_points.pop_front().expect("one for each event that was read");
        }
        self.passed = at.passed();
        self.position.published = self.published_before + at.published;
        self.position.left_out = self.left_out_before + at.left_out;
        self.position.ahead = at.ahead;
        self.position.is_done = at.is_done;
    }
}

/// The shell of a core that replays.
pub(super) struct Shell {
    core: Core,
    /// None while it is read.
    source: Option<Box<Source>>,
    is_to_queue: bool,
    publishers: Publishers,
    tasks: JoinSet<Result<Finished, PublisherEnded>>,
    /// The stream of the message that says that everything was published, once that is read.
    end: Option<StreamId>,
    /// Why no more can be read.
    failure: Option<Error>,
    next_report: Instant,
}

/// The result of a task.
enum Finished {
    Read(Box<Source>, Result<Option<(HistoryPage, Vec<ResumePoint>)>, Error>),
    Published(Published),
}

impl Shell {
    pub(super) fn new(core: Core, source: Source, publishers: Publishers, is_to_queue: bool) -> Self {
        Self {
            core,
            source: Some(Box::new(source)),
            is_to_queue,
            publishers,
            tasks: JoinSet::new(),
            end: None,
            failure: None,
            next_report: Instant::now() + REPORT_INTERVAL,
        }
    }

    pub(super) async fn run(
        &mut self,
        progress: &mut Progress,
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
                        progress.move_to(position);
                        keep(&progress.position).map_err(ReplayError::Position)?;
                        self.core.done(Done::Kept, Instant::now());
                    }
                    Task::HistoryEnd => {
                        progress.move_to(self.core.position());
                        let events = self.end(&progress.position).into_iter().map(Some).collect();
                        self.core.done(Done::History(Some(HistoryPage { events, has_more: false })), now);
                    }
                    task => self.start(task),
                }
            }
            self.report(&progress.position, now);
            if self.core.is_finished() {
                return self.outcome();
            }
            let due = self.core.next_due().into_iter().chain([self.next_report]).min();
            tokio::select! {
                Some(task) = self.tasks.join_next() => {
                    let finished = task.unwrap_or(Err(PublisherEnded))?;
                    progress.resume_points.extend(self.take(finished));
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

    /// Ends the replay at whatever position it has reached.
    pub(super) async fn close(
        mut self,
        progress: &mut Progress,
        keep: &mut impl FnMut(&Position) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        progress.move_to(self.core.position());
        let kept = keep(&progress.position).map_err(ReplayError::Position);
        self.publishers.stop();
        // Its tasks hold publishers.
        self.tasks.shutdown().await;
        self.publishers.close().await;
        kept
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

    /// Returns where a replay resumes after each of the events that were read.
    fn take(&mut self, finished: Finished) -> Vec<ResumePoint> {
        let (done, resume_points) = match finished {
            Finished::Published(published) => (self.publishers.take_back(published), Vec::new()),
            Finished::Read(source, read) => {
                self.source = Some(source);
                let read = read.unwrap_or_else(|error| {
                    self.failure = Some(error);
                    self.core.stop();
                    None
                });
                let (page, resume_points) = read.unzip();
                (Done::History(page), resume_points.unwrap_or_default())
            }
        };
        self.core.done(done, Instant::now());
        resume_points
    }

    /// The message that says that everything was published, if there is one.
    fn end(&mut self, position: &Position) -> Option<Outgoing> {
        self.is_to_queue.then(|| {
            let (stream, event) = replay_ended(&position.replay, position.published, now_ms());
            self.end = Some(stream.clone());
            Outgoing { stream, event: Arc::new(event) }
        })
    }

    /// How the replay has ended.
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
            tracing::info!(replay, published, left_out, "the replay continues");
        }
    }
}
