//! The last minutes in samples, for the plots of the status page.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use crate::view::{Sample, View};

/// From one sample to the next.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// How far back the samples go: 15 minutes.
pub const HISTORY: Duration = Duration::from_secs(SAMPLE_INTERVAL.as_secs() * MAX_SAMPLES as u64);

const MAX_SAMPLES: usize = 180;

/// The samples, at most [`HISTORY`] of them.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    samples: VecDeque<Sample>,
    /// When the last sample was taken, and what had been published then.
    last: Option<(i64, u64)>,
}

impl History {
    /// Takes a sample.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn take(&self, view: &View) {
        let mut inner = self.0.lock().expect("nobody panics with this lock");
        let rate = inner.last.map_or(0.0, |(at_ms, published)| {
            let seconds = (view.taken_at_ms - at_ms).max(1) as f64 / 1_000.0;
            view.relay.totals.published.saturating_sub(published) as f64 / seconds
        });
        inner.last = Some((view.taken_at_ms, view.relay.totals.published));
        if inner.samples.len() == MAX_SAMPLES {
            inner.samples.pop_front();
        }
        inner.samples.push_back(Sample {
            at_ms: view.taken_at_ms,
            entries: view.relay.backlog.map(|backlog| backlog.entries),
            oldest_age_seconds: view.oldest_age().map_or(0.0, |age| age.as_secs_f64()),
            published_per_second: rate,
            halted_streams: view.relay.halted_streams,
        });
    }

    /// The samples, the oldest first.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.0.lock().expect("nobody panics with this lock").samples.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_since_the_sample_before_and_the_oldest_make_way() {
        let history = History::default();
        for number in 0..=MAX_SAMPLES as u64 {
            let taken_at_ms = i64::try_from(number).unwrap() * 5_000;
            let mut view = View { taken_at_ms, ..View::default() };
            view.relay.totals.published = number * 100;
            history.take(&view);
        }
        let samples = history.samples();
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert_eq!((samples[0].at_ms, samples[0].published_per_second.round()), (5_000, 20.0));
        assert_eq!(samples[0].entries, None);
    }
}
