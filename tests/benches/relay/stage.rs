//! A table, an exchange and a queue for one measurement, and what fills and drains them.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use streambox::{Client, EventStore, ExpectedVersion};
use streambox_tests::{
    broker::{BoundQueue, named_broker_url},
    copies::copy_stream,
    engine::{event, pending, stream as stream_id},
    programs::program,
    served::ServedEngine,
    unique,
};
use tokio::process::{Child, Command};

use crate::Failure;

/// A table and an exchange with a queue.
pub(crate) struct Stage {
    pub(crate) store: EventStore,
    /// Without a consumer, which would take its share of the processors from the relay.
    pub(crate) queue: BoundQueue,
    engine: ServedEngine,
}

/// An error if a relay has ended that nobody has stopped: what it should publish never comes.
pub(crate) fn still_runs(relay: &mut Child) -> Result<(), Failure> {
    match relay.try_wait()? {
        Some(status) => Err(format!("the relay has ended: {status}").into()),
        None => Ok(()),
    }
}

impl Stage {
    /// With a classic queue.
    pub(crate) async fn set() -> Result<Self, Failure> {
        Self::with(BoundQueue::declare(&named_broker_url(), &unique("bench"), "#").await?).await
    }

    pub(crate) async fn set_with_quorum_queue() -> Result<Self, Failure> {
        Self::with(BoundQueue::declare_quorum(&named_broker_url(), &unique("bench"), "#").await?).await
    }

    async fn with(queue: BoundQueue) -> Result<Self, Failure> {
        let engine = ServedEngine::start().await;
        Ok(Self { store: engine.store(None), queue, engine })
    }

    /// A client of its engine.
    pub(crate) fn client(&self) -> Client {
        self.engine.client(None)
    }

    pub(crate) async fn import(&self, file: &Path) -> Result<u64, Failure> {
        let mut import = Command::new(program("streambox"));
        import.arg("import").arg(file);
        import.args(["--events-per-append", "1", "--format", "json"]).envs(self.engine.environment());
        Ok(printed(&mut import).await?["events"].as_u64().ok_or("no number of events")?)
    }

    pub(crate) fn relay(&self, command: &str) -> Command {
        let mut relay = Command::new(program("streambox-relay"));
        relay.args([command, "--log", "warn", "--exchange", self.queue.exchange()]);
        relay.envs(self.engine.environment());
        if command == "drain" {
            relay.args(["--format", "json"]);
        }
        relay
    }

    /// Drains the table by the program. Returns events a second until the last confirm.
    pub(crate) async fn drain(&self) -> Result<f64, Failure> {
        let report = printed(&mut self.relay("drain")).await?;
        Ok(report["events_per_second"].as_f64().ok_or("no rate")?)
    }

    /// Streams of appends with one event each. The first is appended, the others are copies of its items. The events themselves are left
    /// out of the copies, since small ones stand in their entries.
    pub(crate) async fn fill(&self, streams: u64, entries: u64) -> Result<(), Failure> {
        let first = stream_id("order-0");
        let mut expected = ExpectedVersion::NoStream;
        for number in 1..=entries {
            expected = ExpectedVersion::At(self.store.append(&first, expected, [event(number)]).await?.position);
        }
        let others = (1..streams).map(|number| format!("order-{number}"));
        copy_stream(&self.client(), self.store.table(), &first, "pending#", others).await
    }

    /// Pending entries that are left.
    pub(crate) async fn pending(&self) -> u64 {
        pending(&self.client(), self.store.table()).await
    }

    /// Checks that everything has come, and removes the stage. Returns how many messages came again.
    pub(crate) async fn strike(self, events: u64) -> Result<u64, Failure> {
        assert_eq!(self.pending().await, 0, "nothing is left pending");
        let mut inbox = self.queue.consume();
        let tally = inbox.receive_rest().await?;
        assert_eq!((tally.distinct(), tally.order_violations().len()), (events, 0), "each event, in order");
        let duplicates = inbox.tally().duplicates();
        inbox.close().await?;
        Ok(duplicates)
    }
}

pub(crate) async fn printed(command: &mut Command) -> Result<Value, Failure> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        return Err(format!("{} has failed: {}", command.as_std().get_program().display(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
