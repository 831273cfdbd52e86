//! What is handed to a task that publishes.

use tokio::sync::{mpsc, oneshot};

/// What to publish, and where the outcome goes.
#[derive(Debug)]
pub(super) struct Submission<T, O> {
    pub(super) outgoing: T,
    outcome: oneshot::Sender<O>,
}

/// A task of a publisher has ended that should not have.
#[derive(Debug, thiserror::Error)]
#[error("a publisher has ended unexpectedly: its last lines in the log say why")]
pub struct PublisherEnded;

impl<T, O> Submission<T, O> {
    /// Hands `outgoing` to a task, and waits for the outcome.
    pub(super) async fn submit(tasks: &mpsc::Sender<Self>, outgoing: T) -> Result<O, PublisherEnded> {
        let (outcome, answer) = oneshot::channel();
        tasks.send(Self { outgoing, outcome }).await.map_err(|_| PublisherEnded)?;
        answer.await.map_err(|_| PublisherEnded)
    }

    pub(super) fn end(self, outcome: O) {
        // A relay that has ended does not wait for it.
        let _ = self.outcome.send(outcome);
    }
}
