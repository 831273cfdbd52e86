//! Every metric for CloudWatch with its unit, in this one file, and the line that they stand in; the table of them is in
//! `METRICS.md`, and a test compares the two. The only dimension is the table: each further one would be billed as further
//! metrics. Which worker says it is a property, which queries over the log find.

use serde_json::{Map, Value, json};

use crate::http::View;

/// The metrics and their units.
pub const METRICS: [(&str, &str); 9] = [
    (PENDING_ENTRIES, "Count"),
    (OLDEST_PENDING_AGE, "Seconds"),
    (HALTED_STREAMS, "Count"),
    (PUBLISHED_EVENTS, "Count"),
    (REFUSED_EVENTS, "Count"),
    (CONFIRM_TIME, "Milliseconds"),
    (BROKER_READY, "None"),
    (RECONNECTS, "Count"),
    (LIVE_WORKERS, "Count"),
];

const PENDING_ENTRIES: &str = "PendingEntries";
const OLDEST_PENDING_AGE: &str = "OldestPendingAge";
const HALTED_STREAMS: &str = "HaltedStreams";
const PUBLISHED_EVENTS: &str = "PublishedEvents";
const REFUSED_EVENTS: &str = "RefusedEvents";
const CONFIRM_TIME: &str = "ConfirmTime";
const BROKER_READY: &str = "BrokerReady";
const RECONNECTS: &str = "Reconnects";
const LIVE_WORKERS: &str = "LiveWorkers";

/// The only dimension.
const TABLE: &str = "Table";
/// Property: the worker's id.
const WORKER_ID: &str = "WorkerId";
/// Property: the program's version.
const VERSION: &str = "Version";

/// What was counted since the line before.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) refused: u64,
    pub(super) reconnects: u64,
    /// At most 100 values, as the format demands.
    pub(super) confirm_ms: Vec<f64>,
}

/// One line, without its end. What is not known stands in no line: a metric that is missing raises an alarm where a 0 would
/// calm one down.
pub(super) fn write(namespace: &str, at_ms: i64, view: &View, counts: &Counts, is_last: bool) -> String {
    let mut values = Map::new();
    let mut put = |name: &str, value: Value| _ = values.insert(name.to_owned(), value);
    put(PUBLISHED_EVENTS, json!(counts.published));
    put(REFUSED_EVENTS, json!(counts.refused));
    put(RECONNECTS, json!(counts.reconnects));
    if !counts.confirm_ms.is_empty() {
        put(CONFIRM_TIME, counts.confirm_ms.iter().map(|ms| rounded(*ms)).collect());
    }
    if !is_last {
        put(BROKER_READY, json!(u8::from(view.broker_trouble().is_none())));
        put(HALTED_STREAMS, json!(view.halted_streams));
        if let Some(backlog) = view.backlog.as_ref().filter(|backlog| backlog.is_current) {
            put(PENDING_ENTRIES, json!(backlog.own_entries));
        }
        if let Some(age) = oldest_age_seconds(view) {
            put(OLDEST_PENDING_AGE, rounded(age));
        }
        if !view.workers.is_empty() {
            put(LIVE_WORKERS, json!(view.workers.len()));
        }
    }
    let told = METRICS.iter().filter(|(name, _)| values.contains_key(*name));
    let directives: Vec<_> = told.map(|(name, unit)| json!({ "Name": name, "Unit": unit })).collect();
    let metadata = json!({
        "Timestamp": at_ms,
        "CloudWatchMetrics": [{ "Namespace": namespace, "Dimensions": [[TABLE]], "Metrics": directives }],
    });
    values.insert("_aws".to_owned(), metadata);
    values.insert(TABLE.to_owned(), json!(view.table));
    values.insert(WORKER_ID.to_owned(), json!(view.worker));
    values.insert(VERSION.to_owned(), json!(view.version));
    Value::Object(values).to_string()
}

