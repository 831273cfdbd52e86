//! A publisher: a task that owns a connection, publishes one batch after the other, and never stops reconnecting.

use std::sync::Arc;

use streambox_amqp::{ConnectionError, Connector, LONGEST_RECONNECT_DELAY, Link};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use super::{
    BrokerSettings,
    failure::may_be_of_a_message,
    session::{BrokenOffBatch, Session},
    state::PublisherState,
    submission::{PublisherEnded, Submission},
};
use crate::core::{Outcome, Outgoing};

type Batch = Submission<Vec<Outgoing>, Vec<Outcome>>;

/// A handle to a publisher's task. The task ends when the handle is dropped.
#[derive(Debug)]
pub struct Publisher {
    batches: mpsc::Sender<Batch>,
    state: watch::Receiver<PublisherState>,
}

impl Publisher {
    /// Publishes a batch. The outcomes are in the order of the batch. If the connection ends, no event of it counts as
    /// confirmed: each is [`Outcome::Suspect`] if one of them may be the reason, else [`Outcome::Unknown`]. Without a
    /// connection the batch is unknown at once: see [`Self::is_ready`] and [`Self::ready`]. While the broker is blocked the
    /// batch waits.
    ///
    /// # Errors
    /// [`PublisherEnded`]: the task has ended, as it does after it was stopped.
    pub async fn publish(&self, outgoing: Vec<Outgoing>) -> Result<Vec<Outcome>, PublisherEnded> {
        Batch::submit(&self.batches, outgoing).await
    }

    /// Whether its connection takes messages.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.borrow().link == Link::Connected
    }

    /// Waits until its connection takes messages, or until its task has ended.
    pub async fn ready(&self) {
        // An error is an end, which publishing reports.
        let _ = self.state.clone().wait_for(|state| state.link == Link::Connected).await;
    }

    /// Its state, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<PublisherState> {
        self.state.clone()
    }

    /// Ends the task, which closes its connection in an orderly way if the broker is not blocked.
    pub async fn close(self) {
        let Self { batches, mut state } = self;
        drop(batches);
        // The task holds the other end.
        while state.changed().await.is_ok() {}
    }
}

/// Starts a publisher, which notifies `changed` of each change of its state. When `stop` turns true, or its sender is gone, it
/// waits neither for another connection nor for a broker that is blocked.
#[must_use]
pub fn start(settings: Arc<BrokerSettings>, stop: watch::Receiver<bool>, changed: Arc<Notify>) -> Publisher {
    let (batches, to_publish) = mpsc::channel(1);
    let (connector, state) = Connector::new(settings, stop, changed);
    tokio::spawn(supervise(connector, to_publish));
    Publisher { batches, state }
}

async fn supervise(mut connector: Connector<BrokerSettings>, mut batches: mpsc::Receiver<Batch>) {
    loop {
        let session = tokio::select! {
            session = connector.connect(Session::open) => session,
            () = give_back(&mut batches) => return,
        };
        let Some(session) = session else { return give_back(&mut batches).await };
        let BrokerSettings { endpoint, exchange, .. } = &*connector.purpose;
        tracing::info!(address = endpoint.address(), exchange = exchange.as_str(), "connected to the broker");
        let opened_at = Instant::now();
        let ended = serve(session, &mut batches, &connector).await;
        let Some(Ended { error, has_progressed }) = ended else { return give_back(&mut batches).await };
        // A connection that broke at its first batch would break at the next one's, too: without this condition every delay
        // would be the shortest.
        if has_progressed || opened_at.elapsed() > LONGEST_RECONNECT_DELAY {
            connector.reset_backoff();
        }
        tokio::select! {
            stopped = connector.rest_after(&error) => if stopped { return give_back(&mut batches).await },
            () = give_back(&mut batches) => return,
        }
    }
}

/// Gives back as unknown the batches that come while there is no connection, until the handle is dropped.
async fn give_back(batches: &mut mpsc::Receiver<Batch>) {
    while let Some(batch) = batches.recv().await {
        let outcomes = vec![Outcome::Unknown; batch.outgoing.len()];
        batch.end(outcomes);
    }
}

/// Why a connection ended.
struct Ended {
    error: ConnectionError,
    /// Whether a batch got through, or the last one broke for a reason that may lie in one of its events: these are not in the
    /// next batch.
    has_progressed: bool,
}

/// Publishes until the connection ends; none if the handle was dropped, or if it is time to stop while the broker is blocked.
async fn serve(
    mut session: Session,
    batches: &mut mpsc::Receiver<Batch>,
    connector: &Connector<BrokerSettings>,
) -> Option<Ended> {
    let mut has_progressed = false;
    loop {
        let is_blocked = session.is_blocked();
        let batch = tokio::select! {
            biased;
            changed = session.changed() => match changed {
                Ok(()) => continue,
                Err(error) => return Some(Ended { error, has_progressed }),
            },
            batch = batches.recv(), if !is_blocked => batch,
            // Nothing is in flight, and nothing would be taken.
            () = connector.stopped(), if is_blocked => None,
        };
        let Some(batch) = batch else {
            session.close().await;
            return None;
        };
        let published = tokio::select! {
            published = session.publish(&batch.outgoing) => published,
            stopped = connector.stopped_while_blocked() => Err(stopped.into()),
        };
        let BrokenOffBatch { error, any_confirmed } = match published {
            Ok(outcomes) => {
                has_progressed = true;
                batch.end(outcomes);
                continue;
            }
            Err(broken_off) => broken_off,
        };
        let (events, has_suspects) = (batch.outgoing.len(), may_be_of_a_message(&error, any_confirmed));
        let outcome = if has_suspects {
            tracing::warn!(error = %error, events, "a batch broke off: each of its events is published alone now");
            Outcome::Suspect(error.to_string())
        } else {
            Outcome::Unknown
        };
        // Before the answer, so that the publisher does not look ready.
        connector.status.lost(&error);
        batch.end(vec![outcome; events]);
        return Some(Ended { error, has_progressed: has_progressed || has_suspects });
    }
}

#[cfg(test)]
mod tests {
    use streambox_amqp::Status;

    use super::*;

    #[tokio::test]
    async fn a_publisher_whose_task_is_gone_says_so() {
        let (batches, receiver) = mpsc::channel(1);
        let (_status, state) = Status::new(Arc::default());
        let publisher = Publisher { batches, state };
        drop(receiver);
        assert!(publisher.publish(Vec::new()).await.is_err());
    }
}
