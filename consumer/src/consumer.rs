//! A running consumer, and what it says of itself.

mod builder;

use std::fmt;

use streambox_amqp::{ConnectionState, Link, Refusal, TlsFiles, refusal_at_start};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

pub use self::builder::ConsumerBuilder;
use crate::{ConsumerStatus, Queues, WaitingStream, metrics, telemetry::Snapshot};

/// A consumer of a queue, which runs as tasks of the current Tokio runtime.
///
/// It ends when it is stopped; when this value is dropped, it stops as well, and nobody waits for it.
pub struct Consumer {
    snapshot: watch::Receiver<Snapshot>,
    connection: watch::Receiver<ConnectionState<()>>,
    at: At,
    /// To ask whether everything is handled that was delivered before.
    ask: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    /// Dropped or set: the consumer stops.
    stop: watch::Sender<bool>,
    /// None when its result was returned.
    running: Option<JoinHandle<()>>,
}

/// The queues, and where they are.
struct At {
    queues: Queues,
    url: String,
    tls: TlsFiles,
}

/// Why a consumer has ended by itself, or can't do what it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// The broker refuses what it was given, and has never accepted it: a login, a virtual host, a queue that does not exist.
    #[error("{0}")]
    Refused(String),
    /// A part of it ended that should not have, which is a fault of the program. Start it again: what was not acknowledged comes again.
    #[error("the consumer can't go on: {0}")]
    Ended(String),
}

impl Consumer {
    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> ConsumerStatus {
        let (snapshot, now) = (self.snapshot.borrow(), Instant::now());
        let Snapshot { totals, .. } = *snapshot;
        let since = |at: Instant| now.saturating_duration_since(at);
        let waiting = snapshot.waiting.iter().map(|(stream, why, at)| WaitingStream {
            stream_id: stream.to_string(),
            why: why.clone(),
            waits_for: since(*at),
        });
        ConsumerStatus {
            not_ready: self.not_ready(&snapshot),
            applied: totals.applied,
            applied_from_store: totals.applied_from_store,
            duplicates: totals.duplicates,
            gaps: totals.gaps,
            failures: totals.failures,
            parked: totals.parked,
            recovered: totals.recovered,
            rejected: totals.rejected,
            reopened: totals.reopened,
            unacknowledged: snapshot.unacknowledged,
            oldest_unacknowledged: snapshot.oldest_unacknowledged.map(since),
            waiting_streams: snapshot.waiting_streams,
            waiting: waiting.collect(),
        }
    }

    fn not_ready(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.running.as_ref().is_none_or(JoinHandle::is_finished) {
            reasons.push("the consumer has ended".to_owned());
        }
        let connection = self.connection.borrow();
        if connection.link == Link::Connecting {
            let why = connection.last_error.as_deref().unwrap_or("it has only begun to connect");
            reasons.push(format!("there is no connection to the broker: {why}"));
        }
        if let Some(trouble) = &snapshot.trouble {
            reasons.push(format!("the database does not answer: {trouble}"));
        }
        reasons
    }

    /// Its metrics in the text format of OpenMetrics, for the service's own `/metrics`: `METRICS.md` lists them.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::text(self.at.queues.name(), &self.status())
    }

    /// Resolves when it has ended by itself, which it does only with an error: what was not acknowledged comes again. A second call
    /// after that never resolves. It may be dropped and called again, in a `select!` for instance.
    pub async fn ended(&mut self) -> ConsumerError {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let ended = tokio::select! {
            ended = running => Err(ended),
            refusal = refusal_at_start([self.connection.clone()]) => Ok(refusal),
        };
        let error = match ended {
            Ok(refusal) => {
                // There was never a connection, so nothing is under way.
                if let Some(running) = self.running.take() {
                    running.abort();
                }
                return refused(&refusal);
            }
            Err(Ok(())) => "it ended without a reason".to_owned(),
            Err(Err(error)) => error.to_string(),
        };
        self.running = None;
        ConsumerError::Ended(error)
    }

    /// Resolves when everything is handled that was in its queues at some moment since the call: it is applied, or its stream is parked. A
    /// projection is then as new as another one whose consumer gets the same events, which is the time to switch to it.
    ///
    /// It opens a connection of its own to look into the queues, four times a second, until there is no message in them that no consumer has; then
    /// it waits until this consumer has handled what it was given before. If the connection of the consumer is lost meanwhile, it begins
    /// again. It is about this consumer alone: what another process has of the same queues does not count, so processes that share partitions
    /// each have to have caught up.
    ///
    /// It waits as long as it takes: while events come faster than they are applied, or a stream waits with its messages
    /// ([`ConsumerStatus::waiting`]), it does not resolve. It may be dropped at any time.
    ///
    /// # Errors
    /// [`ConsumerError::Ended`]: the consumer has ended. [`ConsumerError::Refused`]: the broker does not answer, or does not let this user look into the queues;
    /// it may be called again.
    pub async fn caught_up(&self) -> Result<(), ConsumerError> {
        let At { queues, url, tls } = &self.at;
        loop {
            let looked = queues.wait_for_empty(url, tls.clone()).await;
            looked.map_err(|error| ConsumerError::Refused(error.to_string()))?;
            let (answer, answered) = oneshot::channel();
            let ended = || ConsumerError::Ended("it has ended before it has caught up".to_owned());
            self.ask.send(answer).map_err(|_| ended())?;
            if answered.await.map_err(|_| ended())? {
                return Ok(());
            }
        }
    }

    /// Stops it: it begins nothing new, finishes what is under way within the drain timeout, acknowledges what was applied and closes the
    /// connection. What is not acknowledged then comes again, in order.
    ///
    /// # Errors
    /// [`ConsumerError`]: it had ended before.
    pub async fn stop(mut self) -> Result<ConsumerStatus, ConsumerError> {
        // It may have ended already.
        let _ = self.stop.send(true);
        match self.running.take() {
            Some(running) => running.await.map_err(|error| ConsumerError::Ended(error.to_string()))?,
            None => return Err(ConsumerError::Ended("it had ended before".to_owned())),
        }
        Ok(ConsumerStatus { not_ready: Vec::new(), ..self.status() })
    }
}

fn refused(refusal: &Refusal) -> ConsumerError {
    ConsumerError::Refused(refusal.to_string())
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("name", &self.at.queues.name()).finish_non_exhaustive()
    }
}
