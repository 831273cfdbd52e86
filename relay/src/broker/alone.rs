//! Events that are published alone, since what they were published with broke off: is it this one's fault?
//!
//! - [`Isolation::Channel`]: many at once, each on a channel of its own, on one connection that they share. A channel that is
//!   closed, or a confirm that does not come, is the fault of the one event. If the connection ends, it may be that of any
//!   one of those that were under way.
//! - [`Isolation::Connection`]: one at a time, each on a connection of its own. If that ends, it is the event's fault.
//!
//! Connections are opened when there is something to publish, and their backoff is their own: the publishers of batches go
//! on meanwhile.

use std::{collections::BTreeMap, collections::HashSet, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lapin::{Confirmation, Connection, ErrorKind};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    BrokerSettings,
    failure::ConnectionError,
    publisher::{PublisherEnded, connected, rest, stopped_while_blocked},
    session::{Session, judge, message_of, open_more, refused, send},
    state::{Link, PublisherState, Status},
};
use crate::{
    core::{Isolation, Outcome, Outgoing},
    retry::Backoff,
};

/// Attempts that wait to be taken over. Who publishes bounds how many there are.
const QUEUE: usize = 16;

/// A shared connection that nothing was published on for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long attempts that are under way may go on when it is time to stop. The usual one takes milliseconds; one that the
/// broker never confirms would take the whole drain timeout.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A handle to the tasks that publish single events. They end when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Alone {
    on_channels: mpsc::Sender<Attempt>,
    on_connections: mpsc::Sender<Attempt>,
    /// The tasks hold the other ends.
    states: [watch::Receiver<PublisherState>; 2],
}

#[derive(Debug)]
struct Attempt {
    outgoing: Outgoing,
    outcome: oneshot::Sender<Outcome>,
}

impl Attempt {
    fn end(self, outcome: Outcome) {
        // A relay that has gone does not ask any more.
        let _ = self.outcome.send(outcome);
    }
}

impl Alone {
    /// Starts the tasks. When `stop` turns true, or its sender is gone, they wait for no connection and for no broker that is
    /// blocked; what is under way has a second left.
    #[must_use]
    pub fn start(settings: Arc<BrokerSettings>, stop: watch::Receiver<bool>) -> Self {
        let (on_channels, attempts) = mpsc::channel(QUEUE);
        let (status, first) = Status::new(Arc::default());
        tokio::spawn(publish_on_channels(Arc::clone(&settings), attempts, status, stop.clone()));
        let (on_connections, attempts) = mpsc::channel(QUEUE);
        let (status, second) = Status::new(Arc::default());
        tokio::spawn(publish_on_connections(settings, attempts, status, stop));
        Self { on_channels, on_connections, states: [first, second] }
    }

    /// Ends the tasks, if this is the last handle; they say goodbye to the broker if it listens.
    pub async fn close(self) {
        let Self { on_channels, on_connections, states } = self;
        drop((on_channels, on_connections));
        for mut state in states {
            while state.changed().await.is_ok() {}
        }
    }

    /// Publishes an event, as far apart from others as asked for. Without a connection, or while the broker is blocked, it
    /// waits.
    ///
    /// # Errors
    /// [`PublisherEnded`]: a task is gone.
    pub async fn publish(&self, outgoing: Outgoing, isolation: Isolation) -> Result<Outcome, PublisherEnded> {
        let (outcome, answer) = oneshot::channel();
        let attempts = match isolation {
            Isolation::Channel => &self.on_channels,
            Isolation::Connection => &self.on_connections,
        };
        attempts.send(Attempt { outgoing, outcome }).await.map_err(|_| PublisherEnded)?;
        answer.await.map_err(|_| PublisherEnded)
    }

    /// Publishes an event on a channel of its own, and on a connection of its own if that leaves a doubt.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn settle(&self, outgoing: Outgoing) -> Result<Outcome, PublisherEnded> {
        match self.publish(outgoing.clone(), Isolation::Channel).await? {
            Outcome::Suspect(_) => self.publish(outgoing, Isolation::Connection).await,
            outcome => Ok(outcome),
        }
    }
}

