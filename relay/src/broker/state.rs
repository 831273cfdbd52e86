//! What a publisher's connection is doing, and how many events no queue took.

use std::time::Duration;

use streambox_amqp::{ConnectionState, Status};
use tokio::time::Instant;

/// The state of one publisher.
pub type PublisherState = ConnectionState<Unroutables>;

/// Events that were confirmed although no queue took them, which `--unroutable accept` allows.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Unroutables {
    /// How many there were.
    pub total: u64,
    /// How many of them were the last ones in a row: since then none has reached a queue.
    pub run: u64,
    /// When they were logged last.
    reported: Option<Instant>,
}

/// This many events in a row that no queue takes suggest that the exchange has lost its bindings. Fewer are normal where
/// nobody needs to listen to some of them.
pub const UNROUTABLE_RUN: u64 = 100;

/// The shortest time from one report of unroutable events in the log to the next.
const UNROUTABLE_REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Counts the confirmed events of a batch, `unroutable` of them without a queue. `routing_key` is one of theirs.
pub(super) fn count_confirmed(
    status: &Status<Unroutables>,
    confirmed: usize,
    unroutable: usize,
    routing_key: &str,
    exchange: &str,
) {
    let (confirmed, unroutable) = (confirmed as u64, unroutable as u64);
    let (mut is_due, mut counted) = (false, Unroutables::default());
    status.count(|counts| {
        is_due = counts.count(confirmed, unroutable, Instant::now());
        counted = counts.clone();
    });
    let Unroutables { total, run, .. } = counted;
    if !is_due {
        return;
    }
    if run >= UNROUTABLE_RUN {
        tracing::warn!(
            exchange,
            routing_key,
            total,
            "the last {run} events reached no queue: does the exchange \
            still have its bindings? They count as published (--unroutable accept)"
        );
    } else {
        tracing::info!(
            exchange,
            routing_key,
            total,
            "no queue takes an event; it counts as published \
            (--unroutable accept)"
        );
    }
}

impl Unroutables {
    /// Returns whether that is to be logged.
    fn count(&mut self, confirmed: u64, unroutable: u64, now: Instant) -> bool {
        self.total += unroutable;
        self.run = if confirmed > unroutable { 0 } else { self.run + unroutable };
        let is_new_run = self.run >= UNROUTABLE_RUN && self.run - unroutable < UNROUTABLE_RUN;
        unroutable > 0 && (self.may_report(now) || is_new_run)
    }

    fn may_report(&mut self, now: Instant) -> bool {
        let is_due = self.reported.is_none_or(|at| now.saturating_duration_since(at) >= UNROUTABLE_REPORT_INTERVAL);
        if is_due {
            self.reported = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn unroutable_events_are_counted_and_a_run_ends_with_the_first_batch_that_reaches_a_queue() {
        let (status, state) = Status::<Unroutables>::new(Arc::default());
        let counts = || (state.borrow().counts.total, state.borrow().counts.run);
        count_confirmed(&status, 10, 0, "", "events");
        assert_eq!(counts(), (0, 0));
        count_confirmed(&status, 3, 3, "order.Placed", "events");
        count_confirmed(&status, 2, 2, "order.Placed", "events");
        assert_eq!(counts(), (5, 5));
        count_confirmed(&status, 2, 1, "order.Placed", "events");
        assert_eq!(counts(), (6, 0));
    }

    #[test]
    fn unroutable_events_are_logged_once_a_minute() {
        let (mut counts, began) = (Unroutables::default(), Instant::now());
        let reports = |seconds| counts.may_report(began + Duration::from_secs(seconds));
        assert_eq!([0, 1, 59, 60, 61].map(reports), [true, false, false, true, false]);
    }
}
