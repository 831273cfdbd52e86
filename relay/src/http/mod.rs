//! To look into a running relay: health, metrics, and the status page, over HTTP.
//!
//! | path | |
//! |---|---|
//! | `/livez` | 200 if the relay's loop turns, else 503 |
//! | `/readyz` | 200 if what is pending can go out: the broker takes messages, the table is read, nothing is refused, and the relay is not stopping; else 503 and the reasons |
//! | `/metrics` | metrics ([`metrics`](crate::metrics)), in OpenMetrics' text format if `Accept` asks for it, else in Prometheus' |
//! | `/status.json` | what the page shows |
//! | `/` | the status page; it works without JavaScript, which only keeps it up to date |
//!
//! [`ask`] is the other side: it asks a relay that runs.
//!
//! Everything is read-only, and there is no authentication: by default the listener binds loopback.

mod health;
mod history;
mod page;
mod server;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{MissedTickBehavior, interval};

pub use health::{ASK_TIMEOUT, AskError, Health, ask};
pub use history::{HISTORY, History, SAMPLE_INTERVAL};
pub use server::{ANSWER_TIMEOUT, HEADER_TIMEOUT, MAX_CONNECTIONS, serve};

use crate::{
    metrics::{Metrics, TextFormat},
    telemetry::Telemetry,
    view::{About, View},
};

/// What is served.
pub trait Show: Send + Sync + 'static {
    /// The relay now.
    fn view(&self) -> View;

    /// The metrics now.
    fn metrics(&self, format: TextFormat) -> String;
}

/// A running relay, as its telemetry shows it.
#[derive(Debug)]
pub struct Watch {
    about: About,
    telemetry: Telemetry,
    metrics: Arc<Metrics>,
    history: History,
    is_stopping: AtomicBool,
}

impl Watch {
    /// Watches a relay by its telemetry, whose observer `metrics` is.
    #[must_use]
    pub fn new(about: About, telemetry: Telemetry, metrics: Arc<Metrics>) -> Self {
        Self { about, telemetry, metrics, history: History::default(), is_stopping: AtomicBool::new(false) }
    }

    /// Not ready from now on: the relay is stopping.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Takes samples for the plots, for ever.
    pub async fn keep_history(&self) {
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.history.take(&self.view());
        }
    }
}

impl Show for Watch {
    fn view(&self) -> View {
        let is_stopping = self.is_stopping.load(Ordering::Relaxed);
        View::of(&self.telemetry, &self.about, is_stopping, self.history.samples())
    }

    fn metrics(&self, format: TextFormat) -> String {
        self.metrics.text(&self.view(), format)
    }
}
