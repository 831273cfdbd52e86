//! The loop: hands the core what has come, carries out what it asks for.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    Projection,
    catch_up::Waiters,
    core::{Core, DeliveryId, Done, Task},
    feed::{Feed, FromQueue, Tag, ToQueue},
    telemetry::{SNAPSHOT_INTERVAL, Snapshot},
    work::Work,
};

/// A running consumer's parts.
pub(crate) struct Shell<P> {
    pub(crate) core: Core,
    pub(crate) work: Arc<Work<P>>,
    pub(crate) feed: Feed,
    pub(crate) snapshot: watch::Sender<Snapshot>,
    /// Who asks whether everything is handled that was delivered before.
    pub(crate) asked: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    /// The longest to wait for what is under way when it is stopped.
    pub(crate) drain_timeout: Duration,
}

impl<P: Projection> Shell<P> {
    /// Consumes until `stop` resolves; then it begins nothing new, waits for what is under way, acknowledges what was applied and closes the
    /// connection.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop.fuse());
        let mut requests = JoinSet::<Option<Done>>::new();
        let mut tags = HashMap::<DeliveryId, Tag>::new();
        let mut waiters = Waiters::default();
        let (mut next_delivery, mut next_snapshot, mut give_up_at) = (0, Instant::now(), None);
        loop {
            let now = Instant::now();
            while let Some(task) = self.core.next_task(now) {
                let asked = match task {
                    Task::Acknowledge(done_with) => {
                        ToQueue::Acknowledge(done_with.iter().filter_map(|delivery| tags.remove(delivery)).collect())
                    }
                    Task::Reject(delivery) => match tags.remove(&delivery) {
                        Some(tag) => ToQueue::Reject(tag),
                        None => continue,
                    },
                    Task::Reopen => {
                        tracing::warn!(
                            "a message was kept too long: the connection is opened anew, and what is not acknowledged comes again"
                        );
                        ToQueue::Reopen
                    }
                    request => {
                        requests.spawn(Arc::clone(&self.work).perform(request));
                        continue;
                    }
                };
                // If the task is gone, so is the connection.
                let _ = self.feed.done_with.send(asked);
            }
            waiters.answer(self.core.first_open());
            let (is_finished, is_late) = (self.core.is_finished(), give_up_at.is_some_and(|at| now >= at));
            if now >= next_snapshot || is_finished || is_late {
                next_snapshot = now + SNAPSHOT_INTERVAL;
                self.snapshot.send_replace(Snapshot::of(&self.core));
            }
            if is_finished || is_late {
                break;
            }
            let due = self
                .core
                .next_due()
                .into_iter()
                .chain(give_up_at)
                .chain([next_snapshot])
                .min()
                .unwrap_or(next_snapshot);
            tokio::select! {
                biased;
                () = &mut stop, if give_up_at.is_none() => {
                    self.core.stop();
                    give_up_at = Some(Instant::now() + self.drain_timeout);
                }
                Some(done) = requests.join_next() => match done {
                    Ok(Some(done)) => self.core.done(done, Instant::now()),
                    Ok(None) => {}
                    // The projection's panics are caught before. Nothing that is under way is known then: it is as if the process had died.
                    Err(error) => panic!("a request has ended unexpectedly: {error}"),
                },
                message = self.feed.deliveries.recv() => match message {
                    Some(FromQueue::Delivered(tag, message)) => {
                        next_delivery += 1;
                        tags.insert(next_delivery, tag);
                        self.core.delivered(next_delivery, message, Instant::now());
                    }
                    Some(FromQueue::Lost) => {
                        tags.clear();
                        self.core.connection_lost();
                        waiters.lost();
                    }
                    Some(FromQueue::HasCome(id)) => waiters.has_come(id, next_delivery),
                    // The feed ends with its last sender, which is ours, or when it is stopped.
                    None => self.core.stop(),
                },
                Some(answer) = self.asked.recv() => {
                    let _ = self.feed.done_with.send(ToQueue::AskWhatHasCome(waiters.add(answer)));
                }
                () = sleep_until(due) => {}
            }
        }
        // What was acknowledged goes out before the connection closes.
        let Feed { deliveries, done_with, task, .. } = self.feed;
        drop((deliveries, done_with));
        let _ = timeout_at(Instant::now() + self.drain_timeout, task).await;
    }
}
