//! One event, until it is applied or given up.

use std::{error::Error, time::Duration};

use streambox::message::Received;

use crate::{Applied, Position, Projection, failure::guarded, retry::Backoff};

/// How often a rebuild tries to apply an event, or to read the position of its stream, unless set otherwise: with the delays between the
/// attempts about ten seconds.
pub const REBUILD_APPLY_ATTEMPTS: u32 = 8;

/// How often something is tried, and how long to wait in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempts {
    pub(super) most: u32,
    pub(super) first_delay: Duration,
    pub(super) longest_delay: Duration,
    /// The longest that one answer of the projection may take.
    pub(super) timeout: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            most: REBUILD_APPLY_ATTEMPTS,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(5),
            timeout: Duration::from_mins(1),
        }
    }
}

/// What has become of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Applied,
    /// It was applied before, by somebody else or in another run.
    AlreadyApplied,
    /// Another event was applied as this version.
    OtherHistory,
    /// The position is below the event that must have been applied before this one.
    Behind,
}

/// Every attempt has failed, or the stream is left to others.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) attempts: u32,
    pub(super) source: Box<dyn Error + Send + Sync>,
    /// Consumers retry the stream: it is parked already.
    pub(super) is_parked: bool,
}

/// Nothing was stored, and the position is the expected one all the same.
#[derive(Debug, thiserror::Error)]
#[error(
    "the projection has refused an event behind version {0} of its stream, and still says that this is its last version"
)]
struct Unmoved(u64);

/// Applies the next event of a stream. `position`: how far the stream is applied, if that is known. Returns how far it is now.
///
/// However the last attempt has ended, another one is harmless: the position decides.
pub(super) async fn apply<P: Projection>(
    projection: &P,
    position: Option<Position>,
    event: &Received,
    allowed: Attempts,
) -> Result<(Position, Outcome), GivenUp> {
    let mut position = position;
    let (mut attempts, mut was_behind_at) = (0, None);
    let mut backoff = Backoff::new(allowed.first_delay, allowed.longest_delay);
    loop {
        let mut failed = match attempt(projection, position, event, allowed.timeout).await {
            // A token passes parked streams. One that is not parked may be up to date since its position was read.
            Ok((at, Outcome::Behind)) if projection.inbox().is_some() && was_behind_at != Some(at.version) => {
                was_behind_at = Some(at.version);
                None
            }
            Ok(done) => return Ok(done),
            Err(source) => Some(source),
        };
        // Whether it was stored is not known.
        position = None;
        if let Some(inbox) = projection.inbox() {
            match inbox.parked_stream(&event.stream_id).await {
                Ok(Some(parked)) => {
                    let source = failed.unwrap_or_else(|| parked.reason.into());
                    return Err(GivenUp { attempts: parked.attempts, source, is_parked: true });
                }
                Ok(None) => {}
                Err(error) => failed = failed.or_else(|| Some(error.into())),
            }
        }
        let Some(source) = failed else { continue };
        attempts += 1;
        if attempts >= allowed.most {
            return Err(GivenUp { attempts, source, is_parked: false });
        }
        let (stream, version) = (event.stream_id.as_str(), event.version);
        tracing::warn!(
            stream,
            version,
            attempts,
            error = &*source as &dyn Error,
            "an event can't be applied, it is tried again"
        );
        tokio::time::sleep(backoff.next(fastrand::f64())).await;
    }
}

/// Tries until it is applied or something fails. Ends, since it goes on only if somebody else has moved the position on.
async fn attempt<P: Projection>(
    projection: &P,
    known: Option<Position>,
    event: &Received,
    timeout: Duration,
) -> Result<(Position, Outcome), Box<dyn Error + Send + Sync>> {
    let mut position = match known {
        Some(position) => position,
        None => guarded(timeout, projection.position(&event.stream_id)).await?,
    };
    loop {
        if event.version <= position.version {
            return Ok((position, check_history(position, event)));
        }
        if event.previous_version.unwrap_or(0) > position.version {
            return Ok((position, Outcome::Behind));
        }
        match guarded(timeout, projection.apply(event, position.version)).await? {
            Applied::Stored => {
                let position = Position { version: event.version, event_id: Some(event.event_id) };
                return Ok((position, Outcome::Applied));
            }
            Applied::Moved => {}
        }
        let moved = guarded(timeout, projection.position(&event.stream_id)).await?;
        if moved.version == position.version {
            return Err(Unmoved(moved.version).into());
        }
        position = moved;
    }
}

