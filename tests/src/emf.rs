//! CloudWatch's embedded metric format: what its published JSON schema demands of a line, and what its limits are.

use std::collections::BTreeSet;

use serde_json::Value;

const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// The lines of a program's output that are in the format, parsed; other lines are not JSON objects or have no `_aws`.
#[must_use]
pub fn lines(output: &str) -> Vec<Value> {
    let objects = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.filter(|object| object.get("_aws").is_some()).collect()
}

/// Checks a line against the specification.
///
/// # Errors
/// What CloudWatch would not take.
pub fn check(line: &Value) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("{what}: {line}"));
    let Some(timestamp) = line["_aws"]["Timestamp"].as_u64() else { return refuse("Timestamp is not an integer") };
    if timestamp < 1_000_000_000_000 {
        return refuse("Timestamp is not in milliseconds");
    }
    let Some(directives) = line["_aws"]["CloudWatchMetrics"].as_array() else { return refuse("no directives") };
    for directive in directives {
        if !(1..=255).contains(&directive["Namespace"].as_str().unwrap_or_default().len()) {
            return refuse("the namespace is empty or too long");
        }
        let mut targets = BTreeSet::new();
        for set in directive["Dimensions"].as_array().into_iter().flatten() {
            let names: Vec<_> = set.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names.len() > 30 || names.len() != set.as_array().map_or(usize::MAX, Vec::len) {
                return refuse("a set has more than 30 dimensions, or one that is not text");
            }
            for name in names {
                let value = line[name].as_str().unwrap_or_default();
                if name.is_empty()
                    || name.len() > 250
                    || value.trim().is_empty()
                    || value.len() > 1024
                    || !value.is_ascii()
                {
                    return refuse(&format!("dimension {name}"));
                }
                targets.insert(name);
            }
        }
        if targets.is_empty() {
            return refuse("no dimension");
        }
        let Some(metrics) = directive["Metrics"].as_array() else { return refuse("no metrics") };
        if !(1..=100).contains(&metrics.len()) {
            return refuse("no metric, or more than 100");
        }
        for metric in metrics {
            let name = metric["Name"].as_str().unwrap_or_default();
            if name.is_empty() || name.len() > 1024 || !targets.insert(name) {
                return refuse(&format!("the name {name:?} is empty, too long, or there twice"));
            }
            if !metric["Unit"].as_str().is_some_and(|unit| UNITS.contains(&unit)) {
                return refuse(&format!("the unit of {name}"));
            }
            let is_value = match &line[name] {
                Value::Number(_) => true,
                Value::Array(values) => (1..=100).contains(&values.len()) && values.iter().all(Value::is_number),
                _ => false,
            };
            if !is_value {
                return refuse(&format!("the value of {name}"));
            }
        }
    }
    // A pipe takes so much in one piece.
    if line.to_string().len() > 4_096 { refuse("it is long") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line() -> Value {
        json!({
            "_aws": {
                "Timestamp": 1_780_000_000_000_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Streambox",
                    "Dimensions": [["Table"]],
                    "Metrics": [{ "Name": "Time", "Unit": "Milliseconds" }],
                }],
            },
            "Table": "orders",
            "Time": [1.5, 2.0],
        })
    }

    #[test]
    fn what_cloudwatch_does_not_take_is_found() {
        assert_eq!(check(&line()), Ok(()));
        let directive = "/_aws/CloudWatchMetrics/0";
        for (pointer, value) in [
            ("/_aws/Timestamp".to_owned(), json!("now")),
            (format!("{directive}/Namespace"), json!("")),
            (format!("{directive}/Dimensions"), json!([["Region"]])),
            (format!("{directive}/Metrics"), json!([])),
            (format!("{directive}/Metrics/0/Unit"), json!("Fortnights")),
            (format!("{directive}/Metrics/0/Name"), json!("Table")),
            ("/Time".to_owned(), json!([])),
            ("/Time".to_owned(), json!(vec![1; 101])),
            ("/Time".to_owned(), json!({ "Values": [1] })),
            ("/Table".to_owned(), json!(7)),
        ] {
            let mut line = line();
            *line.pointer_mut(&pointer).expect(&pointer) = value.clone();
            assert!(check(&line).is_err(), "{pointer} = {value}");
        }
    }
}
