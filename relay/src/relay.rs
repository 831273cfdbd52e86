//! The shell: does the I/O that the core asks for, and tells it what came of it.
//!
//! One task holds the core and waits for whatever comes first: an answer from DynamoDB, a batch's outcomes, the clock, or
//! the word to stop. Everything that takes time runs in a task of its own; how many there are is bounded by the core, by
//! the number of publishers and by [`MAX_DELETES`].

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use streambox::{
    Error, EventStore, StreamId,
    outbox::{Outbox, PendingKey, ScanCursor, ScanPage},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    broker::{self, BrokerSettings, Publisher, Refusal},
    chain::Chain,
    core::{Answer, Bounds, Core, Found, Outcome, Outgoing, Read},
    telemetry::{PublishedBatch, SNAPSHOT_INTERVAL, Snapshot, Telemetry},
};

/// Index keys that one scan asks for: about 100 KB, 13 read units.
pub const SCAN_LIMIT: u16 = 1_000;

/// `BatchWriteItem` requests under way at the same time.
pub const MAX_DELETES: usize = 4;

/// How often `drain` tries a halted stream before it gives up on it.
pub const DRAIN_ATTEMPTS: u32 = 3;

/// How many scans in a row must find nothing before `drain` believes it: the index lags.
const EMPTY_PASSES: u32 = 2;

/// How often a running relay says what it has done.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a relay needs to know beside the store.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Where to publish.
    pub broker: BrokerSettings,
    /// Connections that publish at the same time, each with one channel.
    pub publishers: usize,
    /// The shortest time from one scan of the index to the next.
    pub poll_interval: Duration,
    /// The longest to wait for what is in flight when told to stop.
    pub drain_timeout: Duration,
    /// The core's bounds.
    pub bounds: Bounds,
}

/// When a relay is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is told to stop.
    Stopped,
    /// When nothing is pending any more, or it is told to stop.
    Drained,
}

/// What a relay has done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Events that the broker has confirmed.
    pub published: u64,
    /// Pending entries that were deleted.
    pub entries_deleted: u64,
    /// How long it took.
    pub seconds: f64,
    /// Events published in a second, from the start to the last confirm: a drain ends only when the index has stayed empty
    /// for a while.
    pub events_per_second: f64,
    /// Whether the outbox was found empty at the end.
    pub drained: bool,
    /// The streams that are halted, and why.
    pub halted: BTreeMap<String, String>,
}

