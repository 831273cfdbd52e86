//! Consumers that break the protocol on purpose: the simulator has to find each.
//!
//! A mutant lives in the simulated shell: it alters what the shell does for the core or reports to it. The real core
//! has no code for tests.

use clap::ValueEnum;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutant {
    /// A message is acknowledged when it comes.
    AckFirst,
    /// An effect is stored whatever the position is.
    NoCondition,
    /// The position is written after the effect, in a request of its own.
    PositionApart,
    /// A message of a parked stream is acknowledged, and its version is not noted.
    NoteNothing,
    /// A stream is taken for parked though the mark could not be written.
    TrustPark,
    /// A mark is removed whatever was acknowledged meanwhile.
    UnparkBlindly,
    /// What is kept too long is requeued instead of coming again by a new connection. Nothing is lost by it: what comes behind its
    /// successors is a gap until then. It is the order that is.
    Requeue,
    /// As [`Self::Requeue`], and the core is not told that it does not have the messages any more.
    RequeueUnsaid,
    /// A position that is not the assumed one is taken for a success.
    TrustAssumed,
    /// An error is taken for a success.
    TrustErrors,
    /// Each event is taken for the next one.
    SkipGaps,
    /// The events table is not asked whether it has the event that the position names.
    SkipCheck,
    /// An event that the handler fails for is tried again on the spot, and nobody hears of it.
    RetryInPlace,
    /// A retry is not claimed. That costs work, and breaks no promise: what is stored has a condition of its own.
    NoClaim,
}
