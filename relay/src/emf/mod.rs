//! Metrics for CloudWatch: on standard output, one line of JSON an interval in the [embedded metric format][emf] (EMF), from
//! which CloudWatch Logs makes metrics. Nobody has to be allowed anything for that, and nothing is sent from here.
//!
//! - `line.rs`: every metric with its unit, and how a line is written.
//! - `sample.rs`: some of an interval's times.
//!
//! Lines go by [`Lines`]: whoever does not read standard output holds up nothing.
//!
//! A counter stands in a line as what was counted since the line before, and is set back only when the line has its place on
//! the way out. The last line, when the relay has ended, has the counters alone: a worker that is gone has no state.
//!
//! [emf]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

mod line;
mod sample;

use std::{sync::Mutex, time::Duration};

use streambox_programs::now_ms;
use tokio::time::sleep;

use self::{line::Counts, sample::Sample};
pub use self::{line::METRICS, sample::MAX_SAMPLE};
use crate::{
    http::{Show, View},
    lines::Lines,
    telemetry::{Observer, PublishedBatch},
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

/// Counts what happens, as an [`Observer`], and writes it beside what a [`View`] shows.
#[derive(Debug)]
pub struct Emf {
    settings: EmfSettings,
    recent: Mutex<Recent>,
}

/// What has happened since the last line.
#[derive(Debug, Default)]
struct Recent {
    published: u64,
    refused: u64,
    confirm_ms: Sample,
    /// The reconnects since the start, as the last line had them.
    reconnects_told: u64,
}

impl Observer for Emf {
    fn batch_published(&self, batch: &PublishedBatch) {
        let mut recent = self.recent.lock().expect("nobody panics with this lock");
        recent.published += batch.confirmed as u64;
        recent.refused += batch.refused as u64;
        recent.confirm_ms.add(batch.took.as_secs_f64() * 1_000.0);
    }
}

impl Emf {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(settings: EmfSettings) -> Self {
        Self { settings, recent: Mutex::default() }
    }

    /// Writes a line at the end of each interval, for ever. Intervals end at multiples of their length by the wall clock, so
    /// that each of CloudWatch's periods gets one line of each worker, and sums over workers are right.
    pub async fn keep_writing(&self, show: &impl Show, lines: &Lines) {
        let mut told_ms = now_ms();
        loop {
            let now = now_ms();
            told_ms = end_of_interval(told_ms.max(now), self.settings.interval);
            sleep(Duration::from_millis(u64::try_from(told_ms - now).unwrap_or_default())).await;
            // Without a place the counters go on, into the next line.
            if let Some(place) = lines.place(1) {
                place.put(self.line(told_ms, &show.view(), false));
            }
        }
    }

    /// What was counted since the last line of all.
    #[must_use]
    pub fn last_line(&self, view: &View) -> String {
        self.line(now_ms(), view, true)
    }

    fn line(&self, at_ms: i64, view: &View, is_last: bool) -> String {
        let mut recent = self.recent.lock().expect("nobody panics with this lock");
        let reconnects = view.connections.iter().map(|connection| connection.reconnects).sum();
        let Recent { published, refused, confirm_ms, reconnects_told } =
            std::mem::replace(&mut *recent, Recent { reconnects_told: reconnects, ..Recent::default() });
        drop(recent);
        let reconnects = reconnects.saturating_sub(reconnects_told);
        let counts = Counts { published, refused, reconnects, confirm_ms: confirm_ms.into_values() };
        line::write(&self.settings.namespace, at_ms, view, &counts, is_last)
    }
}

/// The first multiple of the interval behind a moment.
fn end_of_interval(now_ms: i64, interval: Duration) -> i64 {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    (now_ms / interval_ms + 1) * interval_ms
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{core::Outcome, http::ConnectionView};

    fn emf() -> Emf {
        Emf::new(EmfSettings { namespace: "Streambox".to_owned(), interval: Duration::from_mins(1) })
    }

    fn view(reconnects: u64) -> View {
        let connection = ConnectionView {
            state: "connected",
            for_seconds: 1.0,
            reconnects,
            last_error: None,
            blocked_because: None,
        };
        View { connections: vec![connection.clone(), connection], ..View::default() }
    }

    #[test]
    fn a_line_counts_what_came_since_the_line_before_and_nothing_twice() {
        let emf = emf();
        let line = |reconnects, is_last| -> Value {
            serde_json::from_str(&emf.line(60_000, &view(reconnects), is_last)).expect("JSON")
        };
        let batch = |outcomes: &[Outcome], ms| {
            emf.batch_published(&PublishedBatch::of(outcomes, Duration::from_millis(ms)));
        };
        batch(&[Outcome::Confirmed, Outcome::Confirmed, Outcome::Unknown], 20);
        batch(&[Outcome::Confirmed, Outcome::Refused("no queue".to_owned())], 30);
        let first = line(2, false);
        assert_eq!(
            (&first["PublishedEvents"], &first["RefusedEvents"], &first["Reconnects"]),
            (&json!(3), &json!(1), &json!(4))
        );
        assert_eq!(first["ConfirmTime"], json!([20.0, 30.0]));
        let idle = line(2, false);
        assert_eq!(
            (&idle["PublishedEvents"], &idle["RefusedEvents"], &idle["Reconnects"]),
            (&json!(0), &json!(0), &json!(0))
        );
        assert_eq!(idle.get("ConfirmTime"), None, "nothing was confirmed, so there is no time");
        batch(&[Outcome::Confirmed], 10);
        let last = line(3, true);
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