/// Why a relay did not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The table can't be read.
    #[error(transparent)]
    Store(#[from] Error),
    /// The broker refuses what it was given, and has never accepted it.
    #[error(transparent)]
    Broker(#[from] Refusal),
}

/// Runs a relay until it is done or `stop` resolves; then it begins nothing new, waits for what is in flight at most for
/// the drain timeout, deletes what was confirmed, and returns.
///
/// # Errors
/// [`Error::Setup`] where the first scan of the table is refused, and [`Refusal`] where the broker refuses the login, the
/// virtual host, the exchange or TLS before there was any connection. Everything that happens later is retried for ever:
/// what worked once may be in the middle of a change, of a password for instance.
pub async fn run(
    store: &EventStore,
    settings: RelaySettings,
    until: Until,
    stop: impl Future<Output = ()>,
) -> Result<Report, StartError> {
    run_observed(store, settings, &Telemetry::default(), until, stop).await
}

/// Runs a relay as [`run`] does, and tells `telemetry` about it.
///
/// # Errors
/// As [`run`].
pub async fn run_observed(
    store: &EventStore,
    settings: RelaySettings,
    telemetry: &Telemetry,
    until: Until,
    stop: impl Future<Output = ()>,
) -> Result<Report, StartError> {
    let outbox = store.outbox();
    // Before anything is published: a table that is not there is a mistake to report, not to retry.
    if let Err(error @ Error::Setup { .. }) = outbox.scan(None, 1).await {
        return Err(error.into());
    }
    let (stop_publishers, publishers_stop) = watch::channel(false);
    let broker = Arc::new(settings.broker.clone());
    let publishers = (0..settings.publishers).map(|_| broker::start(Arc::clone(&broker), publishers_stop.clone()));
    let publishers: Vec<_> = publishers.collect();
    let states: Vec<_> = publishers.iter().map(Publisher::state).collect();
    telemetry.set_publishers(states.clone());
    let refusal = broker::refusal_at_start(states);
    let relay = Relay {
        core: Core::new(settings.bounds.clone()),
        outbox,
        idle_publishers: publishers,
        scan: Scan::new(),
        tasks: JoinSet::new(),
        deletes_under_way: 0,
        started: Instant::now(),
        last_confirm: Instant::now(),
        until,
        settings,
        telemetry: telemetry.clone(),
        next_snapshot: Instant::now(),
    };
    tokio::select! {
        report = relay.run(stop, &stop_publishers) => Ok(report),
        // Nothing is in flight: there was no connection.
        refusal = refusal => Err(refusal.into()),
    }
}

struct Relay {
    settings: RelaySettings,
    until: Until,
    core: Core,
    outbox: Outbox,
    /// Publishers that have no batch.
    idle_publishers: Vec<Publisher>,
    scan: Scan,
    tasks: JoinSet<Done>,
    deletes_under_way: usize,
    started: Instant,
    /// When the last batch was confirmed.
    last_confirm: Instant,
    telemetry: Telemetry,
    next_snapshot: Instant,
}

/// The scan's way through the index, again and again.
struct Scan {
    /// The streams of the page that was read last, as far as they are not admitted yet.
    found: VecDeque<StreamId>,
    is_under_way: bool,
    /// Where the pass goes on; `None` at its beginning.
    cursor: Option<ScanCursor>,
    /// Whether the pass has read the last page.
    is_read_to_end: bool,
    pass_began: Instant,
    /// When the next page may be read.
    next_at: Instant,
    /// Whether this pass has found a stream that is not halted.
    has_found: bool,
    /// Passes in a row that have found none.
    empty_passes: u32,
    failures: u32,
}

impl Scan {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            found: VecDeque::new(),
            is_under_way: false,
            cursor: None,
            is_read_to_end: false,
            pass_began: now,
            next_at: now,
            has_found: false,
            empty_passes: 0,
            failures: 0,
        }
    }
}

/// What a task has done.
enum Done {
    Scanned(Result<ScanPage, Error>),
    Answered(Read, Answer),
    Published(Publisher, Vec<Outgoing>, Vec<Outcome>, Duration),
    Deleted(Vec<PendingKey>, Vec<PendingKey>),
}

impl Relay {
    async fn run(mut self, stop: impl Future<Output = ()>, stop_publishers: &watch::Sender<bool>) -> Report {
        let mut stop = pin!(stop);
        let mut next_report = self.started + REPORT_INTERVAL;
        let mut reported = self.core.totals();
        while !self.is_done() {
            let now = Instant::now();
            self.telemetry.turned(now);
            self.core.wake(now);
            self.start(now);
            self.tell(now);
            if now >= next_report {
                next_report = now + REPORT_INTERVAL;
                if self.core.totals() != reported {
                    reported = self.core.totals();
                    tracing::info!(published = reported.published, deleted = reported.deleted, "in all");
                }
            }
            let due = self.core.next_due().into_iter().chain(self.next_scan()).chain([next_report]).min();
            tokio::select! {
                Some(done) = self.tasks.join_next() => self.take(done),
                () = sleep_until(due.unwrap_or(next_report)) => {}
                () = &mut stop => {
                    self.finish(stop_publishers).await;
                    break;
                }
            }
        }
        let report = self.report();
        stop_publishers.send_replace(true);
        for publisher in self.idle_publishers {
            publisher.close().await;
        }
        report
    }

