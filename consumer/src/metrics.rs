//! Every metric of a consumer, each declared once. `METRICS.md` has their table, which a test compares with this file.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::ConsumerStatus;

/// What every name begins with.
const PREFIX: &str = "streambox_consumer";

/// The label that every metric has: the name of the consumer's queue.
const QUEUE: &str = "queue";

/// A metric: name, help, value.
type Metric<T> = (&'static str, &'static str, fn(&ConsumerStatus) -> T);

/// What only grows. The names get the suffix `_total`.
const COUNTERS: [Metric<u64>; 9] = [
    ("applied", "Events whose effect was stored", |status| status.applied),
    ("applied_from_store", "Of them, those that were read from the events table", |status| status.applied_from_store),
    ("duplicates", "Messages of events that were applied before", |status| status.duplicates),
    ("gaps", "Gaps that were noticed", |status| status.gaps),
    ("failures", "Attempts to apply an event that have failed", |status| status.failures),
    ("parked", "Streams that were parked, each time counted", |status| status.parked),
    ("recovered", "Parked streams that are up to date again", |status| status.recovered),
    ("rejected", "Messages that are not events", |status| status.rejected),
    ("reopened", "Connections given up because a message was kept too long", |status| status.reopened),
];

/// What goes up and down.
const GAUGES: [Metric<f64>; 4] = [
    ("ready", "1 if what is in the queue can be applied", |status| f64::from(u8::from(status.is_ready()))),
    ("unacknowledged", "Messages that are not acknowledged", |status| count(status.unacknowledged)),
    ("oldest_unacknowledged_seconds", "For how long the oldest of them is not", |status| {
        status.oldest_unacknowledged.unwrap_or_default().as_secs_f64()
    }),
    ("waiting_streams", "Streams that make no progress while their messages are kept", |status| {
        count(status.waiting_streams)
    }),
];

/// The metrics in OpenMetrics' text format.
pub(crate) fn text(queue: &str, status: &ConsumerStatus) -> String {
    let labels = [(QUEUE.into(), queue.to_owned().into())];
    let mut registry = Registry::with_prefix_and_labels(PREFIX, labels.into_iter());
    registry.register_collector(Box::new(Reading(status.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a text takes everything");
    text
}

#[derive(Debug)]
struct Reading(ConsumerStatus);

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in COUNTERS {
            let metric = ConstCounter::new(value(&self.0));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        for (name, help, value) in GAUGES {
            let metric = ConstGauge::new(value(&self.0));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count that a machine can hold is shown well enough")]
fn count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_docs_has_every_metric_with_its_type() {
        let docs = include_str!("../METRICS.md");
        let counters = COUNTERS.map(|(name, help, _)| format!("| `{PREFIX}_{name}_total` | counter | {help} |"));
        let gauges = GAUGES.map(|(name, help, _)| format!("| `{PREFIX}_{name}` | gauge | {help} |"));
        let expected: Vec<_> = counters.into_iter().chain(gauges).collect();
        let rows: Vec<_> = docs.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_text_has_every_metric_with_the_queue() {
        let text = text("free-seats", &ConsumerStatus { applied: 7, ..ConsumerStatus::default() });
        assert!(text.contains("streambox_consumer_applied_total{queue=\"free-seats\"} 7"), "{text}");
        assert!(text.contains("streambox_consumer_ready{queue=\"free-seats\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
