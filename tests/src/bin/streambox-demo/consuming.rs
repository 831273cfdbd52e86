//! The demo's consumer: a real one, whose effects can be watched and held.

use std::{collections::HashMap, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use streambox::{StreamId, message::Received};
use streambox_consumer::{Applied, Consumer, ConsumerStatus, Inbox, InboxProjection, Position, Projection};
use streambox_tests::{PATIENCE, effects::Effects};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use crate::{Failure, parts::Parts, units::WriteUnits};

/// A consumer gives no signal, so it is asked again after this time.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);

/// What has taken effect.
#[derive(Default)]
pub(crate) struct Progress {
    /// How many events.
    pub(crate) events: u64,
    /// When the last of them did.
    pub(crate) last_at: Option<Instant>,
    versions: HashMap<StreamId, u64>,
}

/// A projection that reports each effect when it is stored, and stores as many as there is room for.
#[derive(Clone)]
pub(crate) struct Watched {
    projection: InboxProjection<Effects>,
    progress: watch::Sender<Progress>,
    room: Arc<Semaphore>,
}

impl Projection for Watched {
    type Error = <InboxProjection<Effects> as Projection>::Error;

    async fn position(&self, stream: &StreamId) -> Result<Position, Self::Error> {
        self.projection.position(stream).await
    }

    async fn apply(&self, event: &Received, last_version: u64) -> Result<Applied, Self::Error> {
        let room = self.room.acquire().await.expect("it is never closed");
        let applied = self.projection.apply(event, last_version).await?;
        if applied == Applied::Stored {
            room.forget();
            self.progress.send_modify(|progress| {
                progress.events += 1;
                progress.last_at = Some(Instant::now());
                progress.versions.insert(event.stream_id.clone(), event.version);
            });
        }
        Ok(applied)
    }

    fn inbox(&self) -> Option<&Inbox> {
        self.projection.inbox()
    }
}

/// A consumer that runs.
pub(crate) struct Consuming {
    consumer: Consumer,
    /// Its projection, for others that fill it.
    pub(crate) projection: Watched,
    /// What its effects cost.
    pub(crate) units: WriteUnits,
    progress: watch::Receiver<Progress>,
    bar: ProgressBar,
}

impl Consuming {
    /// Starts one that stores every effect.
    pub(crate) fn start(parts: &Parts, events: u64) -> Result<Self, Failure> {
        Self::start_with(parts, events, Semaphore::MAX_PERMITS, None)
    }

    /// Starts one that stores `effects` and no more until it is [released](Self::release), and holds few messages besides.
    pub(crate) fn start_held(parts: &Parts, events: u64, effects: u64) -> Result<Self, Failure> {
        let prefetch = u16::try_from(effects / 10).unwrap_or(u16::MAX).clamp(1, 200);
        Self::start_with(parts, events, usize::try_from(effects)?, Some(prefetch))
    }

    fn start_with(parts: &Parts, events: u64, room: usize, prefetch: Option<u16>) -> Result<Self, Failure> {
        let units = WriteUnits::default();
        let client = units.of(&parts.client);
        let projection = Watched {
            projection: parts.inbox(&client)?.projection(parts.effects.clone()),
            progress: watch::Sender::new(Progress::default()),
            room: Arc::new(Semaphore::new(room)),
        };
        let builder =
            Consumer::builder(&parts.broker_url, parts.queues.clone(), projection.clone()).store(parts.store(&client));
        let builder = match prefetch {
            Some(messages) => builder.prefetch(messages),
            None => builder,
        };
        let style =
            ProgressStyle::with_template("{wide_bar} {pos}/{len} effects  {elapsed}").expect("a valid template");
        Ok(Self {
            consumer: builder.spawn()?,
            progress: projection.progress.subscribe(),
            projection,
            units,
            bar: ProgressBar::new(events).with_style(style),
        })
    }

    /// There is room for every effect from now on.
    pub(crate) fn release(&self) {
        self.projection.room.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Prints a line, past the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| println!("  {line}"));
    }

    /// Waits until so many events have taken effect. False if none does for a long time.
    pub(crate) async fn has_stored(&mut self, events: u64) -> Result<bool, Failure> {
        self.until(Some(PATIENCE), |progress| progress.events >= events).await
    }

    /// Waits until streams have come to these versions. False if nothing takes effect for as long as `patience`.
    pub(crate) async fn has_come_to<'a>(
        &mut self,
        ends: impl Iterator<Item = (&'a StreamId, u64)>,
        patience: Option<Duration>,
    ) -> Result<bool, Failure> {
        for (stream, version) in ends {
            let has_come = |progress: &Progress| progress.versions.get(stream).is_some_and(|last| *last >= version);
            if !self.until(patience, has_come).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn until(
        &mut self,
        patience: Option<Duration>,
        is_reached: impl Fn(&Progress) -> bool,
    ) -> Result<bool, Failure> {
        loop {
            {
                let progress = self.progress.borrow_and_update();
                self.bar.set_position(progress.events);
                if is_reached(&progress) {
                    return Ok(true);
                }
            }
            tokio::select! {
                changed = timeout(patience.unwrap_or(Duration::MAX), self.progress.changed()) => match changed {
                    Ok(changed) => changed?,
                    Err(_) => return Ok(false),
                },
                error = self.consumer.ended() => return Err(error.into()),
            }
        }
    }

    /// Waits until every message that it has is acknowledged, and returns what it says of itself then.
    pub(crate) async fn is_idle(&self) -> ConsumerStatus {
        // What it says may be a moment old: from before the last effect.
        let effects = self.progress.borrow().events;
        let is_idle = |status: ConsumerStatus| status.unacknowledged == 0 && status.applied >= effects;
        let idle = async {
            while !is_idle(self.consumer.status()) {
                sleep(STATUS_INTERVAL).await;
            }
        };
        // What is missing then is reported.
        let _ = timeout(PATIENCE, idle).await;
        self.consumer.status()
    }

    /// Stops it, and returns what it says of itself and when the last effect was stored.
    pub(crate) async fn stop(self) -> Result<(ConsumerStatus, Option<Instant>), Failure> {
        self.bar.finish_and_clear();
        let last_at = self.progress.borrow().last_at;
        Ok((self.consumer.stop().await?, last_at))
    }
}
