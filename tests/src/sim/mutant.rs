//! Relays that break the protocol on purpose: the simulator has to find each.
//!
//! A mutant lives in the simulated shell: it alters what the shell does for the core or reports to it. The real core
//! has no code for tests.

use clap::ValueEnum;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutant {
    /// An entry is deleted when its last message is sent, before the broker has confirmed it.
    DeleteBeforeConfirm,
    /// What the index shows of a stream is taken for its pending entries.
    TrustIndex,
    /// A message that no queue has taken, and that was returned, is taken for published, since the broker acks it.
    ReturnIsAck,
    /// The next event of a stream is sent before the one before it was confirmed.
    TwoInFlight,
    /// A previous entry that is not visible is taken for published.
    SkipVisibilityCheck,
    /// A broken connection is taken for a success.
    UnknownIsPublished,
    /// Clocks are believed to be right within seconds: two appends that are further apart need no visibility check.
    TrustClocks,
    /// An entry that was published in part is deleted.
    DeleteInPart,
    /// Events that are to have a channel each share one.
    ShareChannel,
    /// Events that are to have a connection each share one.
    ShareConnection,
    /// What the broker never confirms is sent again with everything else, for ever.
    TrustSilence,
    /// An event that is read from the table does not say which public version was before it.
    ForgetPrevious,
    /// A replay keeps a position that has passed the next event.
    KeepAhead,
    /// A replay's position is taken for kept that was not written.
    KeepNothing,
}
