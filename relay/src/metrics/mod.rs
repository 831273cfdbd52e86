//! Every metric of the relay, declared once: its name, help, unit and labels for OpenMetrics and Prometheus, and the name and unit
//! of those that CloudWatch gets ([`emf`](crate::emf)). `METRICS.md` has them in tables, which tests compare with this file. Every
//! metric has the label [`TABLE`]; a stream id is never a label: there are too many of them.

mod reservoir;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub use self::reservoir::MAX_SAMPLE;
use self::{
    Reading::{ConfirmMs, Counted, State},
    Value::{Counter, Family, Gauge, Histo, Info},
    reservoir::Reservoir,
};
use crate::{
    broker::Link,
    model::{Backlog, Request},
    telemetry::{Observer, PublishedBatch},
    view::View,
};

/// What every name begins with.
pub const PREFIX: &str = "streambox_relay";

/// The label that every metric has: the name of the table. One Prometheus may scrape the relays of several tables.
pub const TABLE: &str = "table";

/// Upper bounds of the time that a batch takes, in seconds.
const CONFIRM_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds of the events in a batch: at most 256 can be.
const BATCH_EVENTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// OpenMetrics, which Prometheus asks for.
    OpenMetrics,
    /// Prometheus' own, which everything reads.
    Prometheus,
}

impl TextFormat {
    /// The format for a header `Accept`.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let is_open = |media: &str| media.trim_start().to_ascii_lowercase().starts_with("application/openmetrics-text");
        if accept.split(',').any(is_open) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// A count for each kind of request.
type Counts = [AtomicU64; Request::ALL.len()];

/// Log lines and spans that are dropped so that the relay need not wait, counted at the place of the loss.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// Log lines.
    pub log_lines: Arc<AtomicU64>,
    /// Spans.
    pub spans: Arc<AtomicU64>,
}

/// The metrics. As an [`Observer`] it counts and times what no [`View`] shows; the rest comes from a view.
#[derive(Debug)]
pub struct Metrics {
    confirm_seconds: Histogram,
    /// Some of the same times, for CloudWatch, which takes values instead of buckets.
    confirm_ms: Mutex<Reservoir>,
    batch_events: Histogram,
    requests: Counts,
    request_failures: Counts,
    losses: Losses,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Losses::default())
    }
}

impl Metrics {
    /// All of them at 0, with the counts of what is lost.
    #[must_use]
    pub fn new(losses: Losses) -> Self {
        Self {
            confirm_seconds: Histogram::new(CONFIRM_SECONDS),
            confirm_ms: Mutex::default(),
            batch_events: Histogram::new(BATCH_EVENTS),
            requests: Default::default(),
            request_failures: Default::default(),
            losses,
        }
    }

    /// All metrics as text.
    #[must_use]
    pub fn text(&self, view: &View, format: TextFormat) -> String {
        let table = (TABLE.into(), view.about.table.clone().into());
        let mut registry = Registry::with_prefix_and_labels(PREFIX, [table].into_iter());
        registry.register_collector(Box::new(Declared(self.declare(view))));
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = match format {
            TextFormat::OpenMetrics => text::encode(&mut text, &registry),
            TextFormat::Prometheus => prometheus_text::encode(&mut text, &registry),
        };
        text
    }

    /// Some of the times to confirm since the last call, in milliseconds.
    pub(crate) fn take_confirm_ms(&self) -> Vec<f64> {
        std::mem::take(&mut *self.confirm_ms.lock().expect("nobody panics with this lock")).into_values()
    }

