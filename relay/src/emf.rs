//! Metrics for CloudWatch: on standard output, one line of JSON an interval in the [embedded metric format][emf] (EMF), from
//! which CloudWatch Logs makes metrics. The relay needs no permission for that, and sends nothing itself.
//!
//! What a line has is declared in [`metrics`](crate::metrics). The only dimension is the table: each further one would be billed as
//! further metrics. The worker is a property, which queries over the log find.
//!
//! Lines go by [`Lines`]: standard output that nobody reads holds up nothing. A counter stands in a line as what was counted since
//! the line before, and a line is written only when it has its place on the way out: so nothing is left out. The last line, when
//! the relay has ended, has the counters alone: a worker that is gone has no state.
//!
//! [emf]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Map, Value, json};
use streambox_programs::now_ms;
use tokio::time::sleep;

use crate::{
    lines::Lines,
    metrics::{Metrics, Reading},
    view::View,
};

/// Lines that may wait for standard output. Without room for one more, what is counted goes into a later line.
pub const WAITING_LINES: usize = 4;

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmfSettings {
    /// The namespace of the metrics in CloudWatch.
    pub namespace: String,
    /// The time from one line to the next.
    pub interval: Duration,
}

/// Writes the lines.
#[derive(Debug)]
pub struct Emf {
    settings: EmfSettings,
    metrics: Arc<Metrics>,
    /// The counters as the last line left them.
    written: Mutex<HashMap<&'static str, u64>>,
}

impl Emf {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(settings: EmfSettings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics, written: Mutex::default() }
    }

    /// Writes a line at the end of each interval, for ever. Intervals end at multiples of their length by the wall clock, so
    /// that each of CloudWatch's periods gets one line of each worker, and sums over workers are right.
    pub async fn keep_writing(&self, view: impl Fn() -> View, lines: &Lines) {
        let mut written_ms = now_ms();
        loop {
            let now = now_ms();
            written_ms = end_of_interval(written_ms.max(now), self.settings.interval);
            sleep(Duration::from_millis(u64::try_from(written_ms - now).unwrap_or_default())).await;
            // Without a place, what is counted goes into the next line.
            if let Some(place) = lines.place(1) {
                place.put(self.line(written_ms, &view(), false));
            }
        }
    }

    /// What was counted since the last line of all.
    #[must_use]
    pub fn last_line(&self, view: &View) -> String {
        self.line(now_ms(), view, true)
    }

    /// One line, without its end. What is not known is missing: a metric that is missing raises an alarm, a 0 would calm one
    /// down.
    fn line(&self, at_ms: i64, view: &View, is_last: bool) -> String {
        let (mut values, mut directives) = (Map::new(), Vec::new());
        let mut written = self.written.lock().expect("nobody panics with this lock");
        for (name, unit, reading) in self.metrics.declare(view).into_iter().flat_map(|one| one.cloudwatch) {
            let value = match reading {
                Reading::State(value) => value.filter(|_| !is_last).map(number),
                Reading::Counted(total) => {
                    let before = written.insert(name, total).unwrap_or(0);
                    Some(json!(total.saturating_sub(before)))
                }
                Reading::ConfirmMs => {
                    let times = self.metrics.take_confirm_ms();
                    (!times.is_empty()).then(|| times.into_iter().map(number).collect())
                }
            };
            if let Some(value) = value {
                values.insert(name.to_owned(), value);
                directives.push(json!({ "Name": name, "Unit": unit }));
            }
        }
        let metadata = json!({
            "Timestamp": at_ms,
            "CloudWatchMetrics": [
                { "Namespace": self.settings.namespace, "Dimensions": [["Table"]], "Metrics": directives }
            ],
        });
        values.insert("_aws".to_owned(), metadata);
        values.insert("Table".to_owned(), json!(view.about.table));
        values.insert("WorkerId".to_owned(), json!(view.about.worker));
        values.insert("Version".to_owned(), json!(view.version));
        Value::Object(values).to_string()
    }
}

/// To a thousandth, and a count without a fraction: a line that is short goes out in one piece.
fn number(value: f64) -> Value {
    let rounded = (value * 1_000.0).round() / 1_000.0;
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is small")]
    if rounded.fract() == 0.0 { json!(rounded as i64) } else { json!(rounded) }
}

