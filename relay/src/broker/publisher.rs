//! A publisher: a task that owns a connection, publishes one batch after the other, and reconnects for ever.

use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep},
};

use super::{
    BrokerSettings,
    failure::ConnectionError,
    session::{BrokenOffBatch, Session},
    state::{Link, PublisherState, Status},
};
use crate::{
    core::{Outcome, Outgoing},
    retry::{Backoff, LONGEST_RECONNECT_DELAY},
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

/// A task of a publisher has ended that should not have.
#[derive(Debug, thiserror::Error)]
#[error("a publisher has ended unexpectedly: its last lines in the log say why")]
pub struct PublisherEnded;

impl Publisher {
    /// Publishes a batch. The outcomes are in the order of the batch. If the connection ends, no event of it counts as
    /// confirmed: each is [`Outcome::Suspect`] if one of them may be the reason, else [`Outcome::Unknown`]. A batch that
    /// meets no connection is unknown at once: see [`Self::is_ready`] and [`Self::ready`]. While the broker is blocked it
    /// waits.
    ///
    /// # Errors
    /// [`PublisherEnded`]: its task is gone, as it is after it was told to stop.
    pub async fn publish(&self, outgoing: Vec<Outgoing>) -> Result<Vec<Outcome>, PublisherEnded> {
        let (outcomes, answer) = oneshot::channel();
        self.batches.send(Batch { outgoing, outcomes }).await.map_err(|_| PublisherEnded)?;
        answer.await.map_err(|_| PublisherEnded)
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

    /// What it is doing, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<PublisherState> {
        self.state.clone()
    }

    /// Ends the task, which says goodbye to the broker if it listens.
    pub async fn close(self) {
        let Self { batches, mut state } = self;
        drop(batches);
        // The task holds the other end.
        while state.changed().await.is_ok() {}
    }
}

/// Starts a publisher, which notifies `changed` of each change of its state. When `stop` turns true, or its sender is gone, it
/// waits for no further connection, and for no broker that is blocked.
#[must_use]
pub fn start(settings: Arc<BrokerSettings>, stop: watch::Receiver<bool>, changed: Arc<Notify>) -> Publisher {
    let (batches, to_publish) = mpsc::channel(1);
    let (status, state) = Status::new(changed);
    tokio::spawn(supervise(settings, to_publish, status, stop));
    Publisher { batches, state }
}

async fn supervise(
    settings: Arc<BrokerSettings>,
    mut batches: mpsc::Receiver<Batch>,
    status: Status,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::for_reconnects();
    loop {
        let session = tokio::select! {
            session = connected(&settings, &status, &mut backoff, &mut stop) => session,
            () = give_back(&mut batches) => return,
        };
        let Some(session) = session else { return give_back(&mut batches).await };
        let address = settings.address();
        tracing::info!(address, exchange = settings.exchange.as_str(), "connected to the broker");
        let opened_at = Instant::now();
        let served = serve(session, &mut batches, &status, &mut stop).await;
        let Some(error) = served.error else { return give_back(&mut batches).await };
        // A connection that broke at its first batch would break at the next one's, too: without this the shortest delay
        // would be the only one. The events of a batch that broke for a reason that was named are not in the next one.
        if served.has_published || served.has_suspects || opened_at.elapsed() > LONGEST_RECONNECT_DELAY {
            backoff.reset();
        }
        status.lost(&error);
        tokio::select! {
            stopped = rest(&error, &mut backoff, &mut stop) => if stopped { return give_back(&mut batches).await },
            () = give_back(&mut batches) => return,
        }
    }
}

/// Hands batches back that came when there was no connection, until nobody has any more.
async fn give_back(batches: &mut mpsc::Receiver<Batch>) {
    while let Some(Batch { outgoing, outcomes }) = batches.recv().await {
        // A relay that has gone does not ask any more.
        let _ = outcomes.send(vec![Outcome::Unknown; outgoing.len()]);
    }
}

/// Opens a connection, however often it takes; none when it is time to stop.
pub(super) async fn connected<'a>(
    settings: &'a BrokerSettings,
    status: &'a Status,
    backoff: &mut Backoff,
    stop: &mut watch::Receiver<bool>,
) -> Option<Session<'a>> {
    loop {
        let opened = tokio::select! {
            opened = Session::open(settings, status) => opened,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        let error = match opened {
            Ok(session) => return Some(session),
            Err(error) => error,
        };
        status.lost(&error);
        if rest(&error, backoff, stop).await {
            return None;
        }
    }
}

