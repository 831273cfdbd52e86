//! A connection, whether it is alive, and whether the broker takes messages.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::{Connection, ConnectionProperties, Event};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::{ConnectionError, Purpose, link, state::Status};

/// The heartbeat that is asked for; the URL's parameter `heartbeat` comes first. A peer that is silent for two is gone.
const HEARTBEAT_SECONDS: u16 = 20;

/// How often an idle connection is checked: lapin does not report an orderly close by the broker.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is waited for when confirms are due: if none comes, that is [`ConnectionError::Unconfirmed`].
pub const CONFIRMING: &str = "confirming";

/// The longest time to wait for the reason why a connection ended, if a request found it closed. lapin reports it within
/// milliseconds.
const REASON_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection that is watched. Its socket is cut when it is dropped.
pub struct WatchedConnection<P: Purpose> {
    /// First, so that the socket is cut before anything of lapin's is dropped, and can't be used by it any more.
    _guard: link::SocketGuard,
    /// The connection itself.
    pub connection: Arc<Connection>,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    /// What it is doing, for observers.
    pub status: Arc<Status<P::Counts>>,
    purpose: Arc<P>,
    look: Interval,
    is_blocked: bool,
    /// Whether an error of a channel ends the session. It does not while the channel is being opened, when it answers an
    /// attempt, nor if many channels share the connection.
    ends_with_channel: bool,
}

impl<P: Purpose> WatchedConnection<P> {
    /// Opens a connection, up to AMQP's handshake. The channels that belong to it are opened next, and then it is
    /// [`opened`](Self::opened).
    ///
    /// # Errors
    /// [`ConnectionError`]: there is none.
    pub async fn open(purpose: Arc<P>, status: Arc<Status<P::Counts>>) -> Result<Self, ConnectionError> {
        let guard = link::SocketGuard::default();
        let limit = purpose.endpoint().time_to_connect();
        let slow = |_| ConnectionError::Slow { what: "connecting", limit };
        let connection = Arc::new(timeout(limit, connect(&*purpose, &guard, limit)).await.map_err(slow)??);
        let events = Box::pin(connection.events_listener());
        let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (is_blocked, ends_with_channel) = (false, false);
        Ok(Self { _guard: guard, connection, events, status, purpose, look, is_blocked, ends_with_channel })
    }

    /// Many channels share the connection: from now on an error of a channel ends nothing else.
    pub fn share(&mut self) -> Arc<Connection> {
        self.ends_with_channel = false;
        Arc::clone(&self.connection)
    }

    /// Whether the broker has said that it takes no messages.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Closes the connection in an orderly way, unless the broker is blocked. The broker's log has the reason.
    pub async fn close(self, reason: &str) {
        if !self.is_blocked {
            let closed = self.connection.close(200, reason.into());
            // Either way the socket is cut then.
            let _ = timeout(self.purpose.endpoint().close_timeout, closed).await;
        }
    }

    /// The channel is open: from now on an error of it ends the session. Earlier ones are over.
    pub fn opened(&mut self) {
        while let Some(Some(_)) = self.events.next().now_or_never() {}
        self.ends_with_channel = true;
        self.status.connected();
    }

    /// As [`within`](Self::within), with the longest time to connect.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub async fn within_connect_timeout<T>(
        &mut self,
        what: &'static str,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        self.within(self.purpose.endpoint().connect_timeout, what, work).await
    }

    /// Why the connection has ended, if lapin reports it and what was met does not say it; else what was met.
    pub async fn reason_or(&mut self, met: ConnectionError) -> ConnectionError {
        match met {
            ConnectionError::Closed | ConnectionError::ClosedBefore(_) | ConnectionError::Failed(_) => {
                reason(&mut self.events, met, &*self.purpose).await
            }
            met => met,
        }
    }

    /// Waits until the connection is blocked, unblocked or lost. It can be dropped at any time.
    ///
    /// # Errors
    /// [`ConnectionError`]: it is lost.
    pub async fn changed(&mut self) -> Result<(), ConnectionError> {
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.next() => event.ok_or(ConnectionError::Closed)?,
                _ = self.look.tick() => {
                    let status = self.connection.status();
                    if !status.connected() {
                        return Err(ConnectionError::Closed);
                    }
                    // It was reported before the listener existed.
                    if status.blocked() != self.is_blocked {
                        self.turn("the broker's reason was missed".to_owned());
                        return Ok(());
                    }
                    continue;
                }
            };
            match event {
                Event::ConnectionBlocked(reason) if !self.is_blocked => {
                    self.turn(reason);
                    return Ok(());
                }
                Event::ConnectionUnblocked if self.is_blocked => {
                    self.turn(String::new());
                    return Ok(());
                }
                Event::Error(error) if self.ends_with_channel || !error.is_amqp_soft_error() => {
                    return Err(ConnectionError::from_lapin(&error, &*self.purpose));
                }
                _ => {}
            }
        }
    }

    fn turn(&mut self, reason: String) {
        self.is_blocked = !self.is_blocked;
        if self.is_blocked {
            let owner = P::OWNER;
            tracing::warn!(reason, "the broker takes no messages (an alarm of memory or disk); {owner} waits for it");
            self.status.blocked(reason);
        } else {
            tracing::info!("the broker takes messages again");
            self.status.unblocked();
        }
    }

    /// Does `work` within `limit`. While the broker is blocked no time counts: a new connection would be blocked as well.
    ///
    /// # Errors
    /// That of `work`, or [`ConnectionError`]: it took too long, or the connection is lost.
    pub async fn within<T>(
        &mut self,
        limit: Duration,
        what: &'static str,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let mut work = pin!(work);
        let mut deadline = Instant::now() + limit;
        loop {
            tokio::select! {
                biased;
                done = &mut work => match done {
                    Err(met @ ConnectionError::ClosedBefore(_)) => return Err(reason(&mut self.events, met, &*self.purpose).await),
                    done => return done,
                },
                changed = self.changed() => {
                    changed?;
                    deadline = Instant::now() + limit;
                }
                () = sleep_until(deadline), if !self.is_blocked => return Err(slow(what, limit)),
            }
        }
    }
}