    /// Every metric with its value. A label's values are all there from the start: a rate over a counter that appears with its
    /// first event misses that event.
    #[expect(clippy::cast_precision_loss, reason = "numbers for people and metrics")]
    pub(crate) fn declare(&self, view: &View) -> Vec<Metric> {
        let View { relay, connections, .. } = view;
        let (backlog, totals, workers) = (relay.backlog, relay.totals, relay.workers.len() as f64);
        let of_backlog = |count: fn(&Backlog) -> u64| backlog.as_ref().map(|backlog| count(backlog) as f64);
        let is_current = backlog.is_some_and(|backlog| backlog.is_current);
        let own_entries = of_backlog(|backlog| backlog.own_entries);
        // What was pending still ages while the table does not answer; that nothing was is true only as long as it does.
        let oldest_age = view.oldest_age().map(|age| age.as_secs_f64());
        let oldest_workable_age = view.oldest_workable_age().map(|age| age.as_secs_f64());
        let read_ago = backlog.map(|backlog| backlog.at.elapsed().as_secs_f64());
        let takes_messages = f64::from(view.broker_trouble().is_none());
        let reconnects = connections.iter().map(|one| one.reconnects).sum();
        let results = [("confirmed", totals.published), ("refused", totals.refused), ("unknown", totals.unknown)];
        let count = |link| connections.iter().filter(|one| one.link == link).count() as u64;
        let by_state = Link::ALL.map(|link| (link.name(), count(link)));
        let by_request = |counts: &Counts| Request::ALL.map(|one| (one.name(), counts[one as usize].load(Relaxed)));
        let lost = |count: &AtomicU64| count.load(Relaxed);
        vec![
            Metric::new("build", "The program's version", Info([("version", view.version)])),
            gauge("ready", "1 if /readyz says yes", f64::from(view.not_ready.is_empty())),
            gauge("broker_ready", "1 if the broker takes messages", takes_messages).cloudwatch(
                "BrokerReady",
                "None",
                State(Some(takes_messages)),
            ),
            gauge("pending_entries", "Pending entries of all streams", of_backlog(|backlog| backlog.entries)),
            gauge("own_pending_entries", "Pending entries of this worker's streams", own_entries).cloudwatch(
                "PendingEntries",
                "Count",
                State(own_entries.filter(|_| is_current)),
            ),
            gauge("oldest_pending_age", "Age of the oldest pending entry; 0 if nothing is pending", oldest_age)
                .unit(Unit::Seconds)
                .cloudwatch("OldestPendingAge", "Seconds", State(oldest_age.or(is_current.then_some(0.0)))),
            gauge("oldest_workable_age", "The same of this worker's streams that are not halted", oldest_workable_age)
                .unit(Unit::Seconds),
            gauge("backlog_age", "Time since the index was read last", read_ago).unit(Unit::Seconds),
            Metric::new("events", "Events by their result, one count for each attempt", counters("result", results))
                .cloudwatch("PublishedEvents", "Count", Counted(totals.published))
                .cloudwatch("RefusedEvents", "Count", Counted(totals.refused)),
            Metric::new("confirm", "Time to the last confirm of a batch", Histo(self.confirm_seconds.clone()))
                .unit(Unit::Seconds)
                .cloudwatch("ConfirmTime", "Milliseconds", ConfirmMs),
            Metric::new("batch_events", "Events in a batch", Histo(self.batch_events.clone())),
            counter("unroutable_events", "Events confirmed although no queue took them", view.unroutable),
            counter("entries_deleted", "Pending entries that were deleted", totals.deleted),
            Metric::new("requests", "Requests to DynamoDB", counters("request", by_request(&self.requests))),
            Metric::new(
                "request_failures",
                "Requests to DynamoDB that failed after the SDK's retries",
                counters("request", by_request(&self.request_failures)),
            ),
            gauge("halted_streams", "Streams of this worker that are halted", relay.halted_streams as f64).cloudwatch(
                "HaltedStreams",
                "Count",
                State(Some(relay.halted_streams as f64)),
            ),
            gauge("open_streams", "Streams that are worked on", relay.open_streams as f64),
            gauge("buffered", "Events held in memory", relay.buffered_bytes as f64).unit(Unit::Bytes),
            gauge("deletes_waiting", "Confirmed entries not deleted yet", relay.deletes_waiting as f64),
            Metric::new(
                "connections",
                "Connections to the broker",
                Family(MetricType::Gauge, "state", by_state.into()),
            ),
            counter("reconnects", "Connections to the broker opened after the first", reconnects).cloudwatch(
                "Reconnects",
                "Count",
                Counted(reconnects),
            ),
            gauge("workers", "Live workers of the group, as this one sees it", workers).cloudwatch(
                "LiveWorkers",
                "Count",
                State(Some(workers).filter(|workers| *workers > 0.0)),
            ),
            gauge("own_share", "This worker's share of the streams, from 0 to 1", 1.0 / workers.max(1.0)),
            counter("log_lines_dropped", "Log lines that were dropped", lost(&self.losses.log_lines)),
            counter("spans_lost", "Spans that could not be exported", lost(&self.losses.spans)),
        ]
    }
}