    /// Begins everything that can be begun.
    fn start(&mut self, now: Instant) {
        self.admit(now);
        self.start_scan(now);
        while let Some(read) = self.core.next_read() {
            let outbox = self.outbox.clone();
            self.tasks.spawn(async move {
                let answer = answer(&outbox, &read).await;
                Done::Answered(read, answer)
            });
        }
        while let Some(publisher) = self.idle_publishers.pop() {
            let batch = self.core.next_batch();
            if batch.is_empty() {
                self.idle_publishers.push(publisher);
                break;
            }
            self.tasks.spawn(async move {
                let began = Instant::now();
                let outcomes = publisher.publish(batch.clone()).await;
                Done::Published(publisher, batch, outcomes, began.elapsed())
            });
        }
        self.start_deletes(now);
    }

    /// Opens lanes for the streams that the scan has found, as many as there is room for.
    fn admit(&mut self, now: Instant) {
        while let Some(stream) = self.scan.found.front() {
            match self.core.found(stream, now) {
                Found::NoRoom => return,
                Found::Admitted | Found::UnderWay => self.scan.has_found = true,
                Found::Halted => {}
            }
            self.scan.found.pop_front();
        }
        if self.scan.is_read_to_end {
            self.end_pass();
        }
    }

    fn end_pass(&mut self) {
        let is_empty = !self.scan.has_found && self.core.is_idle();
        self.scan.empty_passes = if is_empty { self.scan.empty_passes + 1 } else { 0 };
        self.scan.has_found = false;
        self.scan.is_read_to_end = false;
        self.core.scanned_all();
    }

    /// When the next page of the index is to be read; never before there is room for what the last one has brought.
    fn next_scan(&self) -> Option<Instant> {
        (!self.scan.is_under_way && self.scan.found.is_empty()).then_some(self.scan.next_at)
    }

    fn start_scan(&mut self, now: Instant) {
        if self.next_scan().is_none_or(|at| now < at) {
            return;
        }
        self.scan.is_under_way = true;
        if self.scan.cursor.is_none() {
            self.scan.pass_began = now;
        }
        let (outbox, cursor) = (self.outbox.clone(), self.scan.cursor.clone());
        self.tasks.spawn(async move { Done::Scanned(outbox.scan(cursor, SCAN_LIMIT).await) });
    }

    fn start_deletes(&mut self, now: Instant) {
        // A batch that is not full goes out alone: while it is on its way the next one fills up.
        while self.deletes_under_way < MAX_DELETES {
            let is_full = self.core.deletes_waiting() >= streambox::limits::MAX_BATCH_DELETES;
            if !is_full && self.deletes_under_way > 0 {
                return;
            }
            let keys = self.core.next_deletes(now);
            if keys.is_empty() {
                return;
            }
            self.deletes_under_way += 1;
            let outbox = self.outbox.clone();
            self.tasks.spawn(async move {
                let left = match outbox.delete(&keys).await {
                    Ok(left) => left,
                    Err(error) => {
                        tracing::warn!(error = %Chain(&error), "deleting confirmed entries failed; it is tried again");
                        keys.clone()
                    }
                };
                Done::Deleted(keys, left)
            });
        }
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = Instant::now();
        match done.expect("no task of the relay panics or is aborted while it is waited for") {
            Done::Scanned(page) => self.scanned(page, now),
            Done::Answered(read, answer) => self.core.answered(&read, answer, now),
            Done::Published(publisher, batch, outcomes, took) => {
                self.idle_publishers.push(publisher);
                self.last_confirm = now;
                self.telemetry.observer().batch_published(&PublishedBatch::of(&outcomes, took));
                for (outgoing, outcome) in batch.iter().zip(outcomes) {
                    self.telemetry.observer().event_published(outgoing, &outcome, took);
                    self.core.published(&outgoing.stream, outgoing.event.version, outcome, now);
                }
            }
            Done::Deleted(asked, left) => {
                self.deletes_under_way -= 1;
                self.core.deleted(&asked, left, now);
            }
        }
    }