async fn connect<P: Purpose>(
    purpose: &P,
    guard: &link::SocketGuard,
    limit: Duration,
) -> Result<Connection, ConnectionError> {
    let endpoint = purpose.endpoint();
    let mut uri = endpoint.uri.clone();
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECONDS));
    let properties = ConnectionProperties::default().with_connection_name(P::CONNECTION_NAME.into());
    let connected = link::connect(uri, properties, endpoint.tls.clone(), guard, limit);
    connected.await.map_err(|error| ConnectionError::from_lapin(&error, purpose))
}

fn slow(what: &'static str, limit: Duration) -> ConnectionError {
    if what == CONFIRMING { ConnectionError::Unconfirmed { limit } } else { ConnectionError::Slow { what, limit } }
}

/// Why the connection has ended, if lapin reports it; else the error that was met.
async fn reason(
    events: &mut (impl Stream<Item = Event> + Unpin),
    met: ConnectionError,
    purpose: &impl Purpose,
) -> ConnectionError {
    let error = |event| async { if let Event::Error(error) = event { Some(error) } else { None } };
    let mut errors = pin!(events.filter_map(error));
    match timeout(REASON_TIMEOUT, errors.next()).await {
        Ok(Some(error)) => ConnectionError::from_lapin(&error, purpose),
        Ok(None) | Err(_) => met,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use lapin::{
        ChannelState, ErrorKind,
        protocol::{AMQPError, AMQPErrorKind, AMQPHardError},
    };

    use super::*;
    use crate::Endpoint;

    /// The error of a publish on a channel whose connection the broker has just closed.
    fn met(purpose: &Tested) -> ConnectionError {
        let met = ErrorKind::InvalidChannelState(ChannelState::Closing, "basic.publish");
        ConnectionError::from_lapin(&met.into(), purpose)
    }

    #[derive(Debug)]
    struct Tested(Endpoint);

    impl Purpose for Tested {
        type Counts = ();
        const OWNER: &'static str = "the test";
        const CONNECTION_NAME: &'static str = "streambox-test";

        fn endpoint(&self) -> &Endpoint {
            &self.0
        }

        fn meaning(&self, _error: &AMQPError) -> Option<ConnectionError> {
            None
        }
    }

    fn purpose() -> Tested {
        Tested(Endpoint::new("amqp://user:secret@host".parse().expect("a valid URL")))
    }

    #[tokio::test]
    async fn a_closed_channel_is_reported_with_the_brokers_reason() {
        let purpose = purpose();
        let forced = AMQPError::new(AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED), "maintenance".into());
        let error = ErrorKind::ProtocolError(forced).into();
        let mut events = stream::iter([Event::Connected, Event::Error(error)]).chain(stream::pending());
        assert!(matches!(met(&purpose), ConnectionError::ClosedBefore(_)));
        let reported = reason(&mut events, met(&purpose), &purpose).await.to_string();
        assert_eq!(reported, "the broker at host:5672 says: maintenance");
    }

    #[tokio::test]
    async fn without_a_reason_the_closed_channel_is_reported() {
        let purpose = purpose();
        for mut events in [stream::pending().boxed(), stream::empty().boxed()] {
            let reported = reason(&mut events, met(&purpose), &purpose).await.to_string();
            assert!(reported.starts_with("the connection to host:5672 has been closed"), "{reported}");
        }
    }
}
