//! Replay publishes past events again, for a new consumer or one that has lost its state.
//!
//! The relay's own [`core`](crate::core) decides, with history as the source of its lanes: so streams are published side by
//! side, an event that breaks what it is published with is published alone, and order holds as it does for the relay. Pending
//! entries are neither read nor touched, private events never go out.
//!
//! A replay to a queue ends with a message of its own ([`REPLAY_ENDED_TYPE`](streambox::message::REPLAY_ENDED_TYPE)), so that
//! the queue's consumer knows when it has everything. To the exchange there is none: no routing key reaches every queue.

mod position;
mod shell;
mod source;

use std::{future::Future, sync::Arc};

use serde::Serialize;
use streambox::{Error, EventStore, RecordedEvent, StreamId};
use tokio::time::Instant;

pub use position::{BadPosition, Of, Position};

use self::{
    shell::{Progress, Shell},
    source::Source,
};
use crate::{
    broker::{BrokerSettings, PublisherEnded, Refusal},
    core::{Bounds, Core, HistorySettings},
    relay::publishers::Publishers,
};

/// Most events that are read ahead: no more are published twice after an interruption.
pub const WINDOW_EVENTS: usize = 512;

/// Events that one read asks for.
const PAGE_EVENTS: usize = 128;

/// What to replay, where to, and how fast.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// What to replay.
    pub of: Of,
    /// Leaves out events recorded before: milliseconds since the Unix epoch.
    pub from_ms: Option<i64>,
    /// Leaves out events recorded at this time or later.
    pub to_ms: Option<i64>,
    /// Where to publish; its form carries the replay's id.
    pub broker: BrokerSettings,
    /// Most events a second.
    pub rate: u32,
}

impl ReplaySettings {
    fn includes(&self, event: &RecordedEvent) -> bool {
        let is_late_enough = self.from_ms.is_none_or(|from| event.recorded_at_ms >= from);
        let is_early_enough = self.to_ms.is_none_or(|to| event.recorded_at_ms < to);
        !event.is_private && is_late_enough && is_early_enough
    }
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Replayed {
    /// The replay's id.
    pub replay: String,
    /// Events that the broker has confirmed, those of runs before that were interrupted included.
    pub published: u64,
    /// How many of these are after the position: the next run publishes them again.
    pub repeats: u64,
    /// Events that were read and left out: private ones, and those outside of the times.
    pub left_out: u64,
    /// Whether it has come to its end.
    pub done: bool,
    /// How long this run took.
    pub seconds: f64,
}

/// Why a replay ended before its end. The last position was handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The table can't be read, or holds what it should not.
    #[error(transparent)]
    Store(#[from] Error),
    /// The broker refuses what it was given, the login or the queue, and has never accepted it.
    #[error(transparent)]
    Broker(#[from] Refusal),
    /// The broker refuses an event again and again.
    #[error("version {version} of stream {stream} can't be published: {reason}")]
    Refused {
        /// The stream.
        stream: StreamId,
        /// The version.
        version: u64,
        /// Why.
        reason: String,
    },
    /// Every event was published, and the broker refuses the message that says so.
    #[error("every event was published, but the message that says so can't be: {reason}")]
    Unannounced {
        /// Why.
        reason: String,
    },
    /// A task that publishes ended unexpectedly, which is a fault of the program.
    #[error(transparent)]
    Ended(#[from] PublisherEnded),
    /// The position could not be kept.
    #[error("the position can't be written")]
    Position(#[source] std::io::Error),
}

/// Replays until the end, or until `stop` resolves: then it waits at most 20 seconds for what is in flight. `keep` is called
/// with the position at least once a window, once a second while events are confirmed, and at the end, whatever the end is.
///
/// # Errors
/// [`ReplayError`]. While the broker can't be reached or the table is not available, the replay waits.
pub async fn replay(
    store: &EventStore,
    settings: ReplaySettings,
    position: Position,
    stop: impl Future<Output = ()>,
    mut keep: impl FnMut(&Position) -> std::io::Result<()>,
) -> Result<Replayed, ReplayError> {
    let began = Instant::now();
    let mut progress = Progress::from(position);
    if !progress.position.is_done {
        let source = Source::open(store, &settings, progress.position.next.clone())?;
        let is_to_queue = settings.broker.form.queue.is_some();
        let publishers = Publishers::start(&Arc::new(settings.broker), 1);
        let refusal = publishers.refusal_at_start();
        let core = Core::replaying(&core_settings(settings.rate), fastrand::u64(..), began);
        let mut shell = Shell::new(core, source, publishers, is_to_queue);
        let ended = tokio::select! {
            ended = shell.run(&mut progress, &mut keep, stop) => ended,
            refusal = refusal => Err(refusal.into()),
        };
        let kept = shell.close(&mut progress, &mut keep).await;
        ended.and(kept)?;
    }
    let position = progress.position;
    Ok(Replayed {
        replay: position.replay.clone(),
        published: position.confirmed(),
        repeats: position.ahead,
        left_out: position.left_out,
        done: position.is_done,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn core_settings(rate: u32) -> HistorySettings {
    let (window_events, page_events) = (WINDOW_EVENTS, PAGE_EVENTS);
    HistorySettings { bounds: Bounds::default(), rate, window_events, page_events }
}
