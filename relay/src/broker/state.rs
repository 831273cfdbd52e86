//! What a publisher's connection is doing, for whoever wants to know: readiness, metrics, the status page.

use tokio::time::Instant;

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
}
