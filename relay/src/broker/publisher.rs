//! A publisher: a task that owns a connection, publishes one batch after the other, and reconnects for ever.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    BrokerSettings,
    session::{Broken, Session},
};
use crate::{
    core::{Outcome, Outgoing},
    retry::Delays,
};

/// A handle to a publisher's task. The task ends when the handle is dropped.
#[derive(Clone, Debug)]
pub struct Publisher {
    batches: mpsc::Sender<Batch>,
}

#[derive(Debug)]
struct Batch {
    outgoing: Vec<Outgoing>,
    outcomes: oneshot::Sender<Vec<Outcome>>,
}

impl Publisher {
    /// Publishes a batch. The outcomes are in the order of the batch; all are unknown where the connection broke. Without a
    /// connection it waits for one.
    pub async fn publish(&self, outgoing: Vec<Outgoing>) -> Vec<Outcome> {
        let unknown = vec![Outcome::Unknown; outgoing.len()];
        let (outcomes, answer) = oneshot::channel();
        if self.batches.send(Batch { outgoing, outcomes }).await.is_err() {
            return unknown;
        }
        answer.await.unwrap_or(unknown)
    }
}

/// Starts a publisher. When `stop` turns true, or its sender is gone, it waits for no further connection.
#[must_use]
pub fn start(settings: Arc<BrokerSettings>, stop: watch::Receiver<bool>) -> Publisher {
    let (batches, to_publish) = mpsc::channel(1);
    tokio::spawn(supervise(settings, to_publish, stop));
    Publisher { batches }
}

async fn supervise(settings: Arc<BrokerSettings>, mut batches: mpsc::Receiver<Batch>, mut stop: watch::Receiver<bool>) {
    let mut delays = Delays::for_reconnects();
    loop {
        let opened = tokio::select! {
            opened = Session::open(&settings) => opened,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let broken = match opened {
            Ok(session) => {
                tracing::info!(exchange = settings.exchange.as_str(), "connected to the broker");
                delays.reset();
                match serve(&settings, &session, &mut batches).await {
                    Some(broken) => broken,
                    None => return,
                }
            }
            Err(broken) => broken,
        };
        tracing::warn!(error = %broken, "no connection to the broker; it is tried again for ever");
        tokio::select! {
            () = delays.wait() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Publishes until the connection breaks. `None`: nobody has anything more to publish.
async fn serve(settings: &BrokerSettings, session: &Session, batches: &mut mpsc::Receiver<Batch>) -> Option<Broken> {
    while let Some(batch) = batches.recv().await {
        let published = session.publish(settings, &batch.outgoing).await;
        let (outcomes, broken) = match published {
            Ok(outcomes) => (outcomes, None),
            Err(broken) => (vec![Outcome::Unknown; batch.outgoing.len()], Some(broken)),
        };
        // A relay that has gone does not ask any more.
        let _ = batch.outcomes.send(outcomes);
        if broken.is_some() {
            return broken;
        }
    }
    None
}
