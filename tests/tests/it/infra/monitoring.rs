//! `monitoring.yaml` and the scaling of `relay.yaml` look at the metrics that the relay writes.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};
use streambox_tests::cloudformation::Template;

use super::{exports, find, needed};

fn resources(template: &str) -> Vec<(String, Value)> {
    let template = Template::read(template);
    let mut parameters = needed(&template);
    if template.name == "relay.yaml" {
        parameters.push(("BrokerStack", "streambox-broker"));
    }
    template.stack(&parameters, &exports()).resources()
}

fn resource(name: &str) -> Value {
    let found = resources("monitoring.yaml").into_iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

/// The metrics that `relay/METRICS.md` says the relay writes to CloudWatch.
fn written() -> BTreeSet<String> {
    let text = include_str!("../../../../relay/METRICS.md");
    let (_, section) = text.split_once("\n## CloudWatch").expect("METRICS.md has them");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn alarms_scaling_and_dashboard_look_at_metrics_that_the_relay_writes() {
    let mut looked_at = BTreeSet::new();
    for (name, resource) in resources("relay.yaml").into_iter().chain(resources("monitoring.yaml")) {
        let own = find(&resource, &mut |value| (value["Namespace"] == "Streambox").then(|| value.clone()));
        for metric in own {
            assert_eq!(metric["Dimensions"], json!([{ "Name": "Table", "Value": "streambox" }]), "{name}");
            looked_at.insert(metric["MetricName"].as_str().unwrap().to_owned());
        }
        let Some(body) = resource["Properties"]["DashboardBody"].as_str() else { continue };
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let lists = find(&body, &mut |value| value.get("metrics").and_then(Value::as_array).cloned());
        for metric in lists.into_iter().flatten().filter(|metric| metric[0] == "Streambox") {
            assert_eq!((&metric[2], &metric[3]), (&json!("Table"), &json!("streambox")));
            looked_at.insert(metric[1].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(looked_at, written(), "each metric is paid for, so each is looked at");
}

#[test]
fn the_dashboard_shows_every_alarm() {
    let resources = resources("monitoring.yaml");
    let alarms = resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm");
    let alarms: HashSet<_> = alarms.map(|(name, _)| json!(format!("<{name}.Arn>"))).collect();
    let dashboard = resource("Dashboard");
    let body: Value = serde_json::from_str(dashboard["Properties"]["DashboardBody"].as_str().unwrap()).unwrap();
    let shown = find(&body, &mut |value| value.get("alarms").and_then(Value::as_array).cloned());
    assert_eq!(shown.into_iter().flatten().collect::<HashSet<_>>(), alarms);
}

#[test]
fn both_templates_mean_the_same_namespace() {
    let default = |name| Template::read(name).value()["Parameters"]["MetricsNamespace"]["Default"].clone();
    assert_eq!(default("monitoring.yaml"), default("relay.yaml"));
}

#[test]
fn silence_is_an_alarm_where_nothing_is_published_without_a_relay() {
    let alarm = resource("NoWorkerIsAlive");
    assert_eq!(alarm["Properties"]["TreatMissingData"], "breaching");
}
