//! When a snapshot is taken, and how it is written beside the appends.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Aggregate, counters::Counters, entry::Entry};
use crate::{
    EventStore,
    error::{Error, Invalid},
    json,
    snapshot::{NewSnapshot, Snapshot, SnapshotWrite},
};

/// How many events lie between two snapshots, unless set otherwise.
pub const DEFAULT_SNAPSHOT_INTERVAL: u64 = 100;

/// How many snapshots a repository writes at the same time, unless set otherwise; what is due beyond that is skipped
/// and counted.
pub const MAX_SNAPSHOTS_IN_FLIGHT: usize = 8;

/// Decides after each append whether a snapshot is due. See [`EveryEvents`], [`OnDemand`] and [`Never`]; a closure goes to
/// [`snapshot_when`](super::RepositoryBuilder::snapshot_when).
pub trait SnapshotPolicy<A>: Send + Sync + 'static {
    /// Whether the state that the append has led to is to be kept.
    fn is_due(&self, at: &SnapshotPoint<'_, A>) -> bool;

    /// Whether loads look for snapshots. They do unless a policy says otherwise.
    fn is_used(&self) -> bool {
        true
    }
}

/// An append, as a [`SnapshotPolicy`] sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct SnapshotPoint<'a, A> {
    /// The stream's version before the append.
    pub before: u64,
    /// The stream's version now.
    pub version: u64,
    /// The version of the newest snapshot that this repository knows of; 0 for none.
    pub last_snapshot: u64,
    /// The state now.
    pub state: &'a A,
}

impl<A, F: Fn(&SnapshotPoint<'_, A>) -> bool + Send + Sync + 'static> SnapshotPolicy<A> for F {
    fn is_due(&self, at: &SnapshotPoint<'_, A>) -> bool {
        self(at)
    }
}

/// A snapshot every N events: whenever an append passes a multiple of them, and if the last one known is twice
/// as far behind, because it was lost or there never was one. Of several writers one passes a multiple, and so one
/// takes the snapshot. 0 is never.
///
/// Exhaustive: the number is all that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EveryEvents(pub u64);

impl<A> SnapshotPolicy<A> for EveryEvents {
    fn is_due(&self, at: &SnapshotPoint<'_, A>) -> bool {
        let Self(every) = *self;
        every > 0
            && (at.version / every > at.before / every
                || at.version.saturating_sub(at.last_snapshot) >= every.saturating_mul(2))
    }
}

/// Only by [`Repository::snapshot`](super::Repository::snapshot). Snapshots that are there are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDemand;

impl<A> SnapshotPolicy<A> for OnDemand {
    fn is_due(&self, _: &SnapshotPoint<'_, A>) -> bool {
        false
    }
}

/// None is taken, and none is looked for: loads read every event, in as few requests as that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Never;

impl<A> SnapshotPolicy<A> for Never {
    fn is_due(&self, _: &SnapshotPoint<'_, A>) -> bool {
        false
    }

    fn is_used(&self) -> bool {
        false
    }
}

/// The outcome of a snapshot that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotResult {
    /// It is written, of this version.
    Taken(u64),
    /// One of this version or a newer one is there, or one of a newer schema version.
    Superseded,
    /// The stream has no event.
    Empty,
}

pub(crate) struct Snapshots<A> {
    pub(crate) policy: Box<dyn SnapshotPolicy<A>>,
    in_flight: Arc<watch::Sender<usize>>,
    pub(crate) most_in_flight: usize,
}

impl<A: Aggregate> Snapshots<A> {
    pub(crate) fn new() -> Self {
        Self {
            policy: Box::new(EveryEvents(DEFAULT_SNAPSHOT_INTERVAL)),
            in_flight: Arc::new(watch::Sender::new(0)),
            most_in_flight: MAX_SNAPSHOTS_IN_FLIGHT,
        }
    }

    /// The state in a snapshot; none if it can't be used.
    pub(crate) fn restore(snapshot: &Snapshot, counters: &Counters) -> Option<A> {
        if snapshot.schema_version != A::SCHEMA_VERSION {
            counters.snapshots_of_other_schema.count();
            tracing::debug!(stream = %snapshot.stream_id, schema_version = snapshot.schema_version, "snapshot of another schema");
            return None;
        }
        match serde_json::from_str(&snapshot.body) {
            Ok(state) => Some(state),
            Err(error) => {
                counters.snapshots_unreadable.count();
                tracing::warn!(stream = %snapshot.stream_id, version = snapshot.version, %error, "snapshot does not decode");
                None
            }
        }
    }

