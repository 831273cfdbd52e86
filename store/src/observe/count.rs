//! Counts what the current operation has sent and received. Where nothing listens, there is none, and nothing is counted.
//!
//! The current operation is known by the task that polls it, so that no function in between has to hand a counter on.

use std::sync::{Arc, Mutex, PoisonError};

tokio::task_local! {
    static CURRENT: Arc<Tally>;
}

/// What an operation has done so far, with all that runs inside of it.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) outer: Option<Arc<Self>>,
    counts: Mutex<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u32,
    pub(super) attempts: u32,
    pub(super) conflicts: u32,
    pub(super) read_units: f64,
    pub(super) write_units: f64,
    pub(super) events_read: u64,
    pub(super) events_written: u64,
}

impl Tally {
    /// For an operation inside the current one, if there is one.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { outer: CURRENT.try_with(Arc::clone).ok(), counts: Mutex::default() })
    }

    /// What is done by `run` counts for this.
    pub(super) fn current<T>(self: &Arc<Self>, run: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(self), run)
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(add: impl Fn(&mut Counts)) {
    // No current one is nothing to count for.
    let _ = CURRENT.try_with(|current| {
        let mut tally = Some(current);
        while let Some(at) = tally {
            add(&mut at.counts.lock().unwrap_or_else(PoisonError::into_inner));
            tally = at.outer.as_ref();
        }
    });
}

/// A request is sent.
pub(crate) fn request() {
    count(|counts| counts.requests += 1);
}

/// A read was answered.
pub(crate) fn read(units: f64, events: usize) {
    count(|counts| {
        counts.read_units += units;
        counts.events_read += events as u64;
    });
}

/// A write was answered.
pub(crate) fn written(units: f64, events: usize) {
    count(|counts| {
        counts.write_units += units;
        counts.events_written += events as u64;
    });
}

/// A decision is made.
pub(crate) fn attempt() {
    count(|counts| counts.attempts += 1);
}

/// Another writer was first.
pub(super) fn conflict() {
    count(|counts| counts.conflicts += 1);
}
