//! The consumer, until the last effect is stored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use streambox::{StreamId, message::Received};
use streambox_consumer::{Applied, Consumer, Inbox, Position, Projection, Queues};
use streambox_tests::broker::named_broker_url;
use tokio::{sync::Notify, time::timeout};

use crate::{Clock, Failure, Figures, Settings, stage::Stage};

/// Nothing that is measured takes as long.
const LONGEST: Duration = Duration::from_mins(15);

/// A projection that says when it has stored everything.
struct Counted<P> {
    projection: P,
    left: AtomicU64,
    is_done: Arc<Notify>,
}

impl<P: Projection> Projection for Counted<P> {
    type Error = P::Error;

    async fn position(&self, stream: &StreamId) -> Result<Position, P::Error> {
        self.projection.position(stream).await
    }

    async fn apply(&self, event: &Received, last_version: u64) -> Result<Applied, P::Error> {
        let applied = self.projection.apply(event, last_version).await?;
        if applied == Applied::Stored && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.is_done.notify_one();
        }
        Ok(applied)
    }

    fn inbox(&self) -> Option<&Inbox> {
        self.projection.inbox()
    }
}

/// As a service has it: with the events table, and an inbox in which streams can be parked.
pub(crate) async fn consume(stage: &Stage, queues: &Queues, settings: Settings) -> Result<Figures, Failure> {
    let projection = stage.inbox()?.projection(stage.counts.clone());
    let is_done = Arc::new(Notify::new());
    let projection = Counted { projection, left: AtomicU64::new(stage.events()), is_done: Arc::clone(&is_done) };
    let clock = Clock::start();
    let mut consumer = Consumer::builder(named_broker_url(), queues.clone(), projection)
        .store(stage.store())
        .prefetch(settings.prefetch)
        .concurrency(settings.concurrency)
        .spawn()?;
    tokio::select! {
        stored = timeout(LONGEST, is_done.notified()) => stored?,
        ended = consumer.ended() => return Err(ended.into()),
    }
    let figures = clock.stop(stage.events());
    let status = consumer.stop().await?;
    if (status.applied, status.applied_from_store, status.failures) != (stage.events(), 0, 0) {
        return Err(format!("the consumer has not applied each message once: {status:?}").into());
    }
    Ok(figures)
}
