//! A publisher: a task that owns a connection, publishes one batch after the other, and reconnects for ever.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};

use super::{
    BrokerSettings,
    failure::Broken,
    session::Session,
    state::{PublisherState, Status},
};
use crate::{
    core::{Outcome, Outgoing},
    retry::{Delays, LONGEST_RECONNECT_DELAY},
};

/// A handle to a publisher's task. The task ends when the handle is dropped.
#[derive(Debug)]
pub struct Publisher {
    batches: mpsc::Sender<Batch>,
    state: watch::Receiver<PublisherState>,
}

#[derive(Debug)]
struct Batch {
    outgoing: Vec<Outgoing>,
    outcomes: oneshot::Sender<Vec<Outcome>>,
}

impl Publisher {
    /// Publishes a batch. The outcomes are in the order of the batch; all are unknown where the connection broke. Without a
    /// connection, or while the broker is blocked, it waits.
    pub async fn publish(&self, outgoing: Vec<Outgoing>) -> Vec<Outcome> {
        let unknown = vec![Outcome::Unknown; outgoing.len()];
        let (outcomes, answer) = oneshot::channel();
        if self.batches.send(Batch { outgoing, outcomes }).await.is_err() {
            return unknown;
        }
        answer.await.unwrap_or(unknown)
    }

    /// What it is doing, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<PublisherState> {
        self.state.clone()
    }

    /// Ends the task, which says goodbye to the broker if it listens. A task that waits for a connection ends only when it
    /// was told to stop.
    pub async fn close(self) {
        let Self { batches, mut state } = self;
        drop(batches);
        // The task holds the other end.
        while state.changed().await.is_ok() {}
    }
}

/// Starts a publisher. When `stop` turns true, or its sender is gone, it waits for no further connection.
#[must_use]
pub fn start(settings: Arc<BrokerSettings>, stop: watch::Receiver<bool>) -> Publisher {
    let (batches, to_publish) = mpsc::channel(1);
    let (status, state) = Status::new();
    tokio::spawn(supervise(settings, to_publish, status, stop));
    Publisher { batches, state }
}

async fn supervise(
    settings: Arc<BrokerSettings>,
    mut batches: mpsc::Receiver<Batch>,
    status: Status,
    mut stop: watch::Receiver<bool>,
) {
    let mut delays = Delays::for_reconnects();
    loop {
        let opened = tokio::select! {
            opened = Session::open(&settings, &status) => opened,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let broken = match opened {
            Ok(session) => {
                let address = settings.address();
                tracing::info!(address, exchange = settings.exchange.as_str(), "connected to the broker");
                let opened_at = Instant::now();
                let served = serve(session, &mut batches, &mut stop).await;
                // A connection that broke at its first batch would break at the next one's, too: without this the shortest
                // delay would be the only one.
                if served.has_published || opened_at.elapsed() > LONGEST_RECONNECT_DELAY {
                    delays.reset();
                }
                match served.broken {
                    Some(broken) => broken,
                    None => return,
                }
            }
            Err(broken) => broken,
        };
        status.lost(&broken);
        let delay = delays.next();
        let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(error = %broken, retry_in_ms, "no connection to the broker; it is tried again for ever");
        tokio::select! {
            () = sleep(delay) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// What has become of a connection.
struct Served {
    /// Whether a batch got through.
    has_published: bool,
    /// None: nobody has anything more to publish.
    broken: Option<Broken>,
}

/// Publishes until the connection breaks or nobody has anything more to publish.
async fn serve(
    mut session: Session<'_>,
    batches: &mut mpsc::Receiver<Batch>,
    stop: &mut watch::Receiver<bool>,
) -> Served {
    let mut has_published = false;
    loop {
        let is_blocked = session.is_blocked();
        let batch = tokio::select! {
            biased;
            changed = session.changed() => match changed {
                Ok(()) => continue,
                Err(broken) => return Served { has_published, broken: Some(broken) },
            },
            batch = batches.recv(), if !is_blocked => batch,
            // Nothing is in flight, and nothing would be taken.
            _ = stop.wait_for(|stop| *stop), if is_blocked => None,
        };
        let Some(batch) = batch else {
            session.close().await;
            return Served { has_published, broken: None };
        };
        let (outcomes, broken) = match session.publish(&batch.outgoing).await {
            Ok(outcomes) => (outcomes, None),
            Err(broken) => (vec![Outcome::Unknown; batch.outgoing.len()], Some(broken)),
        };
        // A relay that has gone does not ask any more.
        let _ = batch.outcomes.send(outcomes);
        if broken.is_some() {
            return Served { has_published, broken };
        }
        has_published = true;
    }
}
