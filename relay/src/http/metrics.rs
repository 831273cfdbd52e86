//! Every metric of the relay, its labels and their values, in this one file; the table of them is in `METRICS.md`, and a
//! test compares the two. A stream id is never a label: there are too many of them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::view::View;
use crate::{
    broker::Link,
    telemetry::{Observer, PublishedBatch, Request},
};

/// What every name begins with.
pub const PREFIX: &str = "streambox_relay";

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the time that a batch takes, in seconds.
const CONFIRM_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds of the events in a batch: at most 256 can be.
const BATCH_EVENTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const REQUESTS: [Request; 5] = [Request::Scan, Request::Read, Request::Delete, Request::Heartbeat, Request::Workers];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabel {
    request: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

type Ratio = Gauge<f64, AtomicU64>;

/// What is lost rather than holding the relay up, counted where it happens.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// Log lines.
    pub log_lines: Arc<AtomicU64>,
    /// Spans.
    pub spans: Arc<AtomicU64>,
}

/// The metrics. As an [`Observer`] it counts what happens; the rest it takes from a [`View`] when it is asked for its text.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    published: Family<ResultLabel, Counter>,
    confirm_seconds: Histogram,
    batch_events: Histogram,
    requests: Family<RequestLabel, Counter>,
    request_failures: Family<RequestLabel, Counter>,
    entries_deleted: Counter,
    reconnects: Counter,
    connections: Family<StateLabel, Gauge>,
    is_ready: Gauge,
    pending_entries: Gauge,
    own_pending_entries: Gauge,
    oldest_pending_age_seconds: Ratio,
    backlog_age_seconds: Ratio,
    halted_streams: Gauge,
    open_streams: Gauge,
    buffered_bytes: Gauge,
    deletes_waiting: Gauge,
    workers: Gauge,
    own_share: Ratio,
    oldest_workable_age_seconds: Ratio,
    unroutable: Counter,
    losses: Losses,
    log_lines_dropped: Counter,
    spans_lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All of them, at 0.
    #[must_use]
    pub fn new() -> Self {
        Self::counting(Losses::default())
    }

    /// All of them, with the counts of what is lost.
    #[must_use]
    pub fn counting(losses: Losses) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            published: Family::default(),
            confirm_seconds: Histogram::new(CONFIRM_SECONDS),
            batch_events: Histogram::new(BATCH_EVENTS),
            requests: Family::default(),
            request_failures: Family::default(),
            entries_deleted: Counter::default(),
            reconnects: Counter::default(),
            connections: Family::default(),
            is_ready: Gauge::default(),
            pending_entries: Gauge::default(),
            own_pending_entries: Gauge::default(),
            oldest_pending_age_seconds: Ratio::default(),
            backlog_age_seconds: Ratio::default(),
            halted_streams: Gauge::default(),
            open_streams: Gauge::default(),
            buffered_bytes: Gauge::default(),
            deletes_waiting: Gauge::default(),
            workers: Gauge::default(),
            own_share: Ratio::default(),
            oldest_workable_age_seconds: Ratio::default(),
            unroutable: Counter::default(),
            losses,
            log_lines_dropped: Counter::default(),
            spans_lost: Counter::default(),
        };
        metrics.register();
        metrics.begin_at_zero();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program's version", build);
        registry.register("ready", "1 where /readyz says yes", self.is_ready.clone());
        registry.register(
            "pending_entries",
            "Pending entries of all streams, as the index showed them last",
            self.pending_entries.clone(),
        );
        registry.register(
            "own_pending_entries",
            "Pending entries of this worker's streams",
            self.own_pending_entries.clone(),
        );
        registry.register_with_unit(
            "oldest_pending_age",
            "Age of the oldest pending entry: this machine's time less its appender's; 0 where nothing is pending",
            Unit::Seconds,
            self.oldest_pending_age_seconds.clone(),
        );
        registry.register_with_unit(
            "oldest_workable_age",
            "Age of the oldest pending entry of this worker's streams that are not halted; 0 where there is none",
            Unit::Seconds,
            self.oldest_workable_age_seconds.clone(),
        );
        registry.register_with_unit(
            "backlog_age",
            "Time since the index was read last: how old what is said of the backlog is",
            Unit::Seconds,
            self.backlog_age_seconds.clone(),
        );
        registry.register(
            "events",
            "Events by what became of them, one count for each attempt",
            self.published.clone(),
        );
        registry.register_with_unit(
            "confirm",
            "Time from handing a batch over to its last confirm, the wait for a connection included",
            Unit::Seconds,
            self.confirm_seconds.clone(),
        );
        registry.register("batch_events", "Events in a batch", self.batch_events.clone());
        registry.register(
            "unroutable_events",
            "Events confirmed although no queue took them, which --unroutable accept allows",
            self.unroutable.clone(),
        );
        registry.register("entries_deleted", "Pending entries that were deleted", self.entries_deleted.clone());
        registry.register("requests", "Requests to DynamoDB", self.requests.clone());
        registry.register(
            "request_failures",
            "Requests to DynamoDB that failed after the SDK's retries; they are made again",
            self.request_failures.clone(),
        );
        registry.register("halted_streams", "Streams of this worker that can't go on", self.halted_streams.clone());
        registry.register("open_streams", "Streams that are worked on", self.open_streams.clone());
        registry.register_with_unit("buffered", "Events held in memory", Unit::Bytes, self.buffered_bytes.clone());
        registry.register("deletes_waiting", "Confirmed entries not deleted yet", self.deletes_waiting.clone());
        registry.register("connections", "Connections to the broker by their state", self.connections.clone());
        registry.register("reconnects", "Connections to the broker opened after the first", self.reconnects.clone());
        registry.register("workers", "Live workers of the group, as this one sees it", self.workers.clone());
        registry.register("own_share", "This worker's share of the streams, from 0 to 1", self.own_share.clone());
        registry.register(
            "log_lines_dropped",
            "Log lines that were dropped, because standard error was full or not read fast enough",
            self.log_lines_dropped.clone(),
        );
        registry.register("spans_lost", "Spans that could not be exported", self.spans_lost.clone());
    }

    /// A label's value is there from the start: a rate over a counter that appears with its first event misses that event.
    fn begin_at_zero(&self) {
        for result in ["confirmed", "refused", "unknown"] {
            drop(self.published.get_or_create(&ResultLabel { result }));
        }
        for request in REQUESTS.map(Request::name) {
            drop(self.requests.get_or_create(&RequestLabel { request }));
            drop(self.request_failures.get_or_create(&RequestLabel { request }));
        }
        for link in [Link::Connecting, Link::Connected, Link::Blocked] {
            drop(self.connections.get_or_create(&StateLabel { state: link.name() }));
        }
    }

    /// All metrics in OpenMetrics' text format, which Prometheus reads.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn text(&self, view: &View) -> String {
        self.is_ready.set(i64::from(view.not_ready.is_empty()));
        let backlog = view.backlog.as_ref();
        self.pending_entries.set(backlog.map_or(0, |backlog| signed(backlog.entries)));
        self.own_pending_entries.set(backlog.map_or(0, |backlog| signed(backlog.own_entries)));
        self.oldest_pending_age_seconds.set(backlog.and_then(|backlog| backlog.oldest_age_seconds).unwrap_or(0.0));
        let workable_age = backlog.and_then(|backlog| backlog.oldest_workable_age_seconds);
        self.oldest_workable_age_seconds.set(workable_age.unwrap_or(0.0));
        self.unroutable.inner().store(view.unroutable, Ordering::Relaxed);
        self.backlog_age_seconds.set(backlog.map_or(0.0, |backlog| backlog.read_seconds_ago));
        self.entries_deleted.inner().store(view.deleted, Ordering::Relaxed);
        self.halted_streams.set(signed(view.halted_streams));
        self.open_streams.set(signed(view.open_streams));
        self.buffered_bytes.set(signed(view.buffered_bytes));
        self.deletes_waiting.set(signed(view.deletes_waiting));
        self.reconnects.inner().store(view.connections.iter().map(|one| one.reconnects).sum(), Ordering::Relaxed);
        for link in [Link::Connecting, Link::Connected, Link::Blocked] {
            let state = link.name();
            let count = view.connections.iter().filter(|connection| connection.state == state).count();
            self.connections.get_or_create(&StateLabel { state }).set(signed(count as u64));
        }
        self.workers.set(signed(view.workers.len() as u64));
        self.own_share.set(if view.workers.is_empty() { 1.0 } else { 1.0 / view.workers.len() as f64 });
        self.log_lines_dropped.inner().store(self.losses.log_lines.load(Ordering::Relaxed), Ordering::Relaxed);
        self.spans_lost.inner().store(self.losses.spans.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Observer for Metrics {
    fn batch_published(&self, batch: &PublishedBatch) {
        let counts = [("confirmed", batch.confirmed), ("refused", batch.refused), ("unknown", batch.unknown)];
        for (result, count) in counts {
            self.published.get_or_create(&ResultLabel { result }).inc_by(count as u64);
        }
        self.confirm_seconds.observe(batch.took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        self.batch_events.observe(batch.events() as f64);
    }

    fn request_made(&self, request: Request) {
        self.requests.get_or_create(&RequestLabel { request: request.name() }).inc();
    }

    fn request_failed(&self, request: Request) {
        self.request_failures.get_or_create(&RequestLabel { request: request.name() }).inc();
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    const TABLE: &str = include_str!("../../METRICS.md");

    #[test]
    fn the_table_in_the_docs_has_every_metric_with_its_type_and_labels() {
        let text = Metrics::new().text(&View::default());
        let metrics = TABLE.split("## ").next().expect("the table of metrics comes first");
        let described: BTreeSet<String> = metrics
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                format!("{} {} {}", cells[1].trim_matches('`'), cells[2], cells[3])
            })
            .collect();
        let mut registered = BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            registered.insert(format!("{} {kind} {}", shown(name, kind), labels(&text, name)));
        }
        assert_eq!(described, registered);
    }

    /// The name as a query has it: a counter's samples end in `_total`, those of build information in `_info`.
    fn shown(name: &str, kind: &str) -> String {
        match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        }
    }

    /// The labels of a metric's samples with their values; the bounds of a histogram are none.
    fn labels(text: &str, name: &str) -> String {
        let mut found = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with(name)) {
            let Some((sample, rest)) = line.split_once('{') else { continue };
            let is_own = ["", "_total", "_info"].contains(&&sample[name.len()..]);
            if is_own && let Some((labels, _)) = rest.split_once('}') {
                let (label, value) = labels.split_once('=').expect("a label has a value");
                let value = value.trim_matches('"');
                found.insert(if label == "version" { "`version`".to_owned() } else { format!("`{label}`: {value}") });
            }
        }
        if found.is_empty() { String::new() } else { join(&found) }
    }

    fn join(found: &BTreeSet<String>) -> String {
        let label = found.iter().next().and_then(|one| one.split_once(": ")).map(|(label, _)| label.to_owned());
        match label {
            None => found.iter().cloned().collect(),
            Some(label) => {
                let values: Vec<_> =
                    found.iter().filter_map(|one| one.split_once(": ")).map(|(_, value)| value).collect();
                format!("{label}: {}", values.join(", "))
            }
        }
    }

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::new();
        let outcomes = [crate::core::Outcome::Confirmed, crate::core::Outcome::Unknown];
        metrics.batch_published(&PublishedBatch::of(&outcomes, Duration::from_millis(20)));
        metrics.request_made(Request::Scan);
        metrics.request_failed(Request::Delete);
        let text = metrics.text(&View { halted_streams: 2, deleted: 7, ..View::default() });
        for line in [
            "streambox_relay_events_total{result=\"confirmed\"} 1",
            "streambox_relay_events_total{result=\"refused\"} 0",
            "streambox_relay_events_total{result=\"unknown\"} 1",
            "streambox_relay_confirm_seconds_bucket{le=\"0.025\"} 1",
            "streambox_relay_confirm_seconds_bucket{le=\"0.01\"} 0",
            "streambox_relay_batch_events_bucket{le=\"2.0\"} 1",
            "streambox_relay_requests_total{request=\"scan\"} 1",
            "streambox_relay_request_failures_total{request=\"delete\"} 1",
            "streambox_relay_halted_streams 2",
            "streambox_relay_entries_deleted_total 7",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
