//! Events that are published alone, because what they were published with broke off: is the event at fault?
//!
//! - [`Isolation::Channel`]: many at a time, each on a channel of its own, on a connection that they share. If a channel is
//!   closed or a confirm does not come, its event is at fault. If the connection ends, any event that was under way may be.
//! - [`Isolation::Connection`]: one at a time, each on a connection of its own. If the connection ends, the event is at fault.
//!
//! Connections are opened when there is something to publish, and have a backoff of their own: the publishers of batches
//! continue meanwhile.

use std::{collections::BTreeMap, collections::HashSet, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lapin::{Confirmation, Connection, ErrorKind};
use streambox_amqp::{ConnectionError, Connector, Link, Purpose as _};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    BrokerSettings,
    opening::open_for_confirms,
    session::{Session, judge, message_of, refused, send},
    state::PublisherState,
    submission::{PublisherEnded, Submission},
};
use crate::core::{Isolation, Outcome, Outgoing};

/// Attempts that wait for a task. The core bounds how many there are.
const QUEUE: usize = 16;

/// A shared connection on which nothing was published for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long attempts that are under way may take when it is time to stop. The usual one takes milliseconds; one that the
/// broker never confirms would take the whole drain timeout.
const STOP_GRACE: Duration = Duration::from_secs(1);

type Attempt = Submission<Outgoing, Outcome>;

/// A handle to the tasks that publish single events. They end when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Alone {
    on_channels: mpsc::Sender<Attempt>,
    on_connections: mpsc::Sender<Attempt>,
    /// The tasks hold the other ends.
    states: [watch::Receiver<PublisherState>; 2],
}

impl Alone {
    /// Starts the tasks. When `stop` turns true, or its sender is gone, they wait neither for a connection nor for a broker
    /// that is blocked, and what is under way has a second left.
    #[must_use]
    pub fn start(settings: &Arc<BrokerSettings>, stop: &watch::Receiver<bool>) -> Self {
        let connector = || Connector::new(Arc::clone(settings), stop.clone(), Arc::default());
        let ((shared, first), (own, second)) = (connector(), connector());
        let (on_channels, attempts) = mpsc::channel(QUEUE);
        tokio::spawn(publish_on_channels(shared, attempts));
        let (on_connections, attempts) = mpsc::channel(QUEUE);
        tokio::spawn(publish_on_connections(own, attempts));
        Self { on_channels, on_connections, states: [first, second] }
    }

    /// Ends the tasks, if this is the last handle; they close their connections in an orderly way if the broker is not
    /// blocked.
    pub async fn close(self) {
        let Self { on_channels, on_connections, states } = self;
        drop((on_channels, on_connections));
        for mut state in states {
            while state.changed().await.is_ok() {}
        }
    }

    /// Publishes an event, isolated as asked for. Without a connection, or while the broker is blocked, it waits.
    ///
    /// # Errors
    /// [`PublisherEnded`]: a task has ended.
    pub async fn publish(&self, outgoing: Outgoing, isolation: Isolation) -> Result<Outcome, PublisherEnded> {
        let attempts = match isolation {
            Isolation::Channel => &self.on_channels,
            Isolation::Connection => &self.on_connections,
        };
        Attempt::submit(attempts, outgoing).await
    }
}

/// The next attempt and a connection for it; none if the last handle was dropped, or if it was time to stop and every attempt
/// was answered.
async fn next(
    connector: &mut Connector<BrokerSettings>,
    attempts: &mut mpsc::Receiver<Attempt>,
) -> Option<(Session, Attempt)> {
    let attempt = attempts.recv().await?;
    if let Some(session) = connector.connect(Session::open).await {
        return Some((session, attempt));
    }
    attempt.end(Outcome::Unknown);
    answer_unknown(attempts).await;
    None
}

/// Answers the attempts that are still made when it is time to stop.
async fn answer_unknown(attempts: &mut mpsc::Receiver<Attempt>) {
    while let Some(attempt) = attempts.recv().await {
        attempt.end(Outcome::Unknown);
    }
}

/// Resolves when it is time to stop, after the grace period if the broker takes messages.
async fn stopped(connector: &Connector<BrokerSettings>) -> ConnectionError {
    let grace = async {
        connector.stopped().await;
        sleep(STOP_GRACE).await;
        ConnectionError::Stopped { owner: BrokerSettings::OWNER }
    };
    tokio::select! {
        stopped = connector.stopped_while_blocked() => stopped,
        stopped = grace => stopped,
    }
}

async fn publish_on_connections(mut connector: Connector<BrokerSettings>, mut attempts: mpsc::Receiver<Attempt>) {
    while let Some((mut session, attempt)) = next(&mut connector, &mut attempts).await {
        connector.reset_backoff();
        let published = tokio::select! {
            published = session.publish(std::slice::from_ref(&attempt.outgoing)) => published,
            stopped = stopped(&connector) => Err(stopped.into()),
        };
        let error = match published {
            Ok(outcomes) => {
                attempt.end(outcomes.into_iter().next().unwrap_or(Outcome::Unknown));
                session.close().await;
                continue;
            }
            Err(broken_off) => broken_off.error,
        };
        connector.status.lost(&error);
        attempt.end(if error.is_nobodys_fault() {
            Outcome::Unknown
        } else {
            Outcome::Poison(format!("published on a connection of its own, it ended that: {error}"))
        });
    }
}

async fn publish_on_channels(mut connector: Connector<BrokerSettings>, mut attempts: mpsc::Receiver<Attempt>) {
    while let Some((session, first)) = next(&mut connector, &mut attempts).await {
        if let Some(error) = share(session, first, &mut attempts, &connector).await
            && connector.rest_after(&error).await
        {
            return answer_unknown(&mut attempts).await;
        }
    }
}

/// Publishes on channels of one connection, until it ends or has nothing to do. Returns why it ended, if it did.
async fn share(
    mut session: Session,
    first: Attempt,
    attempts: &mut mpsc::Receiver<Attempt>,
    connector: &Connector<BrokerSettings>,
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
    let mut stopped = std::pin::pin!(stopped(connector));
    let error = loop {
        if let Some(attempt) = attempt.take() {
            if channels == 0 {
                attempt.end(Outcome::Suspect("the broker allows no further channel".to_owned()));
            } else {
                let number = next;
                next += 1;
                let published = publish_on_channel(Arc::clone(&connection), connector, attempt.outgoing.clone());
                under_way.push(async move { (number, published.await) });
                asked.insert(number, attempt);
            }
        }
        tokio::select! {
            biased;
            changed = session.changed() => if let Err(error) = changed { break Some(error) },
            Some((number, outcome)) = under_way.next(), if !under_way.is_empty() => {
                // Without an outcome the connection has ended, as `changed` is about to report.
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

/// Publishes one event on a channel of its own. Returns none if the connection ended.
async fn publish_on_channel(
    connection: Arc<Connection>,
    connector: &Connector<BrokerSettings>,
    outgoing: Outgoing,
) -> Option<Outcome> {
    let (settings, state) = (&*connector.purpose, connector.status.subscribe());
    let message = match message_of(settings, &connection, &outgoing) {
        Ok(message) => message,
        Err(unpublishable) => return Some(refused(&unpublishable)),
    };
    let timeouts = &settings.timeouts;
    let Some(channel) = within(settings.endpoint.connect_timeout, &state, open_for_confirms(&connection)).await else {
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

/// Does `work` within `limit`; none if it takes longer. While the broker is blocked no time counts.
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
