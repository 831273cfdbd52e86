//! What a connection is doing, for observers: readiness, metrics, a status page.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::failure::{ConnectionError, Refusal};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// There is none; it is tried for ever.
    Connecting,
    /// It takes messages.
    Connected,
    /// It is alive, but the broker takes no messages: an alarm of memory or disk. It is waited for.
    Blocked,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connecting, Self::Connected, Self::Blocked];

    /// Its name in labels and on the status page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Blocked => "blocked",
        }
    }
}

/// The state of one task's connection, and what its owner counts on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConnectionState<C = ()> {
    /// What its connection is doing.
    #[serde(rename = "state")]
    pub link: Link,
    /// Since when.
    #[serde(rename = "for_seconds", serialize_with = "seconds_since")]
    pub since: Instant,
    /// Connections that were opened after the first.
    pub reconnects: u64,
    /// Why the last connection ended or did not come about.
    pub last_error: Option<String>,
    /// Why the broker takes no messages, in its own words.
    pub blocked_because: Option<String>,
    /// Whether there was ever a connection.
    #[serde(skip)]
    pub was_connected: bool,
    /// What the broker will refuse until somebody changes a setting, if that was the last error.
    #[serde(skip)]
    pub refusal: Option<Refusal>,
    /// What its owner counts.
    #[serde(skip)]
    pub counts: C,
}

fn seconds_since<S: Serializer>(at: &Instant, to: S) -> Result<S::Ok, S::Error> {
    at.elapsed().as_secs_f64().serialize(to)
}

impl<C: Default> ConnectionState<C> {
    /// One that does this from now on.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self {
            link,
            since: Instant::now(),
            reconnects: 0,
            last_error: None,
            blocked_because: None,
            was_connected: false,
            refusal: None,
            counts: C::default(),
        }
    }
}

/// The side of a state that changes it.
#[derive(Debug)]
pub struct Status<C = ()> {
    state: watch::Sender<ConnectionState<C>>,
    /// Notified of every change.
    changed: Arc<Notify>,
}

impl<C: Default> Status<C> {
    /// Also returns the state, of whose changes it notifies `changed`.
    #[must_use]
    pub fn new(changed: Arc<Notify>) -> (Self, watch::Receiver<ConnectionState<C>>) {
        let (sender, receiver) = watch::channel(ConnectionState::new(Link::Connecting));
        (Self { state: sender, changed }, receiver)
    }

    /// The state, now and from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<ConnectionState<C>> {
        self.state.subscribe()
    }

    /// Changes what the owner counts. No observer waits for that.
    pub fn count(&self, count: impl FnOnce(&mut C)) {
        self.state.send_if_modified(|state| {
            count(&mut state.counts);
            false
        });
    }

    /// The connection ended, or did not come about.
    pub fn lost(&self, error: &ConnectionError) {
        self.enter(Link::Connecting, |state| {
            state.last_error = Some(error.to_string());
            state.refusal = error.refusal();
        });
    }

    pub(crate) fn connected(&self) {
        self.enter(Link::Connected, |state| {
            state.reconnects += u64::from(state.was_connected);
            state.was_connected = true;
            state.refusal = None;
        });
    }

    pub(crate) fn blocked(&self, reason: String) {
        self.enter(Link::Blocked, |state| state.blocked_because = Some(reason));
    }

    pub(crate) fn unblocked(&self) {
        self.enter(Link::Connected, |_| {});
    }

    fn enter(&self, link: Link, change: impl FnOnce(&mut ConnectionState<C>)) {
        self.state.send_modify(|state| {
            if state.link != link {
                state.since = Instant::now();
            }
            state.link = link;
            state.blocked_because = None;
            change(state);
        });
        self.changed.notify_one();
    }
}

/// Resolves when the broker refuses before any of some tasks has ever been connected: the settings are wrong. If one was connected,
/// they were right once, and may become right again: then this never resolves.
pub async fn refusal_at_start<C>(
    connections: impl IntoIterator<Item = watch::Receiver<ConnectionState<C>>>,
) -> Refusal {
    let decided = connections.into_iter().map(|mut state| {
        Box::pin(async move {
            let state = state.wait_for(|state| state.was_connected || state.refusal.is_some()).await.ok()?;
            if state.was_connected { None } else { state.refusal.clone() }
        })
    });
    let decided: Vec<_> = decided.collect();
    if !decided.is_empty()
        && let (Some(refusal), _, _) = futures_util::future::select_all(decided).await
    {
        return refusal;
    }
    std::future::pending().await
}