impl Observer for Metrics {
    fn batch_published(&self, batch: &PublishedBatch) {
        let seconds = batch.took.as_secs_f64();
        self.confirm_seconds.observe(seconds);
        self.confirm_ms.lock().expect("nobody panics with this lock").add(seconds * 1_000.0);
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        self.batch_events.observe(batch.events() as f64);
    }

    fn request_made(&self, request: Request) {
        self.requests[request as usize].fetch_add(1, Relaxed);
    }

    fn request_failed(&self, request: Request) {
        self.request_failures[request as usize].fetch_add(1, Relaxed);
    }
}

/// A metric and its value.
#[derive(Debug)]
pub(crate) struct Metric {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    value: Value,
    /// Name, unit and reading of what CloudWatch gets of it.
    pub(crate) cloudwatch: Vec<(&'static str, &'static str, Reading)>,
}

#[derive(Debug)]
enum Value {
    Info([(&'static str, &'static str); 1]),
    Gauge(f64),
    Counter(u64),
    /// Gauges or counters by a label.
    Family(MetricType, &'static str, Vec<(&'static str, u64)>),
    Histo(Histogram),
}

/// What CloudWatch gets of a metric.
#[derive(Debug)]
pub(crate) enum Reading {
    /// The value now; none if it is not known.
    State(Option<f64>),
    /// What was counted since the start, of which a line has what is new.
    Counted(u64),
    /// Some of the times to confirm.
    ConfirmMs,
}

impl Metric {
    fn new(name: &'static str, help: &'static str, value: Value) -> Self {
        Self { name, help, unit: None, value, cloudwatch: Vec::new() }
    }

    fn unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    fn cloudwatch(mut self, name: &'static str, unit: &'static str, reading: Reading) -> Self {
        self.cloudwatch.push((name, unit, reading));
        self
    }
}

/// An unknown value is 0 here.
fn gauge(name: &'static str, help: &'static str, value: impl Into<Option<f64>>) -> Metric {
    Metric::new(name, help, Gauge(value.into().unwrap_or(0.0)))
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
    Metric::new(name, help, Counter(value))
}

fn counters<const N: usize>(label: &'static str, values: [(&'static str, u64); N]) -> Value {
    Family(MetricType::Counter, label, values.into())
}

#[derive(Debug)]
struct Declared(Vec<Metric>);

