//! What the relay shows of itself, ready to be shown: times are "so long ago", states are words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use super::{history::Sample, metrics::state_name};
use crate::{
    broker::{Link, PublisherState},
    telemetry::{Backlog, HaltedStream, LastError, Snapshot, Telemetry},
    text::how_long,
};

/// A loop that has not turned for so long is stuck: it turns at least every 10 seconds.
pub const STUCK_AFTER: Duration = Duration::from_mins(1);

/// A table whose index was not read for so long, beside the poll interval, does not answer.
pub const TABLE_SILENT_AFTER: Duration = Duration::from_secs(30);

/// An oldest entry of this age means that the relay is behind.
pub const BEHIND_AFTER: Duration = Duration::from_mins(1);

/// What does not change while a relay runs.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The table.
    pub table: String,
    /// The exchange.
    pub exchange: String,
    /// This worker; none where it runs outside of a group.
    pub worker: Option<String>,
    /// The shortest time from one scan to the next.
    pub poll_interval: Duration,
    /// The longest time from a request that has failed to its repetition.
    pub longest_delay: Duration,
}

/// The relay at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// When, by this machine's clock: milliseconds since the Unix epoch.
    pub taken_at_ms: i64,
    /// The program's version.
    pub version: &'static str,
    /// The table.
    pub table: String,
    /// The exchange.
    pub exchange: String,
    /// Why the relay is not alive: its loop is stuck.
    pub not_live: Option<String>,
    /// Why it is not ready; empty where it is.
    pub not_ready: Vec<String>,
    /// Whether it was told to stop.
    pub is_stopping: bool,
    /// Events that the broker has confirmed since the start.
    pub published: u64,
    /// Entries deleted since the start.
    pub deleted: u64,
    /// Streams that are worked on.
    pub open_streams: u64,
    /// Confirmed entries that are not deleted yet.
    pub deletes_waiting: u64,
    /// Bytes of events that are held.
    pub buffered_bytes: u64,
    /// What is pending; none before the first scan.
    pub backlog: Option<BacklogView>,
    /// How many streams are halted.
    pub halted_streams: u64,
    /// Some of them, those first that have been halted for the longest.
    pub halted: Vec<HaltedView>,
    /// The connections to the broker.
    pub connections: Vec<ConnectionView>,
    /// This worker; none where it runs outside of a group.
    pub worker: Option<String>,
    /// The live workers of the group.
    pub workers: Vec<String>,
    /// The last failure of a request to DynamoDB.
    pub last_error: Option<FailureView>,
    /// What DynamoDB refuses until somebody mends something.
    pub refused: Vec<FailureView>,
    /// The last minutes, the oldest first.
    pub history: Vec<Sample>,
}

/// What is pending.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BacklogView {
    /// Pending entries of all streams.
    pub entries: u64,
    /// Those of this worker's streams.
    pub own_entries: u64,
    /// Age of the oldest: this machine's time less its appender's.
    pub oldest_age_seconds: Option<f64>,
    /// Whether there may be more, and older ones.
    pub at_least: bool,
    /// How long ago the index was read last.
    pub read_seconds_ago: f64,
    /// Whether that is short enough for what stands here to be true still.
    pub is_current: bool,
}

/// A stream that can't go on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HaltedView {
    /// The stream.
    pub stream: String,
    /// The version that can't be published.
    pub version: u64,
    /// Why.
    pub reason: String,
    /// For how long.
    pub for_seconds: f64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub retry_in_seconds: f64,
}

/// A connection to the broker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectionView {
    /// `connecting`, `connected` or `blocked`.
    pub state: &'static str,
    /// For how long.
    pub for_seconds: f64,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// Why the last one ended or did not come about.
    pub last_error: Option<String>,
    /// Why the broker takes no messages.
    pub blocked_because: Option<String>,
}

/// A failure of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureView {
    /// Which request.
    pub request: &'static str,
    /// What went wrong.
    pub text: String,
    /// How long ago.
    pub seconds_ago: f64,
}

