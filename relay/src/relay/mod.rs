//! The shell: does the I/O that the core asks for, and returns the results to it.

mod io;
pub(crate) mod publishers;
mod shell;
mod silence;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use serde::Serialize;
use streambox::{Error, EventStore, StreamId};
use streambox_programs::{Role, sentence};
use tokio::sync::mpsc;

pub use self::io::SCAN_LIMIT;
use self::{publishers::Publishers, shell::Shell};
pub use crate::core::Until;
use crate::{
    broker::{BrokerSettings, Refusal},
    core::{Bounds, CoreSettings, GroupSettings},
    telemetry::Telemetry,
};

/// Settings of a relay, beside the store.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Where to publish.
    pub broker: BrokerSettings,
    /// Connections that publish at the same time, each with one channel.
    pub publishers: usize,
    /// The longest time from one scan of the index to the next: while there is nothing to do.
    pub poll_interval: Duration,
    /// The time to the next scan after one that has found work; at most the poll interval. Each scan after it that finds none
    /// waits half as long again.
    pub busy_poll_interval: Duration,
    /// The longest time to wait for what is in flight when the relay stops.
    pub drain_timeout: Duration,
    /// The core's bounds.
    pub bounds: Bounds,
    /// The group that it shares the streams with. A relay without one works on all of them, and so does one that runs
    /// [`Until::Drained`]: it has to end, whatever others do.
    pub group: Option<GroupSettings>,
}

/// The result of a relay's run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// Events that the broker has confirmed.
    pub published: u64,
    /// Pending entries that were deleted.
    pub entries_deleted: u64,
    /// How long it took.
    pub seconds: f64,
    /// Events published in a second, from the start to the last confirm: a drain ends only when the index has stayed empty
    /// for a while.
    pub events_per_second: f64,
    /// Whether the outbox was found empty at the end.
    pub drained: bool,
    /// The streams that are halted, and why.
    pub halted: BTreeMap<String, String>,
}

/// Why a relay did not begin, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The table can't be read.
    #[error(transparent)]
    Store(#[from] Error),
    /// The broker refuses what it was given, and has never accepted it.
    #[error(transparent)]
    Broker(#[from] Refusal),
    /// A part of the relay ended that should not have, which is a fault of the program. Start it again: what was under way
    /// is still pending.
    #[error("the relay can't go on: {0}")]
    Ended(String),
}

/// Runs a relay until it is done or `stop` resolves; then it begins nothing new, leaves its group, waits for what is in
/// flight at most for the drain timeout, deletes what was confirmed, and returns.
///
/// # Errors
/// [`Error::Configuration`] if the first reads of index and table are refused, and [`Refusal`] if the broker refuses the login, the
/// virtual host, the exchange or TLS before there was any connection. Everything that happens later is retried for ever:
/// a setting that worked once may be changing, a password for instance. [`RelayError::Ended`] if one of its own
/// tasks ends unexpectedly.
pub async fn run(
    store: &EventStore,
    settings: RelaySettings,
    until: Until,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, RelayError> {
    run_observed(store, settings, &Telemetry::default(), until, stop).await
}

/// Runs a relay as [`run`] does, and reports to `telemetry`.
///
/// # Errors
/// As [`run`].
pub async fn run_observed(
    store: &EventStore,
    settings: RelaySettings,
    telemetry: &Telemetry,
    until: Until,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, RelayError> {
    let (_, nobody) = mpsc::channel(1);
    run_woken(store, settings, telemetry, until, nobody, stop).await
}

/// Runs a relay as [`run_observed`] does, and wakes it for the streams that come from `wakes`.
pub(crate) async fn run_woken(
    store: &EventStore,
    settings: RelaySettings,
    telemetry: &Telemetry,
    until: Until,
    wakes: mpsc::Receiver<StreamId>,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, RelayError> {
    let outbox = store.outbox();
    // Before anything is published: a missing or wrong table is a mistake to report, not to retry. Both index and table are
    // read, since each has keys and a permission of its own. If one is being created, or DynamoDB is not available, the relay
    // waits.
    for refused in [outbox.scan(None, 1).await.err(), outbox.workers().await.err()] {
        match refused {
            Some(error @ Error::Configuration { .. }) => return Err(error.into()),
            Some(error) => tracing::warn!("{}; it is read again until it answers", sentence(&error, Role::Relay)),
            None => {}
        }
    }
    let publishers = Publishers::start(&Arc::new(settings.broker), settings.publishers);
    telemetry.set_publishers(publishers.states());
    let refusal = publishers.refusal_at_start();
    let core = CoreSettings {
        bounds: settings.bounds,
        poll_interval: settings.poll_interval,
        busy_poll_interval: settings.busy_poll_interval,
        until,
        group: settings.group.filter(|_| until == Until::Stopped),
    };
    let shell = Shell::new(core, outbox, publishers, telemetry.clone(), wakes);
    tokio::select! {
        report = shell.run(stop, settings.drain_timeout) => report,
        // Nothing is in flight: there was no connection.
        refusal = refusal => Err(refusal.into()),
    }
}