impl Collector for Declared {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for Metric { name, help, unit, value, .. } in &self.0 {
            let kind = match value {
                Info(_) => MetricType::Info,
                Gauge(_) => MetricType::Gauge,
                Counter(_) => MetricType::Counter,
                Family(kind, ..) => *kind,
                Histo(_) => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(name, &format!("{help}."), unit.as_ref(), kind)?;
            match value {
                Info(labels) => encoder.encode_info(labels)?,
                // A count is written as one, without a fraction.
                #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is small")]
                Gauge(value) if value.fract() == 0.0 => encoder.encode_gauge(&(*value as i64))?,
                Gauge(value) => encoder.encode_gauge(value)?,
                Counter(value) => ConstCounter::new(*value).encode(encoder)?,
                Histo(histogram) => histogram.encode(encoder)?,
                Family(kind, label, values) => {
                    for (of, value) in values {
                        let labels = [(*label, *of)];
                        let one = encoder.encode_family(&labels)?;
                        match kind {
                            MetricType::Gauge => ConstGauge::new(*value).encode(one)?,
                            _ => ConstCounter::new(*value).encode(one)?,
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    const DOCS: &str = include_str!("../../METRICS.md");

    /// The metrics of a table, whose label is left out: every sample has it.
    fn text(metrics: &Metrics, mut view: View, format: TextFormat) -> String {
        view.about.table = "orders".to_owned();
        let text = metrics.text(&view, format);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains(r#"{table="orders""#), "{line}");
        }
        text.replace(r#"{table="orders","#, "{").replace(r#"{table="orders"}"#, "")
    }

    #[test]
    fn the_table_in_the_docs_has_every_metric_with_its_type_and_labels() {
        let text = text(&Metrics::default(), View::default(), TextFormat::OpenMetrics);
        let metrics = DOCS.split("## ").next().expect("the table of metrics comes first");
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

    #[test]
    fn the_docs_name_the_metric_that_each_of_cloudwatch_is_made_of() {
        let section = DOCS.split("\n## ").find(|section| section.starts_with("CloudWatch")).expect("a section");
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = |row: &str| row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        let described: BTreeSet<_> =
            rows.map(cells).map(|cells: Vec<_>| (cells[1].clone(), cells[4].clone())).collect();
        let text = text(&Metrics::default(), View::default(), TextFormat::OpenMetrics);
        let mut declared = BTreeSet::new();
        for metric in Metrics::default().declare(&View::default()) {
            let unit = metric.unit.as_ref().map_or(String::new(), |unit| format!("_{}", unit.as_str()));
            let name = format!("{PREFIX}_{}{unit}", metric.name);
            let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
            let kind = kinds.clone().find(|(found, _)| *found == name).expect("it is in the text").1;
            declared.extend(metric.cloudwatch.iter().map(|(of, ..)| ((*of).to_owned(), shown(&name, kind))));
        }
        assert_eq!(described, declared);
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
        let metrics = Metrics::default();
        let outcomes = [crate::core::Outcome::Confirmed, crate::core::Outcome::Unknown];
        metrics.batch_published(&PublishedBatch::of(&outcomes, Duration::from_millis(20)));
        metrics.request_made(Request::Scan);
        metrics.request_failed(Request::Delete);
        let mut view = View::default();
        (view.relay.totals.published, view.relay.totals.unknown, view.relay.totals.deleted) = (1, 1, 7);
        view.relay.halted_streams = 2;
        let text = text(&metrics, view, TextFormat::OpenMetrics);
        for line in [
            "streambox_relay_events_total{result=\"confirmed\"} 1\n",
            "streambox_relay_events_total{result=\"refused\"} 0\n",
            "streambox_relay_events_total{result=\"unknown\"} 1\n",
            "streambox_relay_confirm_seconds_bucket{le=\"0.025\"} 1\n",
            "streambox_relay_confirm_seconds_bucket{le=\"0.01\"} 0\n",
            "streambox_relay_batch_events_bucket{le=\"2.0\"} 1\n",
            "streambox_relay_requests_total{request=\"scan\"} 1\n",
            "streambox_relay_request_failures_total{request=\"delete\"} 1\n",
            "streambox_relay_halted_streams 2\n",
            "streambox_relay_own_share 1\n",
            "streambox_relay_entries_deleted_total 7\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn openmetrics_is_answered_if_it_is_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [prometheus, "text/plain, Application/OpenMetrics-Text"] {
            assert_eq!(TextFormat::accepted(accept), TextFormat::OpenMetrics, "{accept}");
        }
        for accept in ["*/*", "text/plain", ""] {
            assert_eq!(TextFormat::accepted(accept), TextFormat::Prometheus, "{accept}");
        }
    }

    #[test]
    fn every_metric_of_the_relay_is_a_valid_line_and_described_before_its_samples() {
        let text = text(&Metrics::default(), View::default(), TextFormat::Prometheus);
        let mut described = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                described = name;
            } else if !line.starts_with("# HELP ") {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(described).unwrap_or_else(|| panic!("{line} is not described"));
                assert!(["", "_sum", "_count", "_bucket"].contains(&suffix), "{line} is of {described}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
