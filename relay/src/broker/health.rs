//! Whether a connection is alive, and whether the broker takes messages.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::{Connection, Event};
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use super::{BrokerSettings, failure::ConnectionError, state::Status};

/// How often an idle connection is checked: lapin does not report an orderly close by the broker.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) const CONFIRMING: &str = "confirming";

/// The longest time to wait for the reason why a connection ended, if a request found it closed. lapin reports it within
/// milliseconds.
const REASON_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether the connection is alive, and whether the broker takes messages.
pub(super) struct Health {
    pub(super) connection: Arc<Connection>,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    pub(super) status: Arc<Status>,
    settings: Arc<BrokerSettings>,
    pub(super) is_blocked: bool,
    /// Whether an error of a channel ends the session. It does not while the channel is being opened, when it answers an
    /// attempt, nor if many channels share the connection.
    pub(super) ends_with_channel: bool,
}

impl Health {
    pub(super) fn new(connection: Arc<Connection>, settings: &Arc<BrokerSettings>, status: &Arc<Status>) -> Self {
        let events = Box::pin(connection.events_listener());
        let (settings, status) = (Arc::clone(settings), Arc::clone(status));
        Self { connection, events, status, settings, is_blocked: false, ends_with_channel: false }
    }

    /// The channel is open: from now on an error of it ends the session. Earlier ones are over.
    pub(super) fn opened(&mut self) {
        while let Some(Some(_)) = self.events.next().now_or_never() {}
        self.ends_with_channel = true;
        self.status.connected();
    }

    /// Waits until the connection is blocked, unblocked or lost.
    pub(super) async fn changed(&mut self) -> Result<(), ConnectionError> {
        let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.next() => event.ok_or(ConnectionError::Closed)?,
                _ = look.tick() => {
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
                    return Err(ConnectionError::from_lapin(&error, &self.settings));
                }
                _ => {}
            }
        }
    }

    fn turn(&mut self, reason: String) {
        self.is_blocked = !self.is_blocked;
        if self.is_blocked {
            tracing::warn!(reason, "the broker takes no messages (an alarm of memory or disk); the relay waits for it");
            self.status.blocked(reason);
        } else {
            tracing::info!("the broker takes messages again");
            self.status.unblocked();
        }
    }

    /// Does `work` within `limit`. While the broker is blocked no time counts: a new connection would be blocked as well.
    pub(super) async fn within<T>(
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
                    Err(met @ ConnectionError::ClosedBefore(_)) => return Err(reason(&mut self.events, met, &self.settings).await),
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

fn slow(what: &'static str, limit: Duration) -> ConnectionError {
    if what == CONFIRMING { ConnectionError::Unconfirmed { limit } } else { ConnectionError::Slow { what, limit } }
}

/// Why the connection has ended, if lapin reports it; else the error that was met.
async fn reason(
    events: &mut (impl Stream<Item = Event> + Unpin),
    met: ConnectionError,
    settings: &BrokerSettings,
) -> ConnectionError {
    let error = |event| async { if let Event::Error(error) = event { Some(error) } else { None } };
    let mut errors = pin!(events.filter_map(error));
    match timeout(REASON_TIMEOUT, errors.next()).await {
        Ok(Some(error)) => ConnectionError::from_lapin(&error, settings),
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

    /// The error of a publish on a channel whose connection the broker has just closed.
    fn met(settings: &BrokerSettings) -> ConnectionError {
        let met = ErrorKind::InvalidChannelState(ChannelState::Closing, "basic.publish");
        ConnectionError::from_lapin(&met.into(), settings)
    }

    fn settings() -> BrokerSettings {
        BrokerSettings::new("amqp://user:secret@host".parse().expect("a valid URL"), "events".into())
    }

    #[tokio::test]
    async fn a_closed_channel_is_reported_with_the_brokers_reason() {
        let settings = settings();
        let forced = AMQPError::new(AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED), "maintenance".into());
        let error = ErrorKind::ProtocolError(forced).into();
        let mut events = stream::iter([Event::Connected, Event::Error(error)]).chain(stream::pending());
        assert!(matches!(met(&settings), ConnectionError::ClosedBefore(_)));
        let reported = reason(&mut events, met(&settings), &settings).await.to_string();
        assert_eq!(reported, "the broker at host:5672 says: maintenance");
    }

    #[tokio::test]
    async fn without_a_reason_the_closed_channel_is_reported() {
        let settings = settings();
        for mut events in [stream::pending().boxed(), stream::empty().boxed()] {
            let reported = reason(&mut events, met(&settings), &settings).await.to_string();
            assert!(reported.starts_with("the connection to host:5672 has been closed"), "{reported}");
        }
    }
}