/// Rests after a connection ended or did not come about. Whether it is time to stop.
pub(super) async fn rest(error: &ConnectionError, backoff: &mut Backoff, stop: &mut watch::Receiver<bool>) -> bool {
    let delay = backoff.next();
    let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    if error.refusal().is_some() {
        let what = "the broker refuses a connection; this ends the program if it has never accepted one, and is retried otherwise";
        tracing::warn!(error = %error, retry_in_ms, "{what}");
    } else {
        tracing::warn!(error = %error, retry_in_ms, "no connection to the broker; it is tried again for ever");
    }
    tokio::select! {
        () = sleep(delay) => false,
        _ = stop.wait_for(|stop| *stop) => true,
    }
}

/// Resolves when it is time to stop and the broker takes no messages: what is under way can come to no end.
pub(super) async fn stopped_while_blocked(
    mut state: watch::Receiver<PublisherState>,
    stop: &mut watch::Receiver<bool>,
) -> ConnectionError {
    // Either error is an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
    let _ = state.wait_for(|state| state.link == Link::Blocked).await;
    ConnectionError::Stopped
}

/// What has become of a connection.
struct Served {
    /// Whether a batch got through.
    has_published: bool,
    /// Whether its last batch broke for a reason that may lie in one of its events.
    has_suspects: bool,
    /// None: nobody has anything more to publish.
    error: Option<ConnectionError>,
}

/// Publishes until the connection breaks or nobody has anything more to publish.
async fn serve(
    mut session: Session<'_>,
    batches: &mut mpsc::Receiver<Batch>,
    status: &Status,
    stop: &mut watch::Receiver<bool>,
) -> Served {
    let mut has_published = false;
    loop {
        let is_blocked = session.is_blocked();
        let batch = tokio::select! {
            biased;
            changed = session.changed() => match changed {
                Ok(()) => continue,
                Err(error) => return Served { has_published, has_suspects: false, error: Some(error) },
            },
            batch = batches.recv(), if !is_blocked => batch,
            // Nothing is in flight, and nothing would be taken.
            _ = stop.wait_for(|stop| *stop), if is_blocked => None,
        };
        let Some(Batch { outgoing, outcomes }) = batch else {
            session.close().await;
            return Served { has_published, has_suspects: false, error: None };
        };
        let published = tokio::select! {
            published = session.publish(&outgoing) => published,
            stopped = stopped_while_blocked(status.subscribe(), stop) => Err(stopped.into()),
        };
        let BrokenOffBatch { error, any_confirmed } = match published {
            Ok(published) => {
                has_published = true;
                // A relay that has gone does not ask any more.
                let _ = outcomes.send(published);
                continue;
            }
            Err(error) => error,
        };
        let has_suspects = error.may_be_of_a_message(any_confirmed);
        let outcome = if has_suspects {
            let events = outgoing.len();
            tracing::warn!(error = %error, events, "a batch broke off: each of its events is published alone now");
            Outcome::Suspect(error.to_string())
        } else {
            Outcome::Unknown
        };
        // Before the answer, so that nobody takes it for ready.
        status.lost(&error);
        let _ = outcomes.send(vec![outcome; outgoing.len()]);
        return Served { has_published, has_suspects, error: Some(error) };
    }
}

#[cfg(test)]
mod tests {
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
