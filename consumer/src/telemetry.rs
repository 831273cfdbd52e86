//! What a running consumer shows.

use std::time::Duration;

use streambox::StreamId;
use tokio::time::Instant;

use crate::core::{Core, Totals};

/// The shortest time from one snapshot to the next.
pub(crate) const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);

/// Most waiting streams that are shown.
const MAX_SHOWN: usize = 100;

/// The state of a consumer at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) totals: Totals,
    pub(crate) unacknowledged: usize,
    pub(crate) oldest_unacknowledged: Option<Instant>,
    pub(crate) waiting_streams: usize,
    pub(crate) waiting: Vec<(StreamId, String, Instant)>,
    pub(crate) trouble: Option<String>,
}

impl Snapshot {
    pub(crate) fn of(core: &Core) -> Self {
        let waiting =
            core.waiting().take(MAX_SHOWN).map(|(stream, waits)| (stream.clone(), waits.why.clone(), waits.since));
        Self {
            totals: core.totals(),
            unacknowledged: core.unacknowledged(),
            oldest_unacknowledged: core.oldest_unacknowledged(),
            waiting_streams: core.waiting().count(),
            waiting: waiting.collect(),
            trouble: core.trouble().map(str::to_owned),
        }
    }
}