/// An event at or below the position is applied, if the position is of this history.
fn check_history(position: Position, event: &Received) -> Outcome {
    match position.event_id {
        Some(id) if event.version == position.version && id != event.event_id => Outcome::OtherHistory,
        _ => Outcome::AlreadyApplied,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io, sync::Mutex};

    use streambox::{StreamId, Uuid};

    use super::*;

    /// Answers as it is told, and remembers what it was asked.
    #[derive(Default)]
    struct Scripted {
        positions: Mutex<VecDeque<io::Result<u64>>>,
        applies: Mutex<VecDeque<io::Result<Applied>>>,
        asked: Mutex<Vec<String>>,
    }

    impl Scripted {
        fn new(
            positions: impl IntoIterator<Item = io::Result<u64>>,
            applies: impl IntoIterator<Item = io::Result<Applied>>,
        ) -> Self {
            let (positions, applies) = (positions.into_iter().collect(), applies.into_iter().collect());
            Self { positions: Mutex::new(positions), applies: Mutex::new(applies), asked: Mutex::default() }
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    impl Projection for Scripted {
        type Error = io::Error;

        async fn position(&self, _: &StreamId) -> io::Result<Position> {
            self.asked.lock().unwrap().push("position".to_owned());
            let version = self.positions.lock().unwrap().pop_front().expect("no other position is read")?;
            Ok(Position { version, event_id: Some(Uuid::from_u128(version.into())) })
        }

        async fn apply(&self, _: &Received, last_version: u64) -> io::Result<Applied> {
            self.asked.lock().unwrap().push(format!("apply behind {last_version}"));
            self.applies.lock().unwrap().pop_front().expect("it is not applied again")
        }
    }

    fn event(version: u64, previous: Option<u64>) -> Received {
        let headers = [
            Some(("stream_id", "order-1".into())),
            Some(("version", i64::try_from(version).unwrap().into())),
            Some(("recorded_at", "2026-05-28T20:27:40.000Z".into())),
            previous.map(|previous| ("previous_version", i64::try_from(previous).unwrap().into())),
        ];
        let id = Uuid::from_u128(version.into()).to_string();
        let properties = streambox::message::Properties {
            message_id: Some(&id),
            event_type: Some("Placed"),
            content_type: Some("application/json"),
        };
        Received::from_parts(properties, headers.into_iter().flatten(), b"{}").unwrap()
    }

    fn tries(most: u32) -> Attempts {
        let (first_delay, longest_delay) = (Duration::from_micros(1), Duration::from_micros(2));
        Attempts { most, first_delay, longest_delay, ..Attempts::default() }
    }

    fn failed<T>() -> io::Result<T> {
        Err(io::Error::other("no answer"))
    }

    fn at(version: u64) -> Position {
        Position { version, event_id: Some(Uuid::from_u128(version.into())) }
    }

    #[tokio::test]
    async fn the_position_is_read_once_and_then_known() {
        let projection = Scripted::new([Ok(2)], [Ok(Applied::Stored), Ok(Applied::Stored)]);
        let first = apply(&projection, None, &event(4, Some(2)), tries(1)).await.unwrap();
        assert_eq!(first, (at(4), Outcome::Applied), "version 3 is private");
        assert_eq!(
            apply(&projection, Some(first.0), &event(5, Some(4)), tries(1)).await.unwrap(),
            (at(5), Outcome::Applied)
        );
        assert_eq!(projection.asked(), ["position", "apply behind 2", "apply behind 4"]);
    }

    #[tokio::test]
    async fn what_is_applied_is_left_out_and_what_was_never_applied_is_noticed() {
        let projection = Scripted::new([Ok(5), Ok(5), Ok(5)], []);
        assert_eq!(
            apply(&projection, None, &event(4, Some(3)), tries(1)).await.unwrap(),
            (at(5), Outcome::AlreadyApplied)
        );
        assert_eq!(
            apply(&projection, None, &event(5, Some(4)), tries(1)).await.unwrap(),
            (at(5), Outcome::AlreadyApplied)
        );
        assert_eq!(apply(&projection, None, &event(9, Some(7)), tries(1)).await.unwrap(), (at(5), Outcome::Behind));
        let other = Position { event_id: Some(Uuid::nil()), ..at(5) };
        assert_eq!(
            apply(&projection, Some(other), &event(5, Some(4)), tries(1)).await.unwrap().1,
            Outcome::OtherHistory
        );
        let unknown = Position { event_id: None, ..at(5) };
        assert_eq!(
            apply(&projection, Some(unknown), &event(5, Some(4)), tries(1)).await.unwrap().1,
            Outcome::AlreadyApplied
        );
    }

    #[tokio::test]
    async fn a_consumer_that_is_faster_is_followed_without_a_delay() {
        let projection = Scripted::new([Ok(1), Ok(2), Ok(3)], [Ok(Applied::Moved), Ok(Applied::Moved)]);
        assert_eq!(
            apply(&projection, None, &event(3, Some(1)), tries(1)).await.unwrap(),
            (at(3), Outcome::AlreadyApplied)
        );
        assert_eq!(projection.asked(), ["position", "apply behind 1", "position", "apply behind 2", "position"]);
    }

    #[tokio::test]
    async fn after_a_failed_attempt_the_position_decides_whether_the_event_is_applied_again() {
        // The first attempt has stored it, and the answer was lost.
        let projection = Scripted::new([Ok(0), failed(), Ok(1)], [failed()]);
        assert_eq!(
            apply(&projection, None, &event(1, None), tries(3)).await.unwrap(),
            (at(1), Outcome::AlreadyApplied)
        );
        let projection = Scripted::new([Ok(0), Ok(0)], [failed(), Ok(Applied::Stored)]);
        assert_eq!(apply(&projection, None, &event(1, None), tries(2)).await.unwrap(), (at(1), Outcome::Applied));
    }

    #[tokio::test]
    async fn an_event_that_can_not_be_applied_is_given_up_after_its_attempts_with_the_last_reason() {
        let many = |_| Ok(0);
        let projection = Scripted::new((0..8).map(many), (0..8).map(|_| failed()));
        let given_up = apply(&projection, None, &event(1, None), tries(REBUILD_APPLY_ATTEMPTS)).await.unwrap_err();
        assert_eq!((given_up.attempts, given_up.source.to_string().as_str()), (8, "no answer"));

        let refuses = Scripted::new((0..3).map(many), [Ok(Applied::Moved)]);
        let given_up = apply(&refuses, None, &event(1, None), tries(1)).await.unwrap_err();
        assert!(given_up.source.to_string().contains("still says"), "{}", given_up.source);
    }
}