impl View {
    /// The relay as its telemetry shows it now.
    #[must_use]
    pub fn of(telemetry: &Telemetry, about: &About, is_stopping: bool, history: Vec<Sample>) -> Self {
        let (now, now_ms) = (Instant::now(), now_ms());
        let snapshot = telemetry.watch().borrow().clone();
        let publishers = telemetry.publishers();
        let idle = now.saturating_duration_since(telemetry.last_turn());
        let not_live = (idle > STUCK_AFTER).then(|| format!("the relay's loop has not turned for {}", how_long(idle)));
        let not_ready = not_ready(&snapshot, &publishers, about, is_stopping, not_live.as_ref(), now);
        let backlog = snapshot
            .backlog
            .map(|backlog| backlog_view(&backlog, !is_silent(&snapshot, &backlog, about, now), now, now_ms));
        Self {
            taken_at_ms: now_ms,
            version: env!("CARGO_PKG_VERSION"),
            table: about.table.clone(),
            exchange: about.exchange.clone(),
            not_live,
            not_ready,
            is_stopping,
            published: snapshot.totals.published,
            deleted: snapshot.totals.deleted,
            open_streams: snapshot.open_streams as u64,
            deletes_waiting: snapshot.deletes_waiting as u64,
            buffered_bytes: snapshot.buffered_bytes as u64,
            backlog,
            halted_streams: snapshot.halted_streams as u64,
            halted: snapshot.halts.iter().map(|halt| halted_view(halt, now)).collect(),
            connections: publishers.iter().map(|publisher| connection_view(publisher, now)).collect(),
            worker: about.worker.clone(),
            workers: snapshot.group.iter().flat_map(|group| &group.live).map(ToString::to_string).collect(),
            last_error: snapshot.last_error.as_ref().map(|error| failure_view(error, now)),
            refused: refused(&snapshot, about, now).map(|error| failure_view(error, now)).collect(),
            history,
        }
    }
}

/// What keeps the relay from doing its work.
fn not_ready(
    snapshot: &Snapshot,
    publishers: &[PublisherState],
    about: &About,
    is_stopping: bool,
    not_live: Option<&String>,
    now: Instant,
) -> Vec<String> {
    let mut reasons: Vec<_> = not_live.cloned().into_iter().collect();
    if is_stopping {
        reasons.push("the relay is stopping".to_owned());
    }
    if !publishers.iter().any(|publisher| publisher.link == Link::Connected) {
        reasons.push(no_connection(publishers));
    }
    match &snapshot.backlog {
        None => reasons.push("the table was not read yet".to_owned()),
        Some(backlog) if is_silent(snapshot, backlog, about, now) => {
            let silent = now.saturating_duration_since(backlog.at);
            reasons.push(format!("the table was read last {} ago", how_long(silent)));
        }
        Some(_) => {}
    }
    reasons.extend(refused(snapshot, about, now).map(|error| error.text.clone()));
    reasons
}

/// What DynamoDB refuses for good. What was not asked again for longer than it takes is not asked any more.
fn refused<'a>(snapshot: &'a Snapshot, about: &About, now: Instant) -> impl Iterator<Item = &'a LastError> {
    let relevant_for = TABLE_SILENT_AFTER + about.longest_delay;
    snapshot.refused.iter().filter(move |error| now.saturating_duration_since(error.at) <= relevant_for)
}

/// Whether the table does not answer. A full house reads on only when there is room again; that is no fault of the table.
fn is_silent(snapshot: &Snapshot, backlog: &Backlog, about: &About, now: Instant) -> bool {
    let silent = now.saturating_duration_since(backlog.at);
    silent > TABLE_SILENT_AFTER + about.poll_interval && snapshot.open_streams == 0
}

fn no_connection(publishers: &[PublisherState]) -> String {
    let blocked = publishers.iter().find(|publisher| publisher.link == Link::Blocked);
    if let Some(blocked) = blocked {
        let why = blocked.blocked_because.as_deref().unwrap_or("the broker gives no reason");
        return format!("the broker takes no messages: {why}");
    }
    match publishers.iter().find_map(|publisher| publisher.last_error.as_deref()) {
        Some(error) => format!("there is no connection to the broker: {error}"),
        None => "there is no connection to the broker yet".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "an age for people and metrics")]
fn backlog_view(backlog: &Backlog, is_current: bool, now: Instant, now_ms: i64) -> BacklogView {
    let age = |since_ms: i64| now_ms.saturating_sub(since_ms).max(0) as f64 / 1_000.0;
    BacklogView {
        entries: backlog.entries,
        own_entries: backlog.own_entries,
        oldest_age_seconds: backlog.oldest_pending_since_ms.map(age),
        at_least: !backlog.is_whole,
        read_seconds_ago: now.saturating_duration_since(backlog.at).as_secs_f64(),
        is_current,
    }
}

fn halted_view(halt: &HaltedStream, now: Instant) -> HaltedView {
    HaltedView {
        stream: halt.stream.to_string(),
        version: halt.version,
        reason: halt.reason.clone(),
        for_seconds: now.saturating_duration_since(halt.since).as_secs_f64(),
        attempts: halt.attempts,
        retry_in_seconds: halt.retry_at.saturating_duration_since(now).as_secs_f64(),
    }
}

fn failure_view(error: &LastError, now: Instant) -> FailureView {
    FailureView {
        request: error.request.name(),
        text: error.text.clone(),
        seconds_ago: now.saturating_duration_since(error.at).as_secs_f64(),
    }
}

fn connection_view(publisher: &PublisherState, now: Instant) -> ConnectionView {
    ConnectionView {
        state: state_name(publisher.link),
        for_seconds: now.saturating_duration_since(publisher.since).as_secs_f64(),
        reconnects: publisher.reconnects,
        last_error: publisher.last_error.clone(),
        blocked_because: publisher.blocked_because.clone(),
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
