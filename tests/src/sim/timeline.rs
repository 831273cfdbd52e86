//! What happens next, in virtual time.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::scenario::Ms;

struct Queued<T> {
    at: Ms,
    number: u64,
    what: T,
}

impl<T> PartialEq for Queued<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Queued<T> {}

impl<T> PartialOrd for Queued<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Queued<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Future happenings by time, and those of the same time in the order in which they were pushed.
pub(super) struct Timeline<T> {
    waiting: BinaryHeap<Reverse<Queued<T>>>,
    count: u64,
}

impl<T> Timeline<T> {
    pub(super) fn new() -> Self {
        Self { waiting: BinaryHeap::new(), count: 0 }
    }

    pub(super) fn push(&mut self, at: Ms, what: T) {
        self.count += 1;
        self.waiting.push(Reverse(Queued { at, number: self.count, what }));
    }

    pub(super) fn pop(&mut self) -> Option<(Ms, T)> {
        self.waiting.pop().map(|Reverse(next)| (next.at, next.what))
    }
}
