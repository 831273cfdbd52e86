//! What happens next, in virtual time.

use std::{cmp::Reverse, collections::BinaryHeap};

use streambox::outbox::PendingKey;
use streambox_relay::core::{Done, Task};

use super::scenario::Ms;

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

pub(super) struct Queued {
    at: Ms,
    number: u64,
    what: Happening,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Future happenings by time, and those of the same time in the order in which they were pushed.
#[derive(Default)]
pub(super) struct Queue {
    waiting: BinaryHeap<Reverse<Queued>>,
    count: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Ms, what: Happening) {
        self.count += 1;
        self.waiting.push(Reverse(Queued { at, number: self.count, what }));
    }

    pub(super) fn pop(&mut self) -> Option<(Ms, Happening)> {
        self.waiting.pop().map(|Reverse(next)| (next.at, next.what))
    }
}
