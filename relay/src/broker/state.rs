//! What a publisher's connection is doing, for whoever wants to know: readiness, metrics, the status page.

use tokio::{sync::watch, time::Instant};

use super::failure::{Broken, Refusal};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is none; it is tried for ever.
    Connecting,
    /// It takes messages.
    Connected,
    /// It is alive, but the broker takes no messages: an alarm of memory or disk. It is waited for.
    Blocked,
}

/// The state of one publisher.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PublisherState {
    /// What its connection is doing.
    pub link: Link,
    /// Since when.
    pub since: Instant,
    /// Connections that were opened after the first.
    pub reconnects: u64,
    /// Why the last connection ended or did not come about.
    pub last_error: Option<String>,
    /// Why the broker takes no messages, in its own words.
    pub blocked_because: Option<String>,
    /// Whether there was ever a connection.
    pub was_connected: bool,
    /// What the broker will refuse until somebody changes a setting, where that was the last error.
    pub refusal: Option<Refusal>,
}

/// The publisher's side of its state.
#[derive(Debug)]
pub(super) struct Status(watch::Sender<PublisherState>);

impl Status {
    pub(super) fn new() -> (Self, watch::Receiver<PublisherState>) {
        let (sender, receiver) = watch::channel(PublisherState {
            link: Link::Connecting,
            since: Instant::now(),
            reconnects: 0,
            last_error: None,
            blocked_because: None,
            was_connected: false,
            refusal: None,
        });
        (Self(sender), receiver)
    }

    pub(super) fn connected(&self) {
        self.enter(Link::Connected, |state| {
            state.reconnects += u64::from(state.was_connected);
            state.was_connected = true;
            state.refusal = None;
        });
    }

    pub(super) fn blocked(&self, reason: String) {
        self.enter(Link::Blocked, |state| state.blocked_because = Some(reason));
    }

    pub(super) fn unblocked(&self) {
        self.enter(Link::Connected, |_| {});
    }

    pub(super) fn lost(&self, broken: &Broken) {
        self.enter(Link::Connecting, |state| {
            state.last_error = Some(broken.to_string());
            state.refusal = broken.refusal();
        });
    }

    fn enter(&self, link: Link, change: impl FnOnce(&mut PublisherState)) {
        self.0.send_modify(|state| {
            if state.link != link {
                state.since = Instant::now();
            }
            state.link = link;
            state.blocked_because = None;
            change(state);
        });
    }
}

/// Resolves when the broker refuses before any publisher has ever been connected: what it was given is wrong. Where one was
/// connected, it was right once, and may become so again: this then never resolves.
pub async fn refusal_at_start(publishers: impl IntoIterator<Item = watch::Receiver<PublisherState>>) -> Refusal {
    let decided = publishers.into_iter().map(|mut state| {
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
