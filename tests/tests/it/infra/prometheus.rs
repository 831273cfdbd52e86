//! The alerts and the dashboard for Prometheus and Grafana: they look at metrics that the relay has, mean what `monitoring.yaml` means, and
//! a real Prometheus can answer them.

use std::{collections::BTreeSet, path::Path};

use clap::CommandFactory as _;
use nix::sys::signal::Signal;
use serde_json::Value;
use streambox_relay::config::Cli;
use streambox_tests::{
    broker::{Inbox, shared_broker_url},
    cloudformation::Template,
    engine::{TestTable, stream},
    programs::Process,
    prometheus::Prometheus,
    unique, yaml,
};

use super::{exports, find, list, text};

const ALERTS: &str = include_str!("../../../../infra/prometheus/alerts.yaml");
const TESTS: &str = include_str!("../../../../infra/prometheus/alerts.test.yaml");
const DASHBOARD: &str = include_str!("../../../../infra/grafana/dashboard.json");
const OPERATING: &str = include_str!("../../../../docs/operating.md");
const METRICS: &str = include_str!("../../../../relay/METRICS.md");

/// Alerts on metrics that CloudWatch does not get.
const FOR_PROMETHEUS_ALONE: [&str; 2] = ["RelayIsNotReady", "EventsReachNoQueue"];

/// The rules: name, expression, duration, description.
fn rules() -> Vec<Value> {
    let alerts = yaml::parse(ALERTS);
    list(&alerts["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("JSON")
}

fn panels() -> Vec<Value> {
    list(&dashboard()["panels"]).to_vec()
}

/// The expressions of a panel.
fn queries(panel: &Value) -> Vec<String> {
    list(&panel["targets"]).iter().map(|target| text(&target["expr"]).to_owned()).collect()
}

/// The rows of a table of METRICS.md whose first cell is a code.
fn rows(section: &str) -> Vec<Vec<String>> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()).collect()
}

fn section(title: &str) -> &str {
    let found = METRICS.split("\n## ").find(|section| section.lines().next() == Some(title));
    found.unwrap_or_else(|| panic!("METRICS.md has no section {title}"))
}

/// The metrics of a relay as METRICS.md has them, which a test of the relay compares with what it serves.
fn metrics() -> BTreeSet<String> {
    rows(section("# Metrics")).into_iter().map(|row| row[0].clone()).collect()
}

/// The metrics that an expression names; those of a histogram's samples are the histogram.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|char: char| !char.is_ascii_lowercase() && char != '_');
    let names = words.filter(|word| word.starts_with("streambox_relay_"));
    names
        .map(|name| {
            ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned()
        })
        .collect()
}

