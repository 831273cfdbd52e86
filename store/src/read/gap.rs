//! How long a missing event is waited for.

use std::time::Duration;

use crate::{
    error::{Corrupt, Error},
    retry::Backoff,
    stream::StreamId,
};

/// How often a place with a missing event is read before the stream is reported as damaged. With the delays between
/// them about two seconds: far longer than a transaction takes to become visible.
pub const GAP_READ_ATTEMPTS: u32 = 7;

const FIRST_GAP_DELAY: Duration = Duration::from_millis(20);
const LONGEST_GAP_DELAY: Duration = Duration::from_secs(1);

/// Counts the reads of one place.
pub(super) struct GapWatch {
    backoff: Backoff,
    reads: u32,
}

impl GapWatch {
    pub(super) fn new() -> Self {
        Self { backoff: Backoff::new(FIRST_GAP_DELAY, LONGEST_GAP_DELAY), reads: 1 }
    }

    /// Waits before the place is read again; after the last read the version that is `missing` is an error.
    pub(super) async fn wait(&mut self, stream: &StreamId, missing: u64) -> Result<(), Error> {
        if self.reads == GAP_READ_ATTEMPTS {
            let at = format!("version {missing}");
            let what = "the event is missing, although the appends of the events around it have stored it".to_owned();
            return Err(Corrupt { stream: stream.clone(), at, what }.into());
        }
        self.reads += 1;
        self.backoff.wait().await;
        Ok(())
    }
}
