//! What happens to relays.

use streambox::outbox::PendingKey;
use streambox_relay::core::{Done, Task};

/// What a worker has sent off.
pub(super) enum Job {
    Task(Task),
    /// A mutant's own.
    Delete(Vec<PendingKey>),
}

/// Something that happens.
pub(super) enum Happening {
    /// An append is committed.
    Append(usize),
    FaultBegins(usize),
    FaultEnds(usize),
    /// A worker's process starts.
    Start(usize),
    /// A writer tells a worker that it has appended to a stream.
    Appended(usize, u8),
    /// A worker looks for what is due.
    Wake(usize, u32),
    /// A request or a batch is carried out.
    Execute(usize, u32, Job),
    /// A worker learns the outcome.
    Result(usize, u32, Done),
    /// A message reaches the exchange that its sender has given up.
    Late(u8, u64),
}
