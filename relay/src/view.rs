//! A running relay at one moment, ready to be shown: what its telemetry reports, and what follows from it for readiness.

use std::{fmt, time::Duration};

use serde::Serialize;
use streambox_programs::now_ms;

use crate::{
    broker::{Link, PublisherState},
    telemetry::{Snapshot, Telemetry},
    text::how_long,
};

/// A loop without a tick for this long is stuck: it ticks at least every 10 seconds.
pub const STUCK_AFTER: Duration = Duration::from_mins(1);

/// A table whose index was not read for this long, beside the poll interval, does not answer.
pub const TABLE_SILENT_AFTER: Duration = Duration::from_secs(30);

/// An oldest entry of this age means that the relay is behind.
pub const BEHIND_AFTER: Duration = Duration::from_mins(1);

/// A broker that has concluded nothing for this long, with messages on their way to it, takes none. That is twice the default
/// time to confirm: the first timeout may be one message's fault, and the next attempt shows that.
pub const BROKER_SILENT_AFTER: Duration = Duration::from_mins(1);

/// What does not change while a relay runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    /// The table.
    pub table: String,
    /// The exchange.
    pub exchange: String,
    /// This worker; none if it runs outside of a group.
    pub worker: Option<String>,
    /// The shortest time from one scan to the next.
    #[serde(skip)]
    pub poll_interval: Duration,
    /// The longest time from a failed request to its repetition.
    #[serde(skip)]
    pub longest_delay: Duration,
}

/// The relay at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// When, by this machine's clock: milliseconds since the Unix epoch.
    pub taken_at_ms: i64,
    /// The program's version.
    pub version: &'static str,
    /// What does not change.
    #[serde(flatten)]
    pub about: About,
    /// Why the relay is not alive: its loop is stuck.
    pub not_live: Option<String>,
    /// Why it is not ready; empty if it is.
    pub not_ready: Vec<String>,
    /// Whether it is stopping.
    pub is_stopping: bool,
    /// What its loop has reported last.
    #[serde(flatten)]
    pub relay: Snapshot,
    /// The connections to the broker.
    pub connections: Vec<PublisherState>,
    /// Events that were confirmed although no queue took them (`--unroutable accept`).
    pub unroutable: u64,
    /// How many of them were the last ones in a row on one connection.
    pub unroutable_run: u64,
    /// The last minutes, the oldest first.
    pub history: Vec<Sample>,
}

/// The relay at one moment of the last minutes, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When, by this machine's clock: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Pending entries of all streams; none before the first scan.
    pub entries: Option<u64>,
    /// Age of the oldest; 0 if nothing is pending.
    pub oldest_age_seconds: f64,
    /// Events published in a second since the sample before.
    pub published_per_second: f64,
    /// How many streams are halted.
    pub halted_streams: usize,
}

impl View {
    /// The relay as its telemetry shows it now.
    #[must_use]
    pub fn of(telemetry: &Telemetry, about: &About, is_stopping: bool, history: Vec<Sample>) -> Self {
        let idle = telemetry.last_tick().elapsed();
        let connections = telemetry.publishers();
        let mut view = Self {
            taken_at_ms: now_ms(),
            version: env!("CARGO_PKG_VERSION"),
            about: about.clone(),
            not_live: (idle > STUCK_AFTER).then(|| format!("the relay's loop has not turned for {}", how_long(idle))),
            not_ready: Vec::new(),
            is_stopping,
            relay: Snapshot::clone(&telemetry.watch().borrow()),
            unroutable: connections.iter().map(|one| one.counts.total).sum(),
            unroutable_run: connections.iter().map(|one| one.counts.run).max().unwrap_or(0),
            connections,
            history,
        };
        view.judge();
        view
    }

    /// Fills in what follows from the rest: whether the backlog is current, which refusals still matter, and readiness.
    fn judge(&mut self) {
        // A relay without room for more streams reads on only when there is room again; that is not the table's fault.
        let is_full = self.relay.open_streams > 0;
        let silent_after = TABLE_SILENT_AFTER + self.about.poll_interval;
        if let Some(backlog) = &mut self.relay.backlog {
            backlog.is_current = is_full || backlog.at.elapsed() <= silent_after;
        }
        // A request that was not repeated for longer than its delay is not made any more.
        let relevant_for = TABLE_SILENT_AFTER + self.about.longest_delay;
        self.relay.refused.retain(|failure| failure.at.elapsed() <= relevant_for);
        self.not_ready = self.reasons_not_ready();
    }

    /// What keeps pending events from being published. A halted stream does not: it concerns itself alone, and has a metric and
    /// an alert of its own.
    fn reasons_not_ready(&self) -> Vec<String> {
        let stopping = self.is_stopping.then(|| "the relay is stopping".to_owned());
        let table = match &self.relay.backlog {
            None => Some("the table was not read yet".to_owned()),
            Some(backlog) if backlog.is_current => None,
            Some(backlog) => Some(format!("the table was read last {} ago", how_long(backlog.at.elapsed()))),
        };
        let trouble = self.broker_trouble().map(|trouble| trouble.to_string());
        let refused = self.relay.refused.iter().map(|failure| failure.text.clone());
        self.not_live.clone().into_iter().chain(stopping).chain(trouble).chain(table).chain(refused).collect()
    }

