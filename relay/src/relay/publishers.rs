//! The connections that publish: those for batches, and those for events that are published alone.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    broker::{self, Alone, BrokerSettings, Publisher, PublisherEnded, Refusal},
    core::{Done, Isolation, Outgoing},
};

/// A handle to all of them.
pub(crate) struct Publishers {
    /// The publishers that have no batch.
    idle: Vec<Publisher>,
    alone: Alone,
    /// Notified of each change of their states.
    changed: Arc<Notify>,
    stop: watch::Sender<bool>,
}

/// The result of a task that publishes.
pub(crate) struct Published {
    /// The publisher of a batch.
    publisher: Option<Publisher>,
    /// The outcomes.
    pub(crate) done: Done,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Publishers {
    /// Starts `count` publishers for batches, and those for single events.
    pub(crate) fn start(settings: &Arc<BrokerSettings>, count: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let changed = Arc::new(Notify::new());
        let publisher = |_| broker::start(Arc::clone(settings), stopped.clone(), Arc::clone(&changed));
        let idle = (0..count).map(publisher).collect();
        Self { idle, alone: Alone::start(settings, &stopped), changed, stop }
    }

    /// The states of those for batches, while none has one.
    pub(crate) fn states(&self) -> Vec<watch::Receiver<broker::PublisherState>> {
        self.idle.iter().map(Publisher::state).collect()
    }

    /// Resolves when the broker refuses the settings before there was any connection.
    pub(crate) fn refusal_at_start(&self) -> impl Future<Output = Refusal> + use<> {
        broker::refusal_at_start(self.states())
    }

    /// How many could take a batch now.
    pub(crate) fn ready(&self) -> usize {
        self.idle.iter().filter(|publisher| publisher.is_ready()).count()
    }

    /// Resolves when the state of one has changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Publishes a batch, on a connection that is ready. If none is any more, the batch comes back as unknown.
    ///
    /// # Panics
    /// If there are more batches than publishers.
    pub(crate) fn publish(
        &mut self,
        batch: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Published, PublisherEnded>> + Send + use<> {
        let ready = self.idle.iter().position(Publisher::is_ready).or_else(|| self.idle.len().checked_sub(1));
        let publisher = self.idle.swap_remove(ready.expect("the core gives no more batches than publishers are idle"));
        async move {
            let began = Instant::now();
            let outcomes = publisher.publish(batch.clone()).await?;
            let done = Done::Published(batch, outcomes);
            Ok(Published { publisher: Some(publisher), done, took: began.elapsed() })
        }
    }

    /// Publishes an event isolated from others.
    pub(crate) fn publish_alone(
        &self,
        outgoing: Outgoing,
        isolation: Isolation,
    ) -> impl Future<Output = Result<Published, PublisherEnded>> + Send + use<> {
        let alone = self.alone.clone();
        async move {
            let began = Instant::now();
            let outcome = alone.publish(outgoing.clone(), isolation).await?;
            let done = Done::PublishedAlone(outgoing, isolation, outcome);
            Ok(Published { publisher: None, done, took: began.elapsed() })
        }
    }

    /// Takes back the connection that a batch was published on.
    pub(crate) fn take_back(&mut self, published: Published) -> Done {
        self.idle.extend(published.publisher);
        published.done
    }

    /// From now on they wait for no connection and for no broker that is blocked.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends them all; they close their connections in an orderly way if the broker is not blocked.
    pub(crate) async fn close(self) {
        self.stop();
        for publisher in self.idle {
            publisher.close().await;
        }
        self.alone.close().await;
    }
}
