//! The loop: one task holds the core and waits for what comes first, an answer from DynamoDB, the outcomes of a batch, the clock,
//! or the signal to stop. Everything that takes time runs in a task of its own; the core bounds how many there are. `reports`:
//! what the loop shows of itself.

mod reports;

use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

use streambox::{
    Corrupt, StreamId,
    outbox::{Outbox, ScanCursor, WorkerId},
};
use streambox_programs::now_ms;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    RelayError, RunSummary,
    io::{self, Answered, Failure, Step},
    publishers::{Published, Publishers},
    silence::Silence,
};
use crate::{
    broker::PublisherEnded,
    core::{Core, CoreSettings, Done, GroupSettings, Notice, Outcome, Outgoing, Task, Totals},
    model::{HaltedStream, Request, RequestFailure},
    telemetry::{PublishedBatch, SNAPSHOT_INTERVAL, Telemetry},
};

/// How often a running relay logs what it has done.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Streams of which a stray is remembered: as many as halted streams.
const MAX_STRAYS: usize = 10_000;

pub(super) struct Shell {
    core: Core,
    outbox: Outbox,
    publishers: Publishers,
    /// Streams to which something was just appended.
    wakes: mpsc::Receiver<StreamId>,
    /// Where the scan continues; `None` at its beginning.
    cursor: Option<ScanCursor>,
    /// Items of the index that are not pending entries, as this pass over it has shown.
    strays: BTreeMap<StreamId, Corrupt>,
    tasks: JoinSet<Result<Finished, PublisherEnded>>,
    group: Option<GroupSettings>,
    telemetry: Telemetry,
    last_error: Option<RequestFailure>,
    /// Requests that DynamoDB refuses until an operator corrects something: a permission that was withdrawn, for instance.
    refused: BTreeMap<Step, RequestFailure>,
    /// Whether something has happened since the last snapshot.
    has_news: bool,
    next_snapshot: Instant,
    next_report: Instant,
    reported: Totals,
    started: Instant,
    /// For people only.
    started_at_ms: i64,
    /// When the last batch was confirmed.
    last_confirm: Instant,
    silence: Silence,
}

/// The result of a task.
enum Finished {
    Answered(Answered),
    /// Also where the scan continues.
    Scanned(Answered, Option<ScanCursor>, Option<Vec<Corrupt>>),
    Published(Published),
}

/// The result of a task. If it ended in another way, or a publisher did, the relay ends: it would be half a relay, unnoticed.
fn done(task: Result<Result<Finished, PublisherEnded>, JoinError>) -> Result<Finished, RelayError> {
    match task {
        Ok(Ok(finished)) => Ok(finished),
        Ok(Err(error)) => Err(RelayError::Ended(error.to_string())),
        Err(error) => Err(RelayError::Ended(error.to_string())),
    }
}

impl Shell {
    pub(super) fn new(
        settings: CoreSettings,
        outbox: Outbox,
        publishers: Publishers,
        telemetry: Telemetry,
        wakes: mpsc::Receiver<StreamId>,
    ) -> Self {
        let now = Instant::now();
        let group = settings.group.clone();
        Self {
            core: Core::new(settings, fastrand::u64(..), now),
            outbox,
            publishers,
            wakes,
            cursor: None,
            strays: BTreeMap::new(),
            tasks: JoinSet::new(),
            group,
            telemetry,
            last_error: None,
            refused: BTreeMap::new(),
            has_news: true,
            next_snapshot: now,
            next_report: now + REPORT_INTERVAL,
            reported: Totals::default(),
            started: now,
            started_at_ms: now_ms(),
            last_confirm: now,
            silence: Silence::default(),
        }
    }