    /// How long ago something was, by this machine's clock; 0 for what is in the future.
    #[must_use]
    pub fn age(&self, since_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.taken_at_ms.saturating_sub(since_ms)).unwrap_or(0))
    }

    /// The age of the oldest pending entry of all streams.
    #[must_use]
    pub fn oldest_age(&self) -> Option<Duration> {
        self.relay.backlog?.oldest_pending_since_ms.map(|since| self.age(since))
    }

    /// The age of the oldest pending entry of this worker's streams that are not halted.
    #[must_use]
    pub fn oldest_workable_age(&self) -> Option<Duration> {
        self.relay.backlog?.oldest_workable_since_ms.map(|since| self.age(since))
    }

    /// What keeps every message from the broker.
    ///
    /// - One connection that is blocked stands for all: RabbitMQ's alarms hold for the whole cluster, but only connections that
    ///   publish are notified, so an idle one still looks well.
    /// - One connection that works is enough: batches go to the publishers that are connected.
    /// - A connection that works and confirms nothing is none.
    #[must_use]
    pub fn broker_trouble(&self) -> Option<BrokerTrouble> {
        let connections = &self.connections;
        if let Some(blocked) = connections.iter().find(|one| one.link == Link::Blocked) {
            let why = blocked.blocked_because.as_deref().unwrap_or("the broker gives no reason");
            return Some(BrokerTrouble::Blocked(why.to_owned()));
        }
        if connections.iter().any(|one| one.link == Link::Connected) {
            let silent = self.relay.unanswered_since.map(|since| since.elapsed());
            return silent.filter(|time| *time > BROKER_SILENT_AFTER).map(BrokerTrouble::Silent);
        }
        let error = connections.iter().find_map(|one| one.last_error.clone());
        Some(error.map_or(BrokerTrouble::Connecting, BrokerTrouble::Lost))
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
    /// It is connected and has answered for nothing for this long.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Backlog, Request, RequestFailure, ago};

    fn view(links: &[Link], unanswered_for_seconds: Option<u64>) -> View {
        let connections = links.iter().map(|link| PublisherState::new(*link)).collect();
        let relay = Snapshot { unanswered_since: unanswered_for_seconds.map(ago), ..Snapshot::default() };
        View { relay, connections, ..View::default() }
    }

    fn trouble(links: &[Link], unanswered_for_seconds: Option<u64>) -> Option<String> {
        view(links, unanswered_for_seconds).broker_trouble().map(|trouble| trouble.to_string())
    }

    #[test]
    fn one_blocked_connection_stands_for_the_broker_and_one_that_works_is_enough_of_those_that_are_lost() {
        let [blocked, connected, connecting] = [Link::Blocked, Link::Connected, Link::Connecting];
        let said = Some("the broker takes no messages: the broker gives no reason".to_owned());
        assert_eq!(trouble(&[blocked, connected], None), said);
        assert_eq!(trouble(&[connected, connecting, blocked], None), said);
        assert_eq!(trouble(&[connecting, blocked], None), said);
        assert_eq!(trouble(&[connecting, connected], None), None);
        let yet = Some("there is no connection to the broker yet".to_owned());
        assert_eq!((trouble(&[], None), trouble(&[connecting, connecting], None)), (yet.clone(), yet));
    }

    #[test]
    fn a_connection_that_confirms_nothing_is_none() {
        let [connected, connecting] = [Link::Connected, Link::Connecting];
        assert_eq!(trouble(&[connected, connected], Some(59)), None);
        let silent = trouble(&[connected, connected], Some(61));
        assert_eq!(silent.as_deref(), Some("the broker has confirmed nothing for 1 min 1 s"));
        assert_eq!(trouble(&[connecting], Some(61)).as_deref(), Some("there is no connection to the broker yet"));
    }

    /// Why a relay is not ready that is connected and has read the table just now, but for some changes.
    fn not_ready_with(change: impl FnOnce(&mut View)) -> Vec<String> {
        let mut view = view(&[Link::Connected], None);
        view.relay.backlog = Some(Backlog::empty(ago(0)));
        change(&mut view);
        view.judge();
        view.not_ready
    }

    #[test]
    fn ready_means_that_what_is_pending_can_go_out() {
        let ready: [&str; 0] = [];
        assert_eq!(not_ready_with(|_| {}), ready);
        assert_eq!(not_ready_with(|view| view.relay.halted_streams = 500), ready, "each concerns itself alone");
        let refused = |seconds| {
            let mut failure = RequestFailure::new(Request::Delete, "the permission is missing".to_owned());
            failure.at = ago(seconds);
            not_ready_with(|view| view.relay.refused = vec![failure])
        };
        assert_eq!((refused(29), refused(31)), (vec!["the permission is missing".to_owned()], vec![]));
        assert_eq!(not_ready_with(|view| view.relay.backlog = None), ["the table was not read yet"]);
        let silent = Some(Backlog::empty(ago(31)));
        assert_eq!(not_ready_with(|view| view.relay.backlog = silent), ["the table was read last 31 s ago"]);
        assert_eq!(not_ready_with(|view| (view.relay.backlog, view.relay.open_streams) = (silent, 1)), ready);
        let lost = |view: &mut View| {
            (view.connections[0].link, view.is_stopping) = (Link::Connecting, true);
            view.connections[0].last_error = Some("connection refused".to_owned());
        };
        let reasons = not_ready_with(lost);
        assert_eq!(reasons, ["the relay is stopping", "there is no connection to the broker: connection refused"]);
    }
}
