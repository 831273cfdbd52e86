//! How far a rebuild is, kept in an inbox, from which another process resumes it.

use std::time::Duration;

use streambox::{Error, ScanToken};
use tokio::time::Instant;

use crate::{Inbox, RebuildProgress};

/// From one time that it is stored to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// From where the scan could resume, and what this run has read before.
pub(super) struct Place {
    pub(super) token: ScanToken,
    pub(super) events: u64,
    pub(super) streams: u64,
}

#[derive(Debug)]
pub(super) struct Keeper<'a> {
    inbox: &'a Inbox,
    /// What was stored when this run began.
    before: RebuildProgress,
    stored_at: Instant,
}

impl<'a> Keeper<'a> {
    /// Reads how far the rebuild is.
    pub(super) async fn open(inbox: &'a Inbox) -> Result<Self, Error> {
        let before = inbox.rebuild_progress().await?.unwrap_or_default();
        Ok(Self { inbox, before, stored_at: Instant::now() })
    }

    /// Where the last run was.
    pub(super) fn token(&self) -> Option<ScanToken> {
        self.before.token.clone()
    }

    pub(super) fn is_due(&self) -> bool {
        self.stored_at.elapsed() >= INTERVAL
    }

    /// Stores that everything is applied up to here.
    pub(super) async fn store(&mut self, place: &Place, is_complete: bool) {
        self.stored_at = Instant::now();
        let progress = RebuildProgress {
            token: Some(place.token.clone()),
            events: self.before.events + place.events,
            streams: self.before.streams + place.streams,
            is_complete,
        };
        if let Err(error) = self.inbox.set_rebuild_progress(&progress).await {
            // The next run begins at an earlier place, which is harmless.
            tracing::warn!(%error, "how far a rebuild is could not be stored");
        }
    }
}