    fn scanned(&mut self, page: Result<ScanPage, Error>, now: Instant) {
        self.scan.is_under_way = false;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let delay = self.settings.bounds.first_delay.saturating_mul(2_u32.saturating_pow(self.scan.failures));
                self.scan.failures += 1;
                self.scan.next_at = now + delay.min(self.settings.bounds.longest_delay);
                tracing::warn!(error = %Chain(&error), "scanning the outbox failed; it is tried again");
                return;
            }
        };
        self.scan.failures = 0;
        self.scan.found = page.streams.into();
        // All entries of a stream stand next to each other.
        let mut last = None;
        self.scan.found.retain(|stream| last.replace(stream.clone()).as_ref() != Some(stream));
        self.scan.cursor = page.next;
        self.scan.is_read_to_end = self.scan.cursor.is_none();
        self.scan.next_at =
            if self.scan.is_read_to_end { self.scan.pass_began + self.settings.poll_interval } else { now };
        self.admit(now);
    }

    /// Replaces the snapshot, if it is time to.
    fn tell(&mut self, now: Instant) {
        if now < self.next_snapshot {
            return;
        }
        self.next_snapshot = now + SNAPSHOT_INTERVAL;
        self.telemetry.publish(Snapshot { totals: self.core.totals(), ..Snapshot::default() });
    }

    fn is_done(&self) -> bool {
        let is_settled = |attempts: u32| attempts >= DRAIN_ATTEMPTS;
        self.until == Until::Drained
            && self.scan.empty_passes >= EMPTY_PASSES
            && self.core.is_idle()
            && self.core.halts().all(|(_, halt)| is_settled(halt.attempts))
    }

    /// Begins nothing new, and lets what is in flight come to its end.
    async fn finish(&mut self, stop_publishers: &watch::Sender<bool>) {
        let deadline = Instant::now() + self.settings.drain_timeout;
        tracing::info!("stopping: what is in flight is finished, nothing new is begun");
        stop_publishers.send_replace(true);
        self.start_deletes(Instant::now());
        while !(self.tasks.is_empty() && self.core.has_deleted_all()) {
            tokio::select! {
                Some(done) = self.tasks.join_next() => self.take(done),
                () = sleep_until(self.core.next_due().unwrap_or(deadline)) => {}
                () = sleep_until(deadline) => {
                    tracing::warn!("the drain timeout is over: what was in flight will be published again");
                    return;
                }
            }
            self.core.wake(Instant::now());
            self.start_deletes(Instant::now());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn report(&self) -> Report {
        let (totals, seconds) = (self.core.totals(), self.started.elapsed().as_secs_f64());
        let publishing_seconds = (self.last_confirm - self.started).as_secs_f64();
        Report {
            published: totals.published,
            entries_deleted: totals.deleted,
            seconds,
            events_per_second: if publishing_seconds > 0.0 {
                totals.published as f64 / publishing_seconds
            } else {
                0.0
            },
            drained: self.is_done() && self.core.halts().count() == 0,
            halted: self.core.halts().map(|(stream, halt)| (stream.to_string(), halt.reason.clone())).collect(),
        }
    }
}

async fn answer(outbox: &Outbox, read: &Read) -> Answer {
    let answer = match read {
        Read::Pending { stream, from, limit } => outbox.pending(stream, *from, *limit).await.map(Answer::Pending),
        Read::Events { stream, from, last } => outbox.events(stream, *from, *last).await.map(Answer::Events),
        Read::Predecessor { stream, first } => outbox.predecessor(stream, *first).await.map(Answer::Predecessor),
    };
    answer.unwrap_or_else(|error| match error {
        Error::Corrupt(corrupt) => Answer::Unreadable(corrupt.to_string()),
        error => {
            tracing::warn!(error = %Chain(&error), "a read failed; it is tried again");
            Answer::Failed
        }
    })
}
