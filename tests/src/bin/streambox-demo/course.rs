//! The two courses of the demo: straight through, and with a purge of the queue in the middle.

use std::{collections::BTreeSet, time::Duration};

use indicatif::HumanCount;
use streambox_consumer::{ConsumerStatus, Rebuild, StreamLag, TlsFiles};
use streambox_tests::PATIENCE;
use tokio::time::Instant;

use crate::{
    Arguments, Failure,
    consuming::Consuming,
    effects::Compared,
    log::Log,
    parts::Parts,
    programs::{self, Imported, Relayed},
    summary::Summary,
};

/// Streams behind that are printed.
const MOST_SHOWN: usize = 3;

/// Most parked streams that are counted.
const MOST_PARKED: u16 = 1_000;

/// Runs one of the courses.
pub(crate) async fn run(arguments: &Arguments, log: &Log, parts: &Parts) -> Result<Summary, Failure> {
    let course = Course { relay_runs: arguments.relay_runs, log, parts };
    if arguments.purge { course.with_purge().await } else { course.straight().await }
}

struct Course<'a> {
    relay_runs: bool,
    log: &'a Log,
    parts: &'a Parts,
}

impl Course<'_> {
    async fn straight(&self) -> Result<Summary, Failure> {
        println!("  importing, with `streambox import`");
        let imported = self.import(self.log).await?;
        refuse_old(&imported, &self.parts.table)?;
        let mut consuming = Consuming::start(self.parts, self.log.events())?;
        if self.relay_runs {
            consuming.say("consuming what the relay publishes, with `streambox-consumer`");
        } else {
            consuming.say("publishing what is pending, with `streambox-relay drain`");
            consuming.say("consuming it at the same time, with `streambox-consumer`");
        }
        let started = Instant::now();
        let relayed = if self.relay_runs {
            None
        } else {
            // For as long as the relay publishes.
            let mut drain = Box::pin(programs::drain(&self.parts.table, self.parts.queues.of_exchange()));
            Some(tokio::select! {
                relayed = &mut drain => relayed?,
                come = consuming.has_come_to(self.log.ends(), None) => {
                    come?;
                    drain.await?
                }
            })
        };
        consuming.has_come_to(self.log.ends(), Some(PATIENCE)).await?;
        self.end(consuming, imported, relayed, Some(started), None).await
    }

    async fn with_purge(&self) -> Result<Summary, Failure> {
        let directory = tempfile::tempdir()?;
        let first = self.log.before_purge(&directory.path().join("first.ndjson"))?;
        // About half of all events.
        let held_at = first.events() * 3 / 5;
        println!(
            "  importing {} of {} events, and publishing them",
            HumanCount(first.events()),
            HumanCount(self.log.events())
        );
        let imported = self.import(&first).await?;
        refuse_old(&imported, &self.parts.table)?;
        // The queue collects.
        let relayed = self.publish().await?;
        let mut consuming = Consuming::start_held(self.parts, self.log.events(), held_at)?;
        if !consuming.has_stored(held_at).await? {
            return Err(format!("not even {held_at} events have taken effect").into());
        }
        let purged = self.parts.queues.purge(&self.parts.broker_url, TlsFiles::default()).await?;
        if purged == 0 {
            return Err("nothing could be purged: the log has too few events for it, take one with more".into());
        }
        consuming.say(&format!(
            "purging the queue when {} events have taken effect: {} messages deleted",
            HumanCount(held_at),
            HumanCount(purged)
        ));
        consuming.release();

        consuming.say("importing the rest, publishing it, consuming it");
        let imported = imported.and_then(self.import(self.log).await?);
        let relayed = match (relayed, self.publish().await?) {
            (Some(first), Some(rest)) => Some(first.and_then(rest)),
            _ => None,
        };
        // The others get no message any more.
        consuming.has_come_to(self.log.ends_behind(&first), Some(PATIENCE)).await?;
        let status = consuming.is_idle().await;
        consuming.say(&format!(
            "gaps noticed by a later message: {}; healed from the events table: {} events",
            HumanCount(status.gaps),
            HumanCount(status.applied_from_store)
        ));
        consuming.say(&shown(&self.behind().await?));
        self.rebuild(&consuming).await?;
        self.end(consuming, imported, relayed, None, Some(purged)).await
    }

    async fn import(&self, log: &Log) -> Result<Imported, Failure> {
        programs::import(&log.path, &self.parts.table).await
    }

    /// Publishes what is pending, or waits until the relay that runs has done it.
    async fn publish(&self) -> Result<Option<Relayed>, Failure> {
        if self.relay_runs {
            self.parts.wait_for_nothing_pending().await;
            return Ok(None);
        }
        programs::drain(&self.parts.table, self.parts.queues.of_exchange()).await.map(Some)
    }

    /// The streams of the log that are behind, the furthest first.
    async fn behind(&self) -> Result<Vec<StreamLag>, Failure> {
        let store = self.parts.store(&self.parts.client);
        let lag = self.parts.inbox(&self.parts.client)?.lag(&store, &BTreeSet::new(), usize::MAX).await?;
        if lag.unreadable_streams > 0 {
            return Err(format!("{} streams can't be read", lag.unreadable_streams).into());
        }
        Ok(lag.furthest.into_iter().filter(|stream| self.log.of(&stream.stream_id).is_some()).collect())
    }

    /// Applies what is missing while the consumer runs.
    async fn rebuild(&self, consuming: &Consuming) -> Result<(), Failure> {
        let store = self.parts.store(&self.parts.client);
        let mut rebuild = Rebuild::new(&store, &consuming.projection);
        for category in self.log.categories() {
            rebuild = rebuild.category(category);
        }
        let report = rebuild.run().await?;
        if let Some(problem) = report.problems.first() {
            return Err(format!("a stream can't be rebuilt: {problem}").into());
        }
        consuming.say(&format!(
            "rebuilding from the events table, with `Rebuild`: {} events applied that were missing, {} were there",
            HumanCount(report.applied),
            HumanCount(report.already_applied)
        ));
        Ok(())
    }

    /// Stops the consumer and compares everything.
    async fn end(
        &self,
        consuming: Consuming,
        imported: Imported,
        relayed: Option<Relayed>,
        started: Option<Instant>,
        purged: Option<u64>,
    ) -> Result<Summary, Failure> {
        let units = consuming.units.clone();
        let (status, last_at): (ConsumerStatus, _) = consuming.stop().await?;
        let elapsed = started.zip(last_at).map(|(started, last)| -> Duration { last.duration_since(started) });
        let parked = self.parts.inbox(&self.parts.client)?.parked(MOST_PARKED).await?.streams;
        Ok(Summary {
            imported,
            relayed,
            status,
            purged,
            elapsed,
            write_units: units.sum(),
            compared: Compared::of(self.log, &self.parts.effects.all().await),
            streams_behind: self.behind().await?.len() as u64,
            parked: parked.iter().filter(|stream| self.log.of(&stream.stream_id).is_some()).count() as u64,
            pending: self.parts.wait_for_nothing_pending().await,
        })
    }
}

/// Nothing is published of what was appended before.
fn refuse_old(imported: &Imported, table: &str) -> Result<(), Failure> {
    if imported.already_there == 0 {
        return Ok(());
    }
    Err(format!(
        "the table {table} has {} of these events already, and no message of them comes: take another log, or another table",
        imported.already_there
    )
    .into())
}

fn shown(behind: &[StreamLag]) -> String {
    let versions: u64 = behind.iter().map(|stream| stream.versions_behind).sum();
    let first: Vec<_> =
        behind.iter().take(MOST_SHOWN).map(|one| format!("{} by {}", one.stream_id, one.versions_behind)).collect();
    let rest = if behind.len() > MOST_SHOWN { ", …" } else { "" };
    let (streams, versions) = (HumanCount(behind.len() as u64), HumanCount(versions));
    let which = if behind.is_empty() { String::new() } else { format!(" ({}{rest})", first.join(", ")) };
    format!("lost without a later message, by `Inbox::lag`: {versions} events of {streams} streams{which}")
}
