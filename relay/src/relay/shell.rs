//! The loop: one task holds the core and waits for whatever comes first, an answer from DynamoDB, a batch's outcomes, the
//! clock, or the word to stop. Everything that takes time runs in a task of its own; how many there are is bounded by the
//! core.

use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

use streambox::{
    Corrupt, StreamId,
    outbox::{self, Outbox, ScanCursor, WorkerId, WorkerRow},
};
use streambox_programs::now_ms;
use tokio::{
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
    core::{Core, CoreSettings, Done, GroupSettings, Halt, Notice, Outcome, Outgoing, Task, Totals},
    model::{HaltedStream, Request, RequestFailure},
    telemetry::{MAX_SHOWN_HALTS, PublishedBatch, SNAPSHOT_INTERVAL, Snapshot, Telemetry},
};

/// How often a running relay says what it has done.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Streams of which a stray is remembered: no more than halted streams are.
const MAX_STRAYS: usize = 10_000;

pub(super) struct Shell {
    core: Core,
    outbox: Outbox,
    publishers: Publishers,
    /// Where the scan goes on; `None` at its beginning.
    cursor: Option<ScanCursor>,
    /// What is no pending entry and stands in the index all the same, as this pass over it has shown.
    strays: BTreeMap<StreamId, Corrupt>,
    tasks: JoinSet<Result<Finished, PublisherEnded>>,
    group: Option<GroupSettings>,
    telemetry: Telemetry,
    last_error: Option<RequestFailure>,
    /// What DynamoDB refuses until somebody mends something: a permission that was withdrawn, for instance.
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

/// What a task has done.
enum Finished {
    Answered(Answered),
    /// Also where the scan goes on.
    Scanned(Answered, Option<ScanCursor>, Option<Vec<Corrupt>>),
    Published(Published),
}

/// What a task has done. If it ended in another way, or a publisher did, the relay ends: half of it would go on, unseen.
fn done(task: Result<Result<Finished, PublisherEnded>, JoinError>) -> Result<Finished, RelayError> {
    match task {
        Ok(Ok(finished)) => Ok(finished),
        Ok(Err(error)) => Err(RelayError::Ended(error.to_string())),
        Err(error) => Err(RelayError::Ended(error.to_string())),
    }
}

impl Shell {
    pub(super) fn new(settings: CoreSettings, outbox: Outbox, publishers: Publishers, telemetry: Telemetry) -> Self {
        let now = Instant::now();
        let group = settings.group.clone();
        Self {
            core: Core::new(settings, fastrand::u64(..), now),
            outbox,
            publishers,
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
            self.tell(now);
            if self.core.is_finished() {
                break;
            }
            let snapshot = self.has_news.then_some(self.next_snapshot);
            let due = self.core.next_due().into_iter().chain(snapshot).chain([self.next_report]).min();
            tokio::select! {
                Some(task) = self.tasks.join_next() => self.take(done(task)?),
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
        let report = self.report();
        self.publishers.stop();
        // Those that hold a publisher let go of it.
        self.tasks.shutdown().await;
        self.publishers.close().await;
        Ok(report)
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

    /// Says what has been done, and replaces the snapshot, where it is time to.
    fn tell(&mut self, now: Instant) {
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

    fn snapshot(&mut self) -> Snapshot {
        let is_idle = self.core.open_streams() == 0;
        Snapshot {
            unanswered_since: self.silence.since(is_idle),
            totals: self.core.totals(),
            open_streams: self.core.open_streams(),
            reads_under_way: self.core.reads_under_way(),
            deletes_waiting: self.core.deletes_waiting(),
            buffered_bytes: self.core.buffered_bytes(),
            halted_streams: self.core.halted_streams(),
            halted: self.longest_halted().map(|(stream, halt)| HaltedStream::of(stream, halt)).collect(),
            backlog: self.core.backlog(),
            workers: self.core.members().into_iter().flat_map(|(live, _)| live).map(|id| id.to_string()).collect(),
            last_error: self.last_error.clone(),
            refused: self.refused.values().cloned().collect(),
        }
    }

    /// Those that have been halted for the longest, as many as are shown.
    fn longest_halted(&self) -> impl Iterator<Item = (&StreamId, &Halt)> {
        let mut halts: Vec<_> = self.core.halts().collect();
        halts.sort_by_key(|(stream, halt)| (halt.since, *stream));
        halts.into_iter().take(MAX_SHOWN_HALTS)
    }

    fn me(&self) -> &WorkerId {
        &self.group.as_ref().expect("only a worker of a group has a row").id
    }

    /// The own row: the times in it are for people.
    fn row(&self, beat: u64) -> WorkerRow {
        let mut row = WorkerRow::new(self.me().clone(), beat);
        let interval = self.group.as_ref().map_or(Duration::ZERO, |group| group.heartbeat_interval);
        row.beat_interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        row.started_at_ms = self.started_at_ms;
        row.host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
        row.process_id = std::process::id();
        env!("CARGO_PKG_VERSION").clone_into(&mut row.version);
        let totals = self.core.totals();
        (row.published, row.deleted) = (totals.published, totals.deleted);
        row.open_streams = self.core.open_streams() as u64;
        row.live_workers = self.core.members().map_or(0, |(live, _)| live.len() as u64);
        row.halted_streams = self.core.halted_streams() as u64;
        let halted = |(stream, halt): (&StreamId, &Halt)| {
            let HaltedStream { version, reason, since_ms, attempts, .. } = HaltedStream::of(stream, halt);
            outbox::HaltedStream::new(stream.clone(), version, reason, since_ms, attempts)
        };
        row.halted = self.longest_halted().map(halted).collect();
        row.last_error = self.last_error.as_ref().map(|error| error.text.clone());
        row
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn report(&self) -> RunSummary {
        let (totals, seconds) = (self.core.totals(), self.started.elapsed().as_secs_f64());
        let publishing_seconds = (self.last_confirm - self.started).as_secs_f64();
        let per_second = |events: u64| if publishing_seconds > 0.0 { events as f64 / publishing_seconds } else { 0.0 };
        let halted = self.core.halts();
        RunSummary {
            published: totals.published,
            entries_deleted: totals.deleted,
            seconds,
            events_per_second: per_second(totals.published),
            drained: self.core.has_drained_all(),
            halted: halted
                .map(|(stream, halt)| (stream.to_string(), format!("version {}: {}", halt.version, halt.reason)))
                .collect(),
        }
    }
}

/// What a task asks of DynamoDB first; a heartbeat that is written is followed by a reading of the group's rows.
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
