//! Opens connections for one task, again and again: with a growing delay after each that failed, until it is time to stop.

use std::sync::Arc;

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    ConnectionError, Purpose,
    retry::Backoff,
    state::{ConnectionState, Link, Status},
};

/// Opens connections for one task, again and again: with a growing delay after each that failed, until it is time to stop.
#[derive(Debug)]
pub struct Connector<P: Purpose> {
    /// Where they lead to, and what for.
    pub purpose: Arc<P>,
    /// What the connection is doing, for observers.
    pub status: Arc<Status<P::Counts>>,
    backoff: Backoff,
    stop: watch::Receiver<bool>,
}

impl<P: Purpose> Connector<P> {
    /// Also returns the state of its connection, whose changes it notifies `changed` of. It is time to stop when `stop` turns
    /// true, or when its sender is gone.
    pub fn new(
        purpose: Arc<P>,
        stop: watch::Receiver<bool>,
        changed: Arc<Notify>,
    ) -> (Self, watch::Receiver<ConnectionState<P::Counts>>) {
        let (status, state) = Status::new(changed);
        (Self { purpose, status: Arc::new(status), backoff: Backoff::for_reconnects(), stop }, state)
    }

    /// Opens a connection by `open`, after as many attempts as it takes; none when it is time to stop.
    pub async fn connect<S, F>(&mut self, open: impl Fn(Arc<P>, Arc<Status<P::Counts>>) -> F) -> Option<S>
    where
        F: Future<Output = Result<S, ConnectionError>>,
    {
        loop {
            let opened = tokio::select! {
                opened = open(Arc::clone(&self.purpose), Arc::clone(&self.status)) => opened,
                () = self.stopped() => return None,
            };
            match opened {
                Ok(opened) => return Some(opened),
                Err(error) => {
                    if self.rest_after(&error).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Rests after a connection ended or could not be opened. Returns whether it is time to stop.
    pub async fn rest_after(&mut self, error: &ConnectionError) -> bool {
        self.status.lost(error);
        if matches!(error, ConnectionError::Stopped { .. }) {
            return true;
        }
        let delay = self.backoff.next();
        let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        if error.refusal().is_some() {
            let what = "the broker refuses a connection; this ends the program if it has never accepted one, and is retried otherwise";
            tracing::warn!(error = %error, retry_in_ms, "{what}");
        } else {
            tracing::warn!(error = %error, retry_in_ms, "no connection to the broker; it is tried again for ever");
        }
        tokio::select! {
            () = sleep(delay) => false,
            () = self.stopped() => true,
        }
    }

    /// The next rest is as short as the first one.
    pub fn reset_backoff(&mut self) {
        self.backoff.reset();
    }

    /// Resolves when it is time to stop.
    pub async fn stopped(&self) {
        // An error is an end, too.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Resolves when it is time to stop and the broker takes no messages: nothing that is under way can end.
    pub async fn stopped_while_blocked(&self) -> ConnectionError {
        self.stopped().await;
        let _ = self.status.subscribe().wait_for(|state| state.link == Link::Blocked).await;
        ConnectionError::Stopped { owner: P::OWNER }
    }
}