    pub(super) async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        drain_timeout: Duration,
    ) -> Result<RunSummary, RelayError> {
        let mut stop = pin!(stop);
        let mut deadline: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.telemetry.tick(now);
            self.core.set_ready_publishers(self.publishers.ready());
            while let Some(task) = self.core.next_task(now) {
                self.start(task);
            }
            self.report(now);
            if self.core.is_finished() {
                break;
            }
            let snapshot = self.has_news.then_some(self.next_snapshot);
            let due = self.core.next_due().into_iter().chain(snapshot).chain([self.next_report]).min();
            tokio::select! {
                Some(task) = self.tasks.join_next() => self.take(done(task)?),
                Some(stream) = self.wakes.recv() => self.wake(&stream),
                () = self.publishers.changed() => self.has_news = true,
                () = sleep_until(due.unwrap_or(self.next_report)) => {}
                () = &mut stop, if deadline.is_none() => {
                    tracing::info!("stopping: what is in flight is finished, nothing new is begun");
                    deadline = Some(Instant::now() + drain_timeout);
                    self.core.stop();
                    self.publishers.stop();
                }
                () = sleep_until(deadline.unwrap_or(now)), if deadline.is_some() => {
                    tracing::warn!("the drain timeout is over: what was in flight will be published again");
                    break;
                }
            }
        }
        let last = self.snapshot();
        self.telemetry.publish(last);
        let summary = self.summary();
        self.publishers.stop();
        // Its tasks hold publishers.
        self.tasks.shutdown().await;
        self.publishers.close().await;
        Ok(summary)
    }

    /// Takes this wake and those that wait behind it.
    fn wake(&mut self, stream: &StreamId) {
        let now = Instant::now();
        self.core.wake(stream, now);
        for _ in 0..self.wakes.len() {
            if let Ok(stream) = self.wakes.try_recv() {
                self.core.wake(&stream, now);
            }
        }
    }

    fn start(&mut self, task: Task) {
        let outbox = self.outbox.clone();
        let answer = |answer| Ok(Finished::Answered(answer));
        if let Some(request) = request_of(&task) {
            self.telemetry.report(|observer| observer.request_made(request));
        }
        match task {
            Task::Scan { from_start } => {
                let cursor = self.cursor.clone().filter(|_| !from_start);
                if from_start {
                    self.strays.clear();
                }
                self.tasks.spawn(async move {
                    let (answered, cursor, strays) = io::scan(&outbox, cursor).await;
                    Ok(Finished::Scanned(answered, cursor, strays))
                });
            }
            Task::Read(read) => {
                let stray = self.strays.get(read.stream()).cloned();
                self.tasks.spawn(async move { answer(io::read(&outbox, read, stray).await) });
            }
            Task::Delete(keys) => _ = self.tasks.spawn(async move { answer(io::delete(&outbox, keys).await) }),
            Task::Publish(batch) => {
                self.silence.handed_over(Instant::now());
                let publishing = self.publishers.publish(batch);
                self.tasks.spawn(async { publishing.await.map(Finished::Published) });
            }
            Task::PublishAlone(outgoing, isolation) => {
                let publishing = self.publishers.publish_alone(outgoing, isolation);
                self.tasks.spawn(async { publishing.await.map(Finished::Published) });
            }
            Task::Beat(beat) => {
                let row = self.row(beat);
                self.tasks.spawn(async move { answer(io::beat(&outbox, &row).await) });
            }
            Task::Forget(id) => {
                tracing::warn!(worker = %id, "a worker has made no heartbeat for the timeout: its row is removed, others take its streams");
                self.tasks.spawn(async move { answer(io::forget(&outbox, &id).await) });
            }
            Task::Leave => {
                let id = self.me().clone();
                self.tasks.spawn(async move { answer(io::leave(&outbox, &id).await) });
            }
            Task::History { .. } | Task::HistoryEnd | Task::Keep(_) => unreachable!("the source is the outbox"),
        }
    }

    fn take(&mut self, finished: Finished) {
        let now = Instant::now();
        self.has_news = true;
        match finished {
            Finished::Answered(answered) => self.answered(answered, now),
            Finished::Scanned(answered, cursor, strays) => {
                self.cursor = cursor;
                for stray in strays.into_iter().flatten() {
                    if self.strays.len() < MAX_STRAYS {
                        self.strays.insert(stray.stream.clone(), stray);
                    }
                }
                self.answered(answered, now);
            }
            Finished::Published(published) => {
                let (batch, outcomes) = published.done.published();
                match &published.done {
                    Done::PublishedAlone(..) => self.silence.heard(outcomes, now),
                    _ => self.silence.came_back(outcomes, now),
                }
                self.published(batch, outcomes, published.took, now);
                let done = self.publishers.take_back(published);
                self.core.done(done, now);
            }
        }
        for notice in self.core.take_notices() {
            self.notice(notice);
        }
    }

    fn published(&mut self, batch: &[Outgoing], outcomes: &[Outcome], took: Duration, now: Instant) {
        if outcomes.contains(&Outcome::Confirmed) {
            self.last_confirm = now;
        }
        let published = PublishedBatch::of(outcomes, took);
        self.telemetry.report(|observer| {
            observer.batch_published(&published);
            for (outgoing, outcome) in batch.iter().zip(outcomes) {
                observer.event_published(outgoing, outcome, took);
            }
        });
    }

    fn answered(&mut self, answered: Answered, now: Instant) {
        for (step, failure) in answered.steps {
            match failure {
                None => _ = self.refused.remove(&step),
                Some(failure) => self.failed(step, failure),
            }
        }
        self.core.done(answered.done, now);
    }

    fn failed(&mut self, step: Step, failure: Failure) {
        let (request, Failure { text, is_refusal }) = (step.request(), failure);
        tracing::warn!(request = request.name(), error = text, "a request to DynamoDB failed; it is made again");
        self.telemetry.report(|observer| observer.request_failed(request));
        let error = RequestFailure::new(request, text);
        if is_refusal {
            self.refused.insert(step, error.clone());
        }
        self.last_error = Some(error);
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Halted { stream, halt } => {
                tracing::error!(
                    %stream,
                    attempts = halt.attempts,
                    "the stream is halted at version {} and will be tried again: {}",
                    halt.version,
                    halt.reason
                );
                let halted = HaltedStream::of(&stream, &halt);
                self.telemetry.report(|observer| observer.stream_halted(&halted));
            }
            Notice::Resumed { stream } => {
                tracing::info!(%stream, "the stream is not halted any more");
                self.telemetry.report(|observer| observer.stream_resumed(&stream));
            }
            Notice::Members => {
                let live = self.core.members().map(|(live, _)| live).unwrap_or_default();
                tracing::info!(workers = live.len(), ids = ?live, "the group has changed");
            }
            Notice::DuplicateId => tracing::error!(
                id = %self.me(),
                "another worker runs under this id: every event is published by both; give each its own --worker-id"
            ),
        }
    }

    /// Logs what has been done, and replaces the snapshot, when it is time to.
    fn report(&mut self, now: Instant) {
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            let totals = self.core.totals();
            if totals != self.reported {
                self.reported = totals;
                tracing::info!(published = totals.published, deleted = totals.deleted, "in all");
            }
        }
        if self.has_news && now >= self.next_snapshot {
            self.has_news = false;
            self.next_snapshot = now + SNAPSHOT_INTERVAL;
            let newest = self.snapshot();
            self.telemetry.publish(newest);
        }
    }

    fn me(&self) -> &WorkerId {
        &self.group.as_ref().expect("only a worker of a group has a row").id
    }
}

/// The first request that a task makes to DynamoDB; a heartbeat is followed by a read of the group's rows.
fn request_of(task: &Task) -> Option<Request> {
    match task {
        Task::Scan { .. } => Some(Request::Scan),
        Task::Read(_) => Some(Request::Read),
        Task::Delete(_) => Some(Request::Delete),
        Task::Beat(_) => Some(Request::Heartbeat),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_or_a_publisher_that_ends_unexpectedly_ends_the_relay() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async { Err(PublisherEnded) });
        tasks.spawn(async { panic!("a fault of the program") });
        for _ in 0..2 {
            let task = tasks.join_next().await.expect("two tasks");
            assert!(matches!(done(task), Err(RelayError::Ended(_))));
        }
    }
}
