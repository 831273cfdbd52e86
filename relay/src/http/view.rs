//! What the relay shows of itself, ready to be shown: times are "so long ago", states are words.

use std::{fmt, time::Duration};

use serde::Serialize;
use streambox_programs::now_ms;
use tokio::time::Instant;

use crate::{
    broker::{Link, PublisherState},
    telemetry::{Backlog, HaltedStream, LastError, Snapshot, Telemetry},
    text::how_long,
};

/// A loop without a tick for this long is stuck: it ticks at least every 10 seconds.
pub const STUCK_AFTER: Duration = Duration::from_mins(1);

/// A table whose index was not read for so long, beside the poll interval, does not answer.
pub const TABLE_SILENT_AFTER: Duration = Duration::from_secs(30);

/// An oldest entry of this age means that the relay is behind.
pub const BEHIND_AFTER: Duration = Duration::from_mins(1);

/// A broker that has concluded nothing for so long, with messages on their way to it, takes none. That is twice the time that
/// a confirm may take unless set otherwise: the first timeout may be one message's fault, and the next attempt shows that.
pub const BROKER_SILENT_AFTER: Duration = Duration::from_mins(1);

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
    /// For how long the broker has answered for none of the messages on their way to it; none where it has nothing to answer
    /// for.
    pub unanswered_for_seconds: Option<f64>,
    /// Events that were confirmed although no queue took them (`--unroutable accept`).
    pub unroutable: u64,
    /// How many of them were the last ones in a row on one connection.
    pub unroutable_run: u64,
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
    /// Those of this worker's halted streams.
    pub halted_entries: u64,
    /// This worker's streams that have any and are not halted.
    pub workable_streams: u64,
    /// Age of the oldest: this machine's time less its appender's.
    pub oldest_age_seconds: Option<f64>,
    /// Age of the oldest of this worker's streams that are not halted.
    pub oldest_workable_age_seconds: Option<f64>,
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

/// The relay at one moment, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When, by this machine's clock: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Pending entries of all streams; none before the first scan.
    pub entries: Option<u64>,
    /// Age of the oldest; 0 where nothing is pending.
    pub oldest_age_seconds: f64,
    /// Events published in a second since the sample before.
    pub published_per_second: f64,
    /// How many streams are halted.
    pub halted_streams: u64,
}

impl View {
    /// The relay as its telemetry shows it now.
    #[must_use]
    pub fn of(telemetry: &Telemetry, about: &About, is_stopping: bool, history: Vec<Sample>) -> Self {
        let (now, now_ms) = (Instant::now(), now_ms());
        let snapshot = telemetry.watch().borrow().clone();
        let publishers = telemetry.publishers();
        let idle = now.saturating_duration_since(telemetry.last_tick());
        let not_live = (idle > STUCK_AFTER).then(|| format!("the relay's loop has not turned for {}", how_long(idle)));
        let connections: Vec<_> = publishers.iter().map(|publisher| connection_view(publisher, now)).collect();
        let unanswered_for = snapshot.unanswered_since.map(|since| now.saturating_duration_since(since).as_secs_f64());
        let trouble = broker_trouble(&connections, unanswered_for);
        let not_ready = not_ready(&snapshot, trouble, about, is_stopping, not_live.as_ref(), now);
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
            connections,
            unanswered_for_seconds: unanswered_for,
            unroutable: publishers.iter().map(|publisher| publisher.unroutable).sum(),
            unroutable_run: publishers.iter().map(|publisher| publisher.unroutable_run).max().unwrap_or(0),
            worker: about.worker.clone(),
            workers: snapshot.group.iter().flat_map(|group| &group.live).map(ToString::to_string).collect(),
            last_error: snapshot.last_error.as_ref().map(|error| failure_view(error, now)),
            refused: refused(&snapshot, about, now).map(|error| failure_view(error, now)).collect(),
            history,
        }
    }

    /// Why the broker takes none of the messages that are pending, if it does not.
    #[must_use]
    pub fn broker_trouble(&self) -> Option<BrokerTrouble> {
        broker_trouble(&self.connections, self.unanswered_for_seconds)
    }
}

/// Why the broker takes no messages.
#[derive(Clone, Debug, PartialEq)]
pub enum BrokerTrouble {
    /// An alarm of memory or disk, in the broker's words.
    Blocked(String),
    /// There was no connection yet.
    Connecting,
    /// There is no connection, and why.
    Lost(String),
    /// It is connected and has answered for nothing for so long.
    Silent(Duration),
}

impl fmt::Display for BrokerTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(why) => write!(f, "the broker takes no messages: {why}"),
            Self::Connecting => f.write_str("there is no connection to the broker yet"),
            Self::Lost(error) => write!(f, "there is no connection to the broker: {error}"),
            Self::Silent(time) => write!(f, "the broker has confirmed nothing for {}", how_long(*time)),
        }
    }
}

