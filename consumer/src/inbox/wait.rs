//! Waits until a version is applied.

use std::time::Duration;

use streambox::{Error, StreamId};
use tokio::time::{Instant, timeout_at};

use super::{Inbox, ParkedStream, write::Delays};
use crate::Position;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_millis(500);

/// Why a version was not seen to be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not applied in time.
    #[error("version {version} of stream {stream} was not applied within {timeout:?}: it is at version {}{}", .position.version, why(.parked.as_deref()))]
    Timeout {
        /// The stream.
        stream: StreamId,
        /// The version that was waited for.
        version: u64,
        /// How long.
        timeout: Duration,
        /// Where the stream was seen last.
        position: Position,
        /// Why it is parked, if it is.
        parked: Option<Box<ParkedStream>>,
    },
    /// The inbox can't be read.
    #[error(transparent)]
    Inbox(#[from] Error),
}

fn why(parked: Option<&ParkedStream>) -> String {
    parked.map_or_else(String::new, |parked| {
        format!(", and parked after {} attempts: {}", parked.attempts, parked.reason)
    })
}

impl Inbox {
    /// Waits until the effect of a version is stored: for a test, or for a reader that has appended and reads its own writes. The
    /// version is that of a public event; private ones are never applied. Returns the position, which may be further.
    ///
    /// Polls: the first time at once, then after about 20 ms and growing times of up to half a second, each a
    /// [`position`](Self::position). While DynamoDB is unavailable it goes on.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] says where the stream is; [`WaitError::Inbox`] as [`position`](Self::position), and if DynamoDB was unavailable to
    /// the end.
    pub async fn wait_until(&self, stream: &StreamId, version: u64, timeout: Duration) -> Result<Position, WaitError> {
        let (deadline, mut delays) = (Instant::now() + timeout, Delays::new(FIRST_DELAY, LONGEST_DELAY));
        let mut seen = None;
        loop {
            match timeout_at(deadline, self.standing(stream)).await {
                Ok(Ok(standing)) if standing.position.version >= version => return Ok(standing.position),
                Ok(Ok(standing)) => seen = Some(Ok(standing)),
                Ok(Err(error)) if error.is_retryable() => seen = Some(Err(error)),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {}
            }
            if timeout_at(deadline, delays.wait()).await.is_ok() {
                continue;
            }
            let (position, parked) = match seen {
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(standing)) => (standing.position, standing.parked.map(Box::new)),
                None => (Position::default(), None),
            };
            return Err(WaitError::Timeout { stream: stream.clone(), version, timeout, position, parked });
        }
    }
}
