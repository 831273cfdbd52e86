//! What a publisher's connection is doing, for observers: readiness, metrics, the status page.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::failure::{ConnectionError, Refusal};
use crate::model::json;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// There is none; it is tried for ever.
    Connecting,
    /// It takes messages.
    Connected,
    /// It is alive, but the broker takes no messages: an alarm of memory or disk. It is waited for.
    Blocked,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connecting, Self::Connected, Self::Blocked];

    /// Its name in labels and on the status page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Blocked => "blocked",
        }
    }
}

/// The state of one publisher.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PublisherState {
    /// What its connection is doing.
    #[serde(rename = "state")]
    pub link: Link,
    /// Since when.
    #[serde(rename = "for_seconds", serialize_with = "json::seconds_since")]
    pub since: Instant,
    /// Connections that were opened after the first.
    pub reconnects: u64,
    /// Events that it confirmed although no queue took them, which `--unroutable accept` allows.
    #[serde(skip)]
    pub unroutable: u64,
    /// How many of them were the last ones in a row: since then none has reached a queue.
    #[serde(skip)]
    pub unroutable_run: u64,
    /// Why the last connection ended or did not come about.
    pub last_error: Option<String>,
    /// Why the broker takes no messages, in its own words.
    pub blocked_because: Option<String>,
    /// Whether there was ever a connection.
    #[serde(skip)]
    pub was_connected: bool,
    /// What the broker will refuse until somebody changes a setting, if that was the last error.
    #[serde(skip)]
    pub refusal: Option<Refusal>,
}

impl PublisherState {
    /// One that does this from now on.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self {
            link,
            since: Instant::now(),
            reconnects: 0,
            unroutable: 0,
            unroutable_run: 0,
            last_error: None,
            blocked_because: None,
            was_connected: false,
            refusal: None,
        }
    }
}

/// This many events in a row that no queue takes suggest that the exchange has lost its bindings. Fewer are normal where
/// nobody needs to listen to some of them.
pub const UNROUTABLE_RUN: u64 = 100;

/// The shortest time from one report of unroutable events in the log to the next.
const UNROUTABLE_REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// The publisher's side of its state.
#[derive(Debug)]
pub(super) struct Status {
    state: watch::Sender<PublisherState>,
    /// When unroutable events were logged last.
    unroutable_reported: Mutex<Option<Instant>>,
    /// Notified of every change.
    changed: Arc<Notify>,
}

impl Status {
    pub(super) fn new(changed: Arc<Notify>) -> (Self, watch::Receiver<PublisherState>) {
        let (sender, receiver) = watch::channel(PublisherState::new(Link::Connecting));
        (Self { state: sender, unroutable_reported: Mutex::default(), changed }, receiver)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<PublisherState> {
        self.state.subscribe()
    }

    pub(super) fn connected(&self) {
        self.enter(Link::Connected, |state| {
            state.reconnects += u64::from(state.was_connected);
            state.was_connected = true;
            state.refusal = None;
        });
    }

    pub(super) fn blocked(&self, reason: String) {
        self.enter(Link::Blocked, |state| state.blocked_because = Some(reason));
    }

    pub(super) fn unblocked(&self) {
        self.enter(Link::Connected, |_| {});
    }

    pub(super) fn lost(&self, error: &ConnectionError) {
        self.enter(Link::Connecting, |state| {
            state.last_error = Some(error.to_string());
            state.refusal = error.refusal();
        });
    }

    /// Counts the confirmed events of a batch, `unroutable` of them without a queue. `routing_key` is one of theirs.
    pub(super) fn confirmed(&self, confirmed: usize, unroutable: usize, routing_key: &str, exchange: &str) {
        let (mut total, mut run) = (0, 0);
        // No observer waits for a change of these.
        self.state.send_if_modified(|state| {
            state.unroutable += unroutable as u64;
            state.unroutable_run = if confirmed > unroutable { 0 } else { state.unroutable_run + unroutable as u64 };
            (total, run) = (state.unroutable, state.unroutable_run);
            false
        });
        let is_new_run = run >= UNROUTABLE_RUN && run - (unroutable as u64) < UNROUTABLE_RUN;
        if unroutable > 0 && (self.may_report_unroutable(Instant::now()) || is_new_run) {
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
    }

    fn may_report_unroutable(&self, now: Instant) -> bool {
        let mut reported = self.unroutable_reported.lock().expect("nobody panics with this lock");
        let is_due = reported.is_none_or(|at| now.saturating_duration_since(at) >= UNROUTABLE_REPORT_INTERVAL);
        if is_due {
            *reported = Some(now);
        }
        is_due
    }

    fn enter(&self, link: Link, change: impl FnOnce(&mut PublisherState)) {
        self.state.send_modify(|state| {
            if state.link != link {
                state.since = Instant::now();
            }
            state.link = link;
            state.blocked_because = None;
            change(state);
        });
        self.changed.notify_one();
    }
}

/// Resolves when the broker refuses before any publisher has ever been connected: the settings are wrong. If one was connected,
/// they were right once, and may become right again: then this never resolves.
pub async fn refusal_at_start(publishers: impl IntoIterator<Item = watch::Receiver<PublisherState>>) -> Refusal {
    let decided = publishers.into_iter().map(|mut state| {
        Box::pin(async move {
            let state = state.wait_for(|state| state.was_connected || state.refusal.is_some()).await.ok()?;
            if state.was_connected { None } else { state.refusal.clone() }
        })
    });
    let decided: Vec<_> = decided.collect();
    if !decided.is_empty()
        && let (Some(refusal), _, _) = futures_util::future::select_all(decided).await
    {
        return refusal;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unroutable_events_are_counted_and_a_run_ends_with_the_first_batch_that_reaches_a_queue() {
        let (status, state) = Status::new(Arc::default());
        let counts = || (state.borrow().unroutable, state.borrow().unroutable_run);
        status.confirmed(10, 0, "", "events");
        assert_eq!(counts(), (0, 0));
        status.confirmed(3, 3, "order.Placed", "events");
        status.confirmed(2, 2, "order.Placed", "events");
        assert_eq!(counts(), (5, 5));
        status.confirmed(2, 1, "order.Placed", "events");
        assert_eq!(counts(), (6, 0));
    }

    #[test]
    fn unroutable_events_are_logged_once_a_minute() {
        let ((status, _state), began) = (Status::new(Arc::default()), Instant::now());
        let reports = |seconds| status.may_report_unroutable(began + Duration::from_secs(seconds));
        assert_eq!([0, 1, 59, 60, 61].map(reports), [true, false, false, true, false]);
    }
}