#[test]
fn alerts_mean_what_the_alarms_of_cloudwatch_on_the_relay_mean() {
    let template = Template::read("monitoring.yaml");
    let is_of_relay = |resource: &Value| resource["Properties"]["Namespace"] == "Streambox";
    let alarms: Vec<_> = template.stack(&[], &exports()).resources();
    let alarms: Vec<_> = alarms.into_iter().filter(|(_, resource)| is_of_relay(resource)).collect();
    let of_cloudwatch = rows(section("CloudWatch"));
    let rules = rules();
    for (name, alarm) in &alarms {
        let alarm = &alarm["Properties"];
        let rule = rules.iter().find(|rule| rule["alert"] == **name).unwrap_or_else(|| panic!("{name} has no rule"));
        assert_eq!(rule["annotations"]["description"], alarm["AlarmDescription"], "{name}");
        let number = |of: &str| -> u64 {
            let value = &alarm[of];
            value.as_u64().unwrap_or_else(|| text(value).parse().expect("a number"))
        };
        assert_eq!(number("EvaluationPeriods"), number("DatapointsToAlarm"), "{name}");
        let seconds = number("Period") * number("EvaluationPeriods");
        assert_eq!(text(&rule["for"]), format!("{}m", seconds / 60), "{name}");
        let row = of_cloudwatch.iter().find(|row| alarm["MetricName"] == row[0]).expect("a metric of METRICS.md");
        let (metric, threshold) = (&row[3], number("Threshold"));
        let of_all = match text(&alarm["Statistic"]) {
            "Maximum" => "max",
            "Minimum" => "min",
            other => panic!("{name}: {other} has no counterpart"),
        };
        let expected = match (text(&alarm["ComparisonOperator"]), text(&alarm["TreatMissingData"])) {
            ("GreaterThanThreshold", "notBreaching") => {
                format!("{of_all} by (job, namespace, table) ({metric}) > {threshold}")
            }
            ("LessThanThreshold", "notBreaching") => {
                format!("{of_all} by (job, namespace, table) ({metric}) < {threshold}")
            }
            // What is missing breaches: a table that is known and has no worker, and no table at all.
            ("LessThanThreshold", "breaching") => format!(
                "(group by (job, namespace, table) (last_over_time({metric}[1d])) unless group by (job, namespace, table) ({metric} >= \
                 {threshold})) or absent_over_time({metric}[1d])"
            ),
            other => panic!("{name}: {other:?} has no counterpart"),
        };
        assert_eq!(text(&rule["expr"]), expected, "{name}");
    }
    let expected: BTreeSet<_> = alarms.iter().map(|(name, _)| name.as_str()).chain(FOR_PROMETHEUS_ALONE).collect();
    assert_eq!(rules.iter().map(|rule| text(&rule["alert"])).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn every_alert_is_in_the_docs_has_a_test_and_looks_at_metrics_of_the_relay() {
    let (rules, metrics) = (rules(), metrics());
    let described: BTreeSet<_> = rows(section("Alerts")).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(rules.iter().map(|rule| text(&rule["alert"]).to_owned()).collect::<BTreeSet<_>>(), described);
    for rule in &rules {
        let name = text(&rule["alert"]);
        // As promtool's tests name what has to fire.
        assert!(TESTS.contains(&format!("{{alertname=\"{name}\"")), "{name} has no test");
        let named = named(text(&rule["expr"]));
        assert!(!named.is_empty() && named.is_subset(&metrics), "{name}: {named:?}");
        assert_eq!(rule["labels"]["application"], "streambox", "{name}: the dashboard finds it by that");
        let page = text(&rule["annotations"]["runbook_url"]).rsplit('/').next();
        assert_eq!(page, Some(format!("operating.md#{}", name.to_lowercase()).as_str()));
        assert!(OPERATING.contains(&format!("\n### {name}\n")), "{name} is not in docs/operating.md");
    }
}

#[test]
fn the_dashboard_shows_every_metric_of_the_relay_and_nothing_else() {
    let mut shown = BTreeSet::new();
    for panel in panels() {
        for query in queries(&panel) {
            shown.extend(named(&query));
            let of_relay = query.matches("streambox_relay_").count();
            assert_eq!(
                query.matches("{job=~\"$job\", table=\"$table\"").count(),
                of_relay,
                "of the chosen table: {query}"
            );
        }
    }
    assert_eq!(shown, metrics());
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let variables: BTreeSet<_> = list(&dashboard["templating"]["list"]).iter().map(|one| text(&one["name"])).collect();
    assert_eq!(variables, ["datasource", "job", "table"].into());
    // It works with whatever the data source is called.
    let sources = find(&dashboard, &mut |value| value.get("uid").filter(|_| value["type"] == "prometheus").cloned());
    assert!(sources.len() > 20 && sources.iter().all(|uid| uid == "${datasource}"), "{sources:?}");
    let panels = panels();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut cells = BTreeSet::new();
    for panel in &panels {
        let title = text(&panel["title"]);
        assert!(text(&panel["description"]).ends_with('.'), "{title} is not described");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(x + width <= 24, "{title} is too wide");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies over another panel");
        }
    }
    // What is asked first stands first.
    let first: Vec<_> =
        panels.iter().filter(|panel| panel["gridPos"]["y"] == 0).map(|panel| text(&panel["title"])).collect();
    let order =
        ["Alerts that fire", "Halted streams", "Oldest pending entry", "Pending entries", "Broker", "Live workers"];
    assert_eq!(first, order);
}

#[test]
fn the_dashboard_names_flags_that_there_are_and_the_alerts_limit() {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("there is `run`");
    for flag in DASHBOARD.split("--").skip(1) {
        let flag = flag.split(|char: char| !char.is_ascii_lowercase() && char != '-').next().expect("a name");
        assert!(run.get_arguments().any(|argument| argument.get_long() == Some(flag)), "--{flag}");
    }
    let alert = rules().into_iter().find(|rule| rule["alert"] == "OldestPendingIsOld").expect("an alert");
    let limit: u64 = text(&alert["expr"]).rsplit(' ').next().and_then(|limit| limit.parse().ok()).expect("a limit");
    let of_age = |panel: &&Value| queries(panel).iter().any(|query| query.contains("oldest_pending_age"));
    let panels = panels();
    let shown: Vec<_> = panels.iter().filter(of_age).collect();
    assert_eq!(shown.len(), 2);
    for panel in shown {
        let steps = list(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"]);
        assert_eq!(steps.last().expect("a step")["value"], limit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_answers_every_query_of_the_dashboard_and_raises_the_alert_on_a_halted_stream() {
    let (table, url) = (TestTable::create().await, shared_broker_url());
    let mut inbox = Inbox::bound(&url, &unique("events"), "order.#").await.unwrap();
    let arguments = ["run", "--exchange", inbox.exchange(), "--poll-interval", "50ms"];
    let mut relay = Process::start("streambox-relay", Some(&table), Some(&url), arguments);
    let log: Value = serde_json::from_str(&relay.log_line("status page at http://").await).expect("JSON");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/prometheus/alerts.yaml");
    let Some(prometheus) = Prometheus::start(text(&log["address"]), &rules).await else { return };
    table.fill(&stream("order-1"), 5).await;
    table.fill(&stream("permit-1"), 1).await;
    inbox.receive_distinct(5).await;
    relay.logs_halts_of(&["permit-1"]).await;
    let here =
        |query: &str| query.replace("$table", &table.name).replace("$job", ".*").replace("$__rate_interval", "1m");
    for panel in panels() {
        for query in queries(&panel) {
            let samples = prometheus.query_until_some(&here(&query)).await;
            assert!(samples.iter().all(|sample| sample["value"][1].is_string()), "{query}: {samples:?}");
        }
    }
    let pending = format!("ALERTS{{alertname=\"StreamsAreHalted\", alertstate=\"pending\", table=\"{}\"}}", table.name);
    let alerts = prometheus.query_until_some(&pending).await;
    assert_eq!((alerts.len(), &alerts[0]["metric"]["severity"]), (1, &Value::from("critical")));
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.finish().await.code(), Some(0));
    inbox.close().await.unwrap();
}
