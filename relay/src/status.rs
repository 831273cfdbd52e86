//! What the table alone says about backlog, halted streams, workers and skips: what `status` shows.
//!
//! Nothing here talks to a relay or to the broker: it works when none of them does.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;
use streambox::{
    Error, EventStore,
    outbox::{PendingCount, Skip, WorkerId, WorkerRow},
};
use streambox_programs::{iso_8601, now_ms};
use tokio::time::{Instant, sleep};

use crate::model::HaltedStream;

/// The longest to wait for heartbeats, whatever a row says about its interval.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// From one reading of the rows to the next, while heartbeats are waited for.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Most pending entries that are counted.
    pub max_entries: u64,
    /// How many of the latest skips are read.
    pub skips: u16,
}

/// Backlog, halted streams, workers and the latest skips at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The table.
    pub table: String,
    /// When it was taken, by this machine's clock (ISO 8601).
    pub taken_at: String,
    /// What is pending.
    pub backlog: CountedBacklog,
    /// Halted streams, those first that have been halted for the longest.
    pub halted: Vec<HaltedStream>,
    /// How many streams the workers say are halted: a row has room for a few only.
    pub halted_streams: u64,
    /// The workers by their ids.
    pub workers: Vec<Worker>,
    /// The latest skips, the newest first.
    pub skips: Vec<Skipped>,
}

/// What is pending.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CountedBacklog {
    /// Pending entries.
    pub entries: u64,
    /// Streams that have any.
    pub streams: u64,
    /// Whether there may be more: the count has ended at its limit.
    pub at_least: bool,
    /// How long the oldest has been pending: this machine's time less its appender's.
    pub oldest_age_seconds: Option<u64>,
    /// Its stream.
    pub oldest_stream: Option<String>,
    /// The read units that the count has cost.
    pub read_units: f64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its id.
    pub id: String,
    /// Whether its heartbeat has changed between two readings; none if there was one reading only.
    pub alive: Option<bool>,
    /// Its share of the streams, from 0 to 1, as it sees the group.
    pub share: f64,
    /// The machine that it runs on.
    pub host: String,
    /// Its process id there.
    pub process_id: u32,
    /// The program's version.
    pub version: String,
    /// When it started, by its own clock (ISO 8601).
    pub started_at: String,
    /// Events published since then.
    pub published: u64,
    /// Entries deleted since then.
    pub deleted: u64,
    /// Streams that it works on.
    pub open_streams: u64,
    /// The last thing that went wrong, shortened.
    pub last_error: Option<String>,
}

/// A skip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The stream.
    pub stream: String,
    /// The entry's first version, if it was known.
    pub first_version: Option<u64>,
    /// Its last version.
    pub last_version: u64,
    /// When, by the clock of who did it (ISO 8601).
    pub at: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Reads a table's status, once or repeatedly. It remembers the heartbeats of the reading before: they show who is alive.
#[derive(Debug)]
pub struct StatusReader {
    store: EventStore,
    scope: Scope,
    beats: HashMap<WorkerId, Seen>,
}

/// A worker's heartbeat as it was read last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    beat: u64,
    /// When it was seen to change, by this machine's monotonic clock; or when it was seen first.
    at: Instant,
    alive: Option<bool>,
}

impl StatusReader {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(store: EventStore, scope: Scope) -> Self {
        Self { store, scope, beats: HashMap::new() }
    }

    /// Reads the workers' rows until each heartbeat has changed, at most for two of the longest interval: then it is known
    /// who is alive. One read unit for each reading.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn wait_for_heartbeats(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let rows = self.store.outbox().workers().await?;
            self.note(&rows);
            let longest = rows.iter().map(silence_of_the_dead).max().unwrap_or_default().min(LONGEST_WAIT);
            let is_known = self.beats.values().all(|beat| beat.alive.is_some());
            if is_known || began.elapsed() > longest {
                return Ok(());
            }
            sleep(READ_INTERVAL).await;
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn read(&mut self) -> Result<Status, Error> {
        let outbox = self.store.outbox();
        let pending = outbox.count_pending(self.scope.max_entries).await?;
        let rows = outbox.workers().await?;
        let skips = match self.scope.skips {
            0 => Vec::new(),
            limit => outbox.skips(limit).await?,
        };
        self.note(&rows);
        Ok(self.status(&pending, &rows, &skips, now_ms()))
    }

