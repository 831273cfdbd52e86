//! What the core asks the shell to do, and what comes of it.

use std::{sync::Arc, time::Duration};

use streambox::{StreamId, message::Received};

use crate::{Applied, Position};

/// A delivery of a message, by a number that the shell chooses and never uses again.
pub type DeliveryId = u64;

/// Something to do. Each has its result, a [`Done`], but for the first three.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// These deliveries are done with.
    Acknowledge(Vec<DeliveryId>),
    /// This delivery is not an event: to the dead letters.
    Reject(DeliveryId),
    /// Close the connection and open another one, so that everything unacknowledged comes again, in order.
    Reopen,
    /// Read how far a stream is applied.
    ReadPosition(StreamId),
    /// Store the effect of an event, if its stream is at this version.
    Apply(Arc<Received>, u64),
    /// Read the next public events behind this version from the store. The last one that was applied, the public one before them, is this
    /// one.
    ReadStore(StreamId, u64, u64),
    /// Check that the store still has the event that a position names.
    CheckHistory(StreamId, Position),
    /// Note that a stream can't be applied.
    Park(StreamId, Parking),
    /// Note that messages up to this version of a parked stream are acknowledged.
    NoteLatest(StreamId, u64),
    /// Claim the retry of a parked stream, that was to be made at this time, and set the time of the next one.
    Claim(StreamId, RetryAt, Duration),
    /// Remove the mark of a parked stream, which is applied up to this version.
    Unpark(StreamId, u64),
    /// Find the parked streams that are to be retried now.
    FindDue,
}

/// When a parked stream is to be retried, by the clock of whoever has parked it: milliseconds since the Unix epoch.
pub type RetryAt = i64;

/// What is noted of a stream that can't be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// Why, as a sentence.
    pub reason: String,
    /// The newest version of which a message is known. Everything up to it may be acknowledged once this is noted.
    pub latest_version: u64,
    /// When it is tried again.
    pub retry_in: Duration,
}

/// The result of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Of [`Task::ReadPosition`].
    ReadPosition(StreamId, Result<Position, String>),
    /// Of [`Task::Apply`].
    Applied(Arc<Received>, Result<Applied, String>),
    /// Of [`Task::ReadStore`].
    ReadStore(StreamId, Result<StorePage, String>),
    /// Of [`Task::CheckHistory`]: whether it has it.
    CheckedHistory(StreamId, Result<bool, String>),
    /// Of [`Task::Park`].
    Parked(StreamId, Parking, Result<(), String>),
    /// Of [`Task::NoteLatest`]: whether the stream is still parked. If it is not, nothing was noted.
    NotedLatest(StreamId, u64, Result<bool, String>),
    /// Of [`Task::Claim`]: how the stream is parked, if the claim was won.
    Claimed(StreamId, Result<Option<Claimed>, String>),
    /// Of [`Task::Unpark`]: the mark is removed, or it stays, since newer messages were acknowledged meanwhile, up to this version.
    Unparked(StreamId, Result<Option<u64>, String>),
    /// Of [`Task::FindDue`].
    FoundDue(Result<Vec<(StreamId, RetryAt)>, String>),
}

/// A parked stream whose retry is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// How often it was tried, this time included.
    pub attempts: u32,
    /// The newest version whose message may be acknowledged.
    pub latest_version: u64,
}

/// Events of a stream as the store has them.
#[derive(Clone, Debug, PartialEq)]
pub struct StorePage {
    /// The public ones, in order.
    pub events: Vec<Arc<Received>>,
    /// The version up to which the stream was read, private events included.
    pub through: u64,
    /// Whether the stream ends there.
    pub is_end: bool,
}
