//! A stream of which an event can't be applied: consumers of the generation retry it, from the mark in the inbox.
//!
//! The token of a rebuild passes the events of a parked stream as a consumer acknowledges its messages: after the mark covers them. So the
//! mark stays until the stream is applied up to the last of them.

use std::time::Duration;

use streambox::{Error, StreamId};

use crate::{Inbox, Noted};

/// From the last attempt of the rebuild to the first one of a consumer.
const RETRY_IN: Duration = Duration::from_secs(5);

/// The mark of a stream that is left to retries.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    /// There is none yet: why there has to be one.
    Missing(String),
    /// It was seen or written.
    Written,
}

/// Makes the mark of a stream cover everything up to a version. It may have been removed since it was seen.
pub(super) async fn cover(inbox: &Inbox, stream: &StreamId, mark: Mark, through: u64) -> Result<Noted, Error> {
    match mark {
        Mark::Missing(reason) => {
            inbox.park(stream, &reason, through, inbox.later_ms(RETRY_IN)).await.map(|()| Noted::Noted)
        }
        Mark::Written => inbox.note_latest(stream, through).await,
    }
}