/// The first multiple of the interval behind a moment.
fn end_of_interval(now_ms: i64, interval: Duration) -> i64 {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    (now_ms / interval_ms + 1) * interval_ms
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        broker::{Link, PublisherState},
        core::{Outcome, Totals},
        model::{Backlog, ago},
        telemetry::{Observer as _, PublishedBatch},
    };

    const DOCS: &str = include_str!("../METRICS.md");

    fn emf() -> Emf {
        let settings = EmfSettings { namespace: "Streambox".to_owned(), interval: Duration::from_mins(1) };
        Emf::new(settings, Arc::default())
    }

    /// The metrics of a line by their names, with their units.
    fn units(line: &Value) -> BTreeMap<String, String> {
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("a list");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        metrics.iter().map(|metric| (text(&metric["Name"]), text(&metric["Unit"]))).collect()
    }

    fn view() -> View {
        let mut view = View { taken_at_ms: 61_235, ..View::default() };
        (view.about.table, view.about.worker) = ("orders".to_owned(), Some("relay-1".to_owned()));
        let relay = &mut view.relay;
        (relay.halted_streams, relay.workers) = (2, vec!["relay-1".to_owned(), "relay-2".to_owned()]);
        let mut backlog = Backlog::empty(ago(0));
        (backlog.own_entries, backlog.oldest_pending_since_ms) = (7, Some(60_000));
        relay.backlog = Some(backlog);
        view
    }

    fn line(view: &View, is_last: bool) -> Value {
        let emf = emf();
        emf.metrics.batch_published(&PublishedBatch::of(&[Outcome::Confirmed], Duration::from_millis(2)));
        serde_json::from_str(&emf.line(60_000, view, is_last)).expect("JSON")
    }

    #[test]
    fn a_line_has_every_metric_of_the_docs_under_the_table_alone_and_the_last_one_only_what_was_counted() {
        let section = DOCS.split("## ").find(|section| section.starts_with("CloudWatch")).expect("a section");
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        let rows = section.lines().filter(|line| line.starts_with("| `")).map(cells);
        let described = rows.map(|cells: Vec<_>| (cells[1].clone(), cells[2].clone()));
        let all = line(&view(), false);
        assert_eq!(units(&all), described.collect());
        assert_eq!(all["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Table"]]));
        assert_eq!((&all["Table"], &all["WorkerId"]), (&json!("orders"), &json!("relay-1")));
        assert_eq!(
            (&all["PendingEntries"], &all["OldestPendingAge"], &all["LiveWorkers"]),
            (&json!(7), &json!(1.235), &json!(2))
        );
        assert_eq!((&all["BrokerReady"], &all["HaltedStreams"]), (&json!(0), &json!(2)));
        let counted = ["ConfirmTime", "PublishedEvents", "Reconnects", "RefusedEvents"];
        let last: BTreeSet<_> = units(&line(&view(), true)).into_keys().collect();
        assert_eq!(last, counted.map(str::to_owned).into());
    }

    #[test]
    fn what_is_not_known_is_missing_instead_of_zero() {
        let line_of = |change: &dyn Fn(&mut View)| {
            let mut view = view();
            change(&mut view);
            line(&view, false)
        };
        let unread = line_of(&|view| (view.relay.backlog, view.relay.workers) = (None, Vec::new()));
        for name in ["PendingEntries", "OldestPendingAge", "LiveWorkers"] {
            assert_eq!(unread.get(name), None, "{name}");
        }
        let backlog = |view: &mut View, since_ms, is_current| {
            let backlog = view.relay.backlog.as_mut().expect("there is one");
            (backlog.oldest_pending_since_ms, backlog.is_current) = (since_ms, is_current);
        };
        let old = line_of(&|view| backlog(view, Some(1_235), false));
        assert_eq!((old.get("PendingEntries"), &old["OldestPendingAge"]), (None, &json!(60)), "it still ages");
        let empty = line_of(&|view| backlog(view, None, false));
        assert_eq!(empty.get("OldestPendingAge"), None, "whether still nothing is pending is not known");
        let idle = line_of(&|view| backlog(view, None, true));
        assert_eq!(idle["OldestPendingAge"], json!(0));
    }

    #[test]
    fn a_line_counts_what_came_since_the_line_before_and_nothing_twice() {
        let emf = emf();
        let line = |totals: (u64, u64), reconnects, is_last| -> Value {
            let mut connection = PublisherState::new(Link::Connected);
            connection.reconnects = reconnects;
            let mut view = View { connections: vec![connection.clone(), connection], ..View::default() };
            view.relay.totals = Totals { published: totals.0, refused: totals.1, ..Totals::default() };
            serde_json::from_str(&emf.line(60_000, &view, is_last)).expect("JSON")
        };
        let batch = |ms| emf.metrics.batch_published(&PublishedBatch::of(&[], Duration::from_millis(ms)));
        batch(20);
        batch(30);
        let first = line((3, 1), 2, false);
        assert_eq!(
            (&first["PublishedEvents"], &first["RefusedEvents"], &first["Reconnects"]),
            (&json!(3), &json!(1), &json!(4))
        );
        assert_eq!(first["ConfirmTime"], json!([20, 30]));
        let idle = line((3, 1), 2, false);
        assert_eq!(
            (&idle["PublishedEvents"], &idle["RefusedEvents"], &idle["Reconnects"]),
            (&json!(0), &json!(0), &json!(0))
        );
        assert_eq!(idle.get("ConfirmTime"), None, "nothing was confirmed, so there is no time");
        batch(10);
        let last = line((4, 1), 3, true);
        assert_eq!((&last["PublishedEvents"], &last["Reconnects"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn intervals_end_at_multiples_of_their_length_and_none_ends_twice() {
        let minute = Duration::from_mins(1);
        assert_eq!(end_of_interval(1_780_000_000_123, minute), 1_780_000_020_000);
        // A sleep that ends early by the wall clock does not make a second line for the same interval.
        assert_eq!(end_of_interval(1_780_000_020_000, minute), 1_780_000_080_000);
    }
}
