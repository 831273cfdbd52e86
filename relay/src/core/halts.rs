//! The halted streams: why and since when they are halted, and when each is tried again.

use std::num::NonZeroUsize;

use lru::LruCache;
use streambox::StreamId;
use tokio::time::Instant;

use super::{
    MAX_ATTEMPTS,
    bounds::Bounds,
    lane::{Attempt, Cause},
};

/// Why a stream is halted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The version that can't be published; 0 if it is not known.
    pub version: u64,
    /// Why, for the operator.
    pub reason: String,
    /// When it halted first.
    pub since: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, at the earliest.
    pub retry_at: Instant,
    /// How the next attempt is made.
    attempt: Attempt,
    /// Whether a scan has found it since the last pass ended.
    is_still_pending: bool,
}

impl Halt {
    /// Whether it was tried as often as `drain` and a replay try it.
    pub(super) fn is_given_up(&self) -> bool {
        self.attempts >= MAX_ATTEMPTS
    }
}

#[derive(Debug)]
pub(super) struct Halts(LruCache<StreamId, Halt>);

/// Whether a stream that a scan has found may be worked on.
pub(super) enum Permission {
    /// It is not halted, or its next attempt is due.
    Now(Option<Attempt>),
    /// Its next attempt is not due yet.
    Later,
}

impl Halts {
    pub(super) fn new(remembered: NonZeroUsize) -> Self {
        Self(LruCache::new(remembered))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&StreamId, &Halt)> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When a halted stream is tried again.
    pub(super) fn retry_at(&self, stream: &StreamId) -> Option<Instant> {
        self.0.peek(stream).map(|halt| halt.retry_at)
    }

    pub(super) fn contains(&self, stream: &StreamId) -> bool {
        self.0.contains(stream)
    }

    pub(super) fn found(&mut self, stream: &StreamId, max_attempts: Option<u32>, now: Instant) -> Permission {
        match self.0.peek_mut(stream) {
            None => Permission::Now(None),
            Some(halt) => {
                halt.is_still_pending = true;
                let is_given_up = max_attempts.is_some_and(|max| halt.attempts >= max);
                if is_given_up || now < halt.retry_at { Permission::Later } else { Permission::Now(Some(halt.attempt)) }
            }
        }
    }

    /// Halts a stream, or notes that another attempt has failed.
    pub(super) fn put(
        &mut self,
        stream: &StreamId,
        cause: Cause,
        attempt: Attempt,
        bounds: &Bounds,
        now: Instant,
    ) -> Halt {
        let (since, attempts) = self.0.peek(stream).map_or((now, 0), |halt| (halt.since, halt.attempts));
        let halt = Halt {
            version: cause.version,
            reason: cause.reason,
            since,
            attempts: attempts.saturating_add(1),
            retry_at: now + bounds.delay(attempts),
            attempt,
            is_still_pending: true,
        };
        self.0.put(stream.clone(), halt.clone());
        halt
    }

    /// The stream continues. Returns whether it was halted.
    pub(super) fn resolve(&mut self, stream: &StreamId) -> bool {
        self.0.pop(stream).is_some()
    }

    /// A scan has come to the end of the index. Halted streams that it did not find have nothing pending any more: they
    /// are forgotten, and returned.
    pub(super) fn scanned_all(&mut self, is_open: impl Fn(&StreamId) -> bool) -> Vec<StreamId> {
        let gone = self.forget(|stream, halt| !halt.is_still_pending && !is_open(stream));
        for (_, halt) in &mut self.0 {
            halt.is_still_pending = false;
        }
        gone
    }

    /// Forgets the halted streams that another worker owns now.
    pub(super) fn release(&mut self, is_foreign: impl Fn(&StreamId) -> bool) -> Vec<StreamId> {
        self.forget(|stream, _| is_foreign(stream))
    }

    fn forget(&mut self, which: impl Fn(&StreamId, &Halt) -> bool) -> Vec<StreamId> {
        let gone: Vec<_> =
            self.0.iter().filter(|(stream, halt)| which(stream, halt)).map(|(stream, _)| stream.clone()).collect();
        for stream in &gone {
            self.0.pop(stream);
        }
        gone
    }
}
