//! What a scripted broker has seen.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::tally::Tally;

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections that were made.
    pub connections: u64,
    /// Connections that have ended.
    pub ended: u64,
    /// Connections that were closed by the client in an orderly way.
    pub farewells: u64,
    /// Messages that have arrived.
    pub messages: u64,
    /// What was confirmed and not sent back: what a consumer has got for sure.
    pub confirmed: Tally,
    /// What may have reached a consumer at the most: everything that arrived and was neither refused nor sent back.
    pub arrived: Tally,
}

impl Seen {
    /// Whether this many events were confirmed, and first deliveries were in order, whatever became of the messages without
    /// a verdict.
    ///
    /// # Panics
    /// If they were not in order.
    #[must_use]
    pub fn has_all(&self, events: u64) -> bool {
        assert_eq!(self.confirmed.order_violations(), [], "first deliveries are in order");
        assert_eq!(self.arrived.order_violations(), [], "first deliveries are in order");
        self.confirmed.distinct() == events
    }
}

/// The record that connections write.
#[derive(Clone, Debug)]
pub(super) struct Record {
    seen: Arc<Mutex<Seen>>,
    changes: watch::Sender<()>,
}

impl Default for Record {
    fn default() -> Self {
        Self { seen: Arc::default(), changes: watch::channel(()).0 }
    }
}

impl Record {
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().expect("no writer has panicked").clone()
    }

    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let noted = change(&mut self.seen.lock().expect("no writer has panicked"));
        self.changes.send_replace(());
        noted
    }

    pub(super) async fn wait_until(&self, mut wanted: impl FnMut(&Seen) -> bool) -> Seen {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let seen = self.seen();
            if wanted(&seen) {
                return seen;
            }
            changes.changed().await.expect("the record holds the sender");
        }
    }
}
