//! The deletion of confirmed entries: batches of 25, a few at the same time, again and again until each is done.

use std::collections::VecDeque;

use streambox::{limits::MAX_BATCH_DELETES, outbox::PendingKey};
use tokio::time::Instant;

use super::bounds::{Bounds, Jitter};

#[derive(Debug, Default)]
pub(super) struct Deletes {
    /// Confirmed entries.
    waiting: VecDeque<PendingKey>,
    /// Entries and requests that the shell has under way.
    entries_under_way: usize,
    requests_under_way: usize,
    /// If DynamoDB left some unprocessed: no request is made before this time.
    rest_until: Option<Instant>,
    /// Requests in a row that have done nothing.
    failures: u32,
}

impl Deletes {
    pub(super) fn push(&mut self, key: PendingKey) {
        self.waiting.push_back(key);
    }

    /// Confirmed entries that are not known as deleted.
    pub(super) fn outstanding(&self) -> usize {
        self.waiting.len() + self.entries_under_way
    }

    /// The next request; empty if there is none to make now.
    pub(super) fn next(&mut self, bounds: &Bounds, now: Instant) -> Vec<PendingKey> {
        self.rest_until = self.rest_until.filter(|until| now < *until);
        // A batch that is not full goes out alone: while it is on its way the next one fills up.
        let is_full = self.waiting.len() >= MAX_BATCH_DELETES;
        let has_room = self.requests_under_way < bounds.max_deletes && (is_full || self.requests_under_way == 0);
        if self.rest_until.is_some() || !has_room || self.waiting.is_empty() {
            return Vec::new();
        }
        let count = self.waiting.len().min(MAX_BATCH_DELETES);
        self.entries_under_way += count;
        self.requests_under_way += 1;
        self.waiting.drain(..count).collect()
    }

    /// Takes the result of a request.
    pub(super) fn done(
        &mut self,
        asked: usize,
        left: Vec<PendingKey>,
        bounds: &Bounds,
        jitter: &mut Jitter,
        now: Instant,
    ) {
        self.entries_under_way -= asked;
        self.requests_under_way -= 1;
        if left.len() < asked {
            // Something was done: DynamoDB answers, and is only short of capacity for a moment.
            self.failures = 0;
        }
        if left.is_empty() {
            return;
        }
        self.rest_until = Some(now + jitter.shorten(bounds.delay(self.failures)));
        self.failures = self.failures.saturating_add(1);
        self.waiting.extend(left);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.rest_until
    }
}