    fn note(&mut self, rows: &[WorkerRow]) {
        let now = Instant::now();
        self.beats.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows {
            let seen = self.beats.entry(row.id.clone()).or_insert(Seen { beat: row.beat, at: now, alive: None });
            if seen.beat != row.beat {
                *seen = Seen { beat: row.beat, at: now, alive: Some(true) };
            } else if now - seen.at >= silence_of_the_dead(row) {
                seen.alive = Some(false);
            }
        }
    }

    fn status(&self, pending: &PendingCount, rows: &[WorkerRow], skips: &[Skip], now_ms: i64) -> Status {
        let age = |since: i64| u64::try_from(now_ms.saturating_sub(since) / 1_000).unwrap_or(0);
        let backlog = CountedBacklog {
            entries: pending.entries,
            streams: pending.streams,
            at_least: !pending.is_whole,
            oldest_age_seconds: pending.oldest_since_ms.map(age),
            oldest_stream: pending.oldest_stream.as_ref().map(ToString::to_string),
            read_units: pending.read_units,
        };
        let alive = |row: &WorkerRow| self.beats.get(&row.id).and_then(|beat| beat.alive);
        // The last report of a dead worker is no longer true: another worker has its streams.
        let speaking = || rows.iter().filter(|row| alive(row) != Some(false));
        let mut halted: Vec<_> = speaking().flat_map(halted).collect();
        halted.sort_by(|a, b| (a.since_ms, &a.stream).cmp(&(b.since_ms, &b.stream)));
        Status {
            table: self.store.table().to_owned(),
            taken_at: iso_8601(now_ms),
            backlog,
            halted,
            halted_streams: speaking().map(|row| row.halted_streams).fold(0, u64::saturating_add),
            workers: rows.iter().map(|row| worker(row, alive(row))).collect(),
            skips: skips.iter().map(skipped).collect(),
        }
    }
}

/// A worker without a heartbeat for two of its intervals is taken as dead. The relays themselves wait for longer.
fn silence_of_the_dead(row: &WorkerRow) -> Duration {
    Duration::from_millis(row.beat_interval_ms.saturating_mul(2))
}

fn halted(row: &WorkerRow) -> impl Iterator<Item = HaltedStream> {
    row.halted.iter().map(|halted| HaltedStream {
        stream: halted.stream_id.to_string(),
        version: halted.version,
        reason: halted.reason.clone(),
        since_ms: halted.since_ms,
        attempts: halted.attempts,
        retry_at_ms: None,
        worker: Some(row.id.to_string()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn worker(row: &WorkerRow, alive: Option<bool>) -> Worker {
    Worker {
        id: row.id.to_string(),
        alive,
        share: if row.live_workers == 0 || alive == Some(false) { 0.0 } else { 1.0 / row.live_workers as f64 },
        host: row.host.clone(),
        process_id: row.process_id,
        version: row.version.clone(),
        started_at: iso_8601(row.started_at_ms),
        published: row.published,
        deleted: row.deleted,
        open_streams: row.open_streams,
        last_error: row.last_error.clone(),
    }
}

fn skipped(skip: &Skip) -> Skipped {
    Skipped {
        stream: skip.stream_id.to_string(),
        first_version: skip.first,
        last_version: skip.last,
        at: iso_8601(skip.at_ms),
        by: skip.by.clone(),
        reason: skip.reason.clone(),
    }
}