/// What was pending goes on to age while the table does not answer; that nothing was is true only as long as it does.
fn oldest_age_seconds(view: &View) -> Option<f64> {
    let backlog = view.backlog.as_ref()?;
    backlog.oldest_age_seconds.or_else(|| backlog.is_current.then_some(0.0))
}

/// To a thousandth: a line that is short goes out in one piece.
fn rounded(value: f64) -> Value {
    json!((value * 1_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::BacklogView;

    const DOCS: &str = include_str!("../../METRICS.md");

    fn names(line: &Value) -> BTreeSet<String> {
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("a list");
        metrics.iter().map(|metric| metric["Name"].as_str().expect("a name").to_owned()).collect()
    }

    fn view() -> View {
        let backlog = BacklogView {
            own_entries: 7,
            oldest_age_seconds: Some(1.23456),
            is_current: true,
            ..BacklogView::default()
        };
        View {
            table: "orders".to_owned(),
            worker: Some("relay-1".to_owned()),
            workers: vec!["relay-1".to_owned(), "relay-2".to_owned()],
            halted_streams: 2,
            backlog: Some(backlog),
            ..View::default()
        }
    }

    fn line(view: &View, is_last: bool) -> Value {
        let counts = Counts { published: 5, refused: 1, reconnects: 0, confirm_ms: vec![2.0] };
        serde_json::from_str(&write("Streambox", 60_000, view, &counts, is_last)).expect("JSON")
    }

    #[test]
    fn the_table_in_the_docs_has_every_metric_with_its_unit() {
        let section = DOCS.split("## ").find(|section| section.starts_with("CloudWatch")).expect("a section");
        let cells =
            |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
        let described: Vec<_> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(cells)
            .map(|cells| (cells[1].clone(), cells[2].clone()))
            .collect();
        assert_eq!(described, METRICS.map(|(name, unit)| (name.to_owned(), unit.to_owned())));
    }

    #[test]
    fn a_line_has_every_metric_under_the_table_alone_and_the_last_one_only_what_was_counted() {
        let all = line(&view(), false);
        assert_eq!(names(&all), METRICS.map(|(name, _)| name.to_owned()).into());
        assert_eq!(all["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Table"]]));
        assert_eq!((&all["Table"], &all["WorkerId"]), (&json!("orders"), &json!("relay-1")));
        assert_eq!(
            (&all["PendingEntries"], &all["OldestPendingAge"], &all["LiveWorkers"]),
            (&json!(7), &json!(1.235), &json!(2))
        );
        assert_eq!((&all["BrokerReady"], &all["HaltedStreams"]), (&json!(0), &json!(2)));
        let last = line(&view(), true);
        let counted = ["ConfirmTime", "PublishedEvents", "Reconnects", "RefusedEvents"];
        assert_eq!(names(&last), counted.map(str::to_owned).into());
    }

    #[test]
    fn what_is_not_known_is_missing_instead_of_zero() {
        let unread = names(&line(&View { backlog: None, workers: Vec::new(), ..view() }, false));
        for name in [PENDING_ENTRIES, OLDEST_PENDING_AGE, LIVE_WORKERS] {
            assert!(!unread.contains(name), "{name}");
        }
        let silent =
            |oldest_age_seconds| BacklogView { oldest_age_seconds, is_current: false, ..BacklogView::default() };
        let old = line(&View { backlog: Some(silent(Some(90.0))), ..view() }, false);
        assert_eq!((old.get(PENDING_ENTRIES), &old[OLDEST_PENDING_AGE]), (None, &json!(90.0)), "it goes on to age");
        let empty = line(&View { backlog: Some(silent(None)), ..view() }, false);
        assert_eq!(empty.get(OLDEST_PENDING_AGE), None, "whether still nothing is pending is not known");
        let idle = View { backlog: Some(BacklogView { is_current: true, ..BacklogView::default() }), ..view() };
        assert_eq!(line(&idle, false)[OLDEST_PENDING_AGE], json!(0.0));
    }
}