    /// Whether the append that has led from version `before` to this state is followed by a snapshot.
    pub(crate) fn is_due(&self, before: u64, entry: &Entry<A>) -> bool {
        let version = entry.position.version();
        self.policy.is_due(&SnapshotPoint {
            before,
            version,
            last_snapshot: entry.snapshot.version,
            state: &entry.state,
        })
    }

    /// Writes the snapshot in a task of its own, which reports to the log and the counters alone. Says whether it was
    /// begun.
    pub(crate) fn spawn(&self, store: &EventStore, entry: Arc<Entry<A>>, counters: &Arc<Counters>) -> bool {
        let Some(place) = InFlight::enter(&self.in_flight, self.most_in_flight) else {
            counters.snapshots_skipped.count();
            return false;
        };
        let (store, counters) = (store.clone(), Arc::clone(counters));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = take(&store, &entry, &counters).await {
                tracing::warn!(stream = %entry.position.stream(), error = &error as &dyn std::error::Error, "no snapshot");
            }
        });
        true
    }

    /// Waits until no snapshot is being written.
    pub(crate) async fn idle(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }
}

pub(super) async fn take<A: Aggregate>(
    store: &EventStore,
    entry: &Entry<A>,
    counters: &Counters,
) -> Result<SnapshotResult, Error> {
    let version = entry.position.version();
    let body = json::to_text(&*entry.state).map_err(|error| {
        counters.snapshots_failed.count();
        Invalid::Payload { event_type: std::any::type_name::<A>().to_owned(), why: error.to_string() }
    })?;
    match json::depth(&body) {
        // It would be ignored by every load.
        depth if depth > json::READABLE_DEPTH => {
            counters.snapshots_failed.count();
            return Err(Invalid::TooDeep { what: "the snapshot", limit: json::READABLE_DEPTH, depth }.into());
        }
        _ => {}
    }
    let append_id = entry.position.append_id().expect("a snapshot is taken behind an event");
    let new = NewSnapshot {
        replaces: entry.snapshot.replaces,
        ..NewSnapshot::new(version, append_id, A::SCHEMA_VERSION, body)
    };
    match store.write_snapshot(entry.position.stream(), &new).await {
        Ok(SnapshotWrite::Stored { .. }) => {
            counters.snapshots_taken.count();
            Ok(SnapshotResult::Taken(version))
        }
        Ok(SnapshotWrite::Superseded) => {
            counters.snapshots_superseded.count();
            Ok(SnapshotResult::Superseded)
        }
        Err(error) => {
            match error {
                Error::Invalid(Invalid::TooLong { .. }) => counters.snapshots_too_large.count(),
                _ => counters.snapshots_failed.count(),
            }
            Err(error)
        }
    }
}

/// One of the snapshots that are being written.
struct InFlight(Arc<watch::Sender<usize>>);

impl InFlight {
    fn enter(count: &Arc<watch::Sender<usize>>, most: usize) -> Option<Self> {
        let entered = count.send_if_modified(|count| {
            let free = *count < most;
            *count += usize::from(free);
            free
        });
        entered.then(|| Self(Arc::clone(count)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(before: u64, version: u64, last_snapshot: u64) -> bool {
        EveryEvents(100).is_due(&SnapshotPoint { before, version, last_snapshot, state: &() })
    }

    #[test]
    fn a_snapshot_is_due_where_a_multiple_is_passed_and_where_the_last_one_is_far_behind() {
        for (before, version, last_snapshot, is_due) in [
            (98, 99, 0, false),
            (99, 100, 0, true),
            (95, 105, 0, true),
            (100, 101, 100, false),
            (100, 101, 0, false),
            (199, 200, 100, true),
            (210, 211, 11, true),
            (210, 211, 12, false),
            (10_042, 10_043, 0, true),
        ] {
            assert_eq!(due(before, version, last_snapshot), is_due, "{before} to {version}, last {last_snapshot}");
        }
        assert!(!EveryEvents(0).is_due(&SnapshotPoint { before: 0, version: 1_000, last_snapshot: 0, state: &() }));
    }
}