/// Answers what is still asked when it is time to stop.
async fn answer_unknown(attempts: &mut mpsc::Receiver<Attempt>) {
    while let Some(attempt) = attempts.recv().await {
        attempt.end(Outcome::Unknown);
    }
}

async fn grace_is_over(stop: &mut watch::Receiver<bool>) -> ConnectionError {
    // An error is an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(STOP_GRACE).await;
    ConnectionError::Stopped
}

async fn publish_on_connections(
    settings: Arc<BrokerSettings>,
    mut attempts: mpsc::Receiver<Attempt>,
    status: Status,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::for_reconnects();
    while let Some(attempt) = attempts.recv().await {
        let Some(mut session) = connected(&settings, &status, &mut backoff, &mut stop).await else {
            attempt.end(Outcome::Unknown);
            return answer_unknown(&mut attempts).await;
        };
        backoff.reset();
        let mut stop_blocked = stop.clone();
        let published = tokio::select! {
            published = session.publish(std::slice::from_ref(&attempt.outgoing)) => published,
            stopped = stopped_while_blocked(status.subscribe(), &mut stop_blocked) => Err(stopped.into()),
            stopped = grace_is_over(&mut stop) => Err(stopped.into()),
        };
        match published {
            Ok(outcomes) => {
                attempt.end(outcomes.into_iter().next().unwrap_or(Outcome::Unknown));
                session.close().await;
            }
            Err(end) if end.error.is_nobodys_fault() => {
                status.lost(&end.error);
                attempt.end(Outcome::Unknown);
            }
            Err(end) => {
                status.lost(&end.error);
                attempt.end(Outcome::Poison(format!(
                    "published on a connection of its own, it ended that: {}",
                    end.error
                )));
            }
        }
    }
}

async fn publish_on_channels(
    settings: Arc<BrokerSettings>,
    mut attempts: mpsc::Receiver<Attempt>,
    status: Status,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::for_reconnects();
    while let Some(first) = attempts.recv().await {
        let opened = connected(&settings, &status, &mut backoff, &mut stop).await;
        let Some(session) = opened else {
            first.end(Outcome::Unknown);
            return answer_unknown(&mut attempts).await;
        };
        if let Some(error) = share(session, first, &mut attempts, &settings, &status, &mut stop).await {
            status.lost(&error);
            if matches!(error, ConnectionError::Stopped) || rest(&error, &mut backoff, &mut stop).await {
                return answer_unknown(&mut attempts).await;
            }
        }
    }
}

/// Publishes on channels of one connection, until that ends or has nothing to do. Why it ended, if it did.
async fn share(
    mut session: Session<'_>,
    first: Attempt,
    attempts: &mut mpsc::Receiver<Attempt>,
    settings: &BrokerSettings,
    status: &Status,
    stop: &mut watch::Receiver<bool>,
) -> Option<ConnectionError> {
    let connection = session.share();
    // One channel is the session's.
    let channels = match connection.configuration().channel_max() {
        0 => usize::MAX,
        most => usize::from(most) - 1,
    };
    let mut under_way = FuturesUnordered::new();
    let mut asked = BTreeMap::new();
    let mut next = 0_u64;
    let mut attempt = Some(first);
    let mut stop_blocked = stop.clone();
    let mut stopped = std::pin::pin!(async {
        tokio::select! {
            stopped = stopped_while_blocked(status.subscribe(), &mut stop_blocked) => stopped,
            stopped = grace_is_over(stop) => stopped,
        }
    });
    let error = loop {
        if let Some(attempt) = attempt.take() {
            if channels == 0 {
                attempt.end(Outcome::Suspect("the broker allows no further channel".to_owned()));
            } else {
                let number = next;
                next += 1;
                let published =
                    publish_on_channel(Arc::clone(&connection), settings, attempt.outgoing.clone(), status.subscribe());
                under_way.push(async move { (number, published.await) });
                asked.insert(number, attempt);
            }
        }
        tokio::select! {
            biased;
            changed = session.changed() => if let Err(error) = changed { break Some(error) },
            Some((number, outcome)) = under_way.next(), if !under_way.is_empty() => {
                // Without an outcome the connection has ended, as `changed` is about to say.
                if let Some(outcome) = outcome && let Some(attempt) = asked.remove(&number) {
                    attempt.end(outcome);
                }
            }
            more = attempts.recv(), if under_way.len() < channels.max(1) => match more {
                Some(more) => attempt = Some(more),
                None => break None,
            },
            stopped = &mut stopped => break Some(stopped),
            () = sleep(IDLE_TIMEOUT), if asked.is_empty() => break None,
        }
    };
    drop(under_way);
    for attempt in asked.into_values() {
        attempt.end(match &error {
            Some(error) if !error.is_nobodys_fault() => Outcome::Suspect(error.to_string()),
            _ => Outcome::Unknown,
        });
    }
    if error.is_none() {
        session.close().await;
    }
    error
}