/// What keeps every message from the broker.
///
/// - One connection that is blocked stands for all: RabbitMQ's alarms hold for the whole cluster, but only connections that
///   publish are notified, so an idle one still looks well.
/// - One connection that works is enough: batches go to the publishers that are connected.
/// - A connection that works and confirms nothing is none.
fn broker_trouble(connections: &[ConnectionView], unanswered_for: Option<f64>) -> Option<BrokerTrouble> {
    let is = |link: Link| move |connection: &&ConnectionView| connection.state == link.name();
    if let Some(blocked) = connections.iter().find(is(Link::Blocked)) {
        let why = blocked.blocked_because.as_deref().unwrap_or("the broker gives no reason");
        return Some(BrokerTrouble::Blocked(why.to_owned()));
    }
    if connections.iter().any(|connection| is(Link::Connected)(&connection)) {
        let silent = unanswered_for.map(Duration::from_secs_f64).filter(|time| *time > BROKER_SILENT_AFTER);
        return silent.map(BrokerTrouble::Silent);
    }
    let error = connections.iter().find_map(|connection| connection.last_error.clone());
    Some(error.map_or(BrokerTrouble::Connecting, BrokerTrouble::Lost))
}

/// What keeps pending events from being published. A halted stream does not: it concerns itself alone, and has a metric and
/// an alert of its own.
fn not_ready(
    snapshot: &Snapshot,
    trouble: Option<BrokerTrouble>,
    about: &About,
    is_stopping: bool,
    not_live: Option<&String>,
    now: Instant,
) -> Vec<String> {
    let mut reasons: Vec<_> = not_live.cloned().into_iter().collect();
    if is_stopping {
        reasons.push("the relay is stopping".to_owned());
    }
    reasons.extend(trouble.map(|trouble| trouble.to_string()));
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

#[expect(clippy::cast_precision_loss, reason = "an age for people and metrics")]
fn backlog_view(backlog: &Backlog, is_current: bool, now: Instant, now_ms: i64) -> BacklogView {
    let age = |since_ms: i64| now_ms.saturating_sub(since_ms).max(0) as f64 / 1_000.0;
    BacklogView {
        entries: backlog.entries,
        own_entries: backlog.own_entries,
        halted_entries: backlog.halted_entries,
        workable_streams: backlog.workable_streams,
        oldest_age_seconds: backlog.oldest_pending_since_ms.map(age),
        oldest_workable_age_seconds: backlog.oldest_workable_since_ms.map(age),
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
        state: publisher.link.name(),
        for_seconds: now.saturating_duration_since(publisher.since).as_secs_f64(),
        reconnects: publisher.reconnects,
        last_error: publisher.last_error.clone(),
        blocked_because: publisher.blocked_because.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(state: &'static str) -> ConnectionView {
        ConnectionView { state, for_seconds: 5.0, reconnects: 0, last_error: None, blocked_because: None }
    }

    fn trouble(states: &[&'static str], unanswered_for_seconds: Option<f64>) -> Option<String> {
        let connections = states.iter().map(|state| connection(state)).collect();
        let view = View { connections, unanswered_for_seconds, ..View::default() };
        view.broker_trouble().map(|trouble| trouble.to_string())
    }

    #[test]
    fn one_blocked_connection_stands_for_the_broker_and_one_that_works_is_enough_of_those_that_are_lost() {
        let blocked = Some("the broker takes no messages: the broker gives no reason".to_owned());
        assert_eq!(trouble(&["blocked", "connected"], None), blocked);
        assert_eq!(trouble(&["connected", "connecting", "blocked"], None), blocked);
        assert_eq!(trouble(&["connecting", "blocked"], None), blocked);
        assert_eq!(trouble(&["connecting", "connected"], None), None);
        let yet = Some("there is no connection to the broker yet".to_owned());
        assert_eq!((trouble(&[], None), trouble(&["connecting", "connecting"], None)), (yet.clone(), yet));
    }

    #[test]
    fn a_connection_that_confirms_nothing_is_none() {
        assert_eq!(trouble(&["connected", "connected"], Some(60.0)), None);
        let silent = trouble(&["connected", "connected"], Some(61.0));
        assert_eq!(silent.as_deref(), Some("the broker has confirmed nothing for 1 min 1 s"));
        assert_eq!(trouble(&["connecting"], Some(61.0)).as_deref(), Some("there is no connection to the broker yet"));
    }

    /// A relay that is connected and has read the table just now, with so many changes.
    fn not_ready_with(change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
        let now = Instant::now();
        let mut snapshot = Snapshot { backlog: Some(Backlog::empty(now)), ..Snapshot::default() };
        change(&mut snapshot);
        not_ready(&snapshot, None, &About::default(), false, None, now)
    }

    #[test]
    fn ready_means_that_what_is_pending_can_go_out() {
        let ready: [&str; 0] = [];
        assert_eq!(not_ready_with(|_| {}), ready);
        assert_eq!(not_ready_with(|snapshot| snapshot.halted_streams = 500), ready, "each concerns itself alone");
        let (request, text) = (crate::telemetry::Request::Delete, "the permission is missing".to_owned());
        let refused = |snapshot: &mut Snapshot| {
            snapshot.refused = vec![LastError { request, text, at: Instant::now() }];
        };
        assert_eq!(not_ready_with(refused), ["the permission is missing"]);
        assert_eq!(not_ready_with(|snapshot| snapshot.backlog = None), ["the table was not read yet"]);
        let now = Instant::now();
        let snapshot = Snapshot { backlog: Some(Backlog::empty(now)), ..Snapshot::default() };
        let lost = Some(BrokerTrouble::Lost("connection refused".to_owned()));
        let reasons = not_ready(&snapshot, lost, &About::default(), true, None, now);
        assert_eq!(reasons, ["the relay is stopping", "there is no connection to the broker: connection refused"]);
    }
}