/// What became of one event on a channel of its own; none if its connection ended.
async fn publish_on_channel(
    connection: Arc<Connection>,
    settings: &BrokerSettings,
    outgoing: Outgoing,
    state: watch::Receiver<PublisherState>,
) -> Option<Outcome> {
    let message = match message_of(settings, &connection, &outgoing) {
        Ok(message) => message,
        Err(unpublishable) => return Some(refused(&unpublishable)),
    };
    let timeouts = &settings.timeouts;
    let Some(channel) = within(timeouts.connect, &state, open_more(&connection)).await else {
        return Some(Outcome::Unknown);
    };
    let poison = |error: &ConnectionError| {
        Outcome::Poison(format!("published on a channel of its own, it closed that: {error}"))
    };
    let failed = |error: lapin::Error| {
        // The connection's status may lag behind its end.
        let is_of_the_connection = error.is_amqp_hard_error()
            || matches!(
                error.kind(),
                ErrorKind::IOError(_)
                    | ErrorKind::ParsingError(_)
                    | ErrorKind::InvalidConnectionState(_)
                    | ErrorKind::MissingHeartbeatError
            );
        let is_of_the_channel =
            !is_of_the_connection && (error.is_amqp_soft_error() || connection.status().connected());
        is_of_the_channel.then(|| poison(&ConnectionError::from_lapin(&error, settings)))
    };
    let channel = match channel {
        Ok(channel) => channel,
        // Nothing was published.
        Err(error) => return connection.status().connected().then(|| Outcome::Suspect(error.to_string())),
    };
    let confirm = match within(timeouts.publish, &state, send(&channel, settings, &message, &outgoing)).await {
        Some(Ok(confirm)) => confirm,
        Some(Err(error)) => return failed(error),
        None => return Some(Outcome::Unknown),
    };
    match within(timeouts.confirm, &state, confirm).await {
        Some(Ok(Confirmation::NotRequested)) => Some(Outcome::Poison(ConnectionError::NotConfirmed.to_string())),
        Some(Ok(confirmation)) => {
            let is_acked = confirmation.is_ack();
            let message_id =
                confirmation.take_message().and_then(|message| message.delivery.properties.message_id().clone());
            Some(judge(settings, &message, is_acked, &HashSet::from_iter(message_id)))
        }
        Some(Err(error)) => failed(error),
        None => Some(Outcome::Poison(ConnectionError::Unconfirmed { limit: timeouts.confirm }.to_string())),
    }
}

/// Does `work` within `limit`; none if it takes longer. While the broker is blocked the time stands still.
async fn within<T>(
    limit: Duration,
    state: &watch::Receiver<PublisherState>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut state = state.clone();
    let mut work = std::pin::pin!(work);
    loop {
        if state.borrow_and_update().link == Link::Blocked {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                _ = state.wait_for(|state| state.link != Link::Blocked) => {}
            }
        }
        tokio::select! {
            biased;
            done = timeout(limit, &mut work) => return done.ok(),
            _ = state.wait_for(|state| state.link == Link::Blocked) => {}
        }
    }
}
