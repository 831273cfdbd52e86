//! What a running relay reports: to observers, in its row of the table, and at its end.

use std::time::Duration;

use streambox::{
    StreamId,
    outbox::{self, WorkerRow},
};

use super::Shell;
use crate::{
    core::Halt,
    model::HaltedStream,
    relay::RunSummary,
    telemetry::{MAX_SHOWN_HALTS, Snapshot},
};

impl Shell {
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let is_idle = self.core.open_streams() == 0;
        Snapshot {
            unanswered_since: self.silence.since(is_idle),
            totals: self.core.totals(),
            open_streams: self.core.open_streams(),
            reads_under_way: self.core.reads_under_way(),
            deletes_waiting: self.core.deletes_waiting(),
            buffered_bytes: self.core.buffered_bytes(),
            halted_streams: self.core.halted_streams(),
            halted: self.longest_halted().map(|(stream, halt)| HaltedStream::of(stream, halt)).collect(),
            backlog: self.core.backlog(),
            workers: self.core.members().into_iter().flat_map(|(live, _)| live).map(|id| id.to_string()).collect(),
            last_error: self.last_error.clone(),
            refused: self.refused.values().cloned().collect(),
        }
    }

    /// The streams that have been halted for the longest, as many as are shown.
    fn longest_halted(&self) -> impl Iterator<Item = (&StreamId, &Halt)> {
        let mut halts: Vec<_> = self.core.halts().collect();
        halts.sort_by_key(|(stream, halt)| (halt.since, *stream));
        halts.into_iter().take(MAX_SHOWN_HALTS)
    }

    /// This worker's row: the times in it are for people.
    pub(super) fn row(&self, beat: u64) -> WorkerRow {
        let mut row = WorkerRow::new(self.me().clone(), beat);
        let interval = self.group.as_ref().map_or(Duration::ZERO, |group| group.heartbeat_interval);
        row.beat_interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        row.started_at_ms = self.started_at_ms;
        row.host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
        row.process_id = std::process::id();
        env!("CARGO_PKG_VERSION").clone_into(&mut row.version);
        let totals = self.core.totals();
        (row.published, row.deleted) = (totals.published, totals.deleted);
        row.open_streams = self.core.open_streams() as u64;
        row.live_workers = self.core.members().map_or(0, |(live, _)| live.len() as u64);
        row.halted_streams = self.core.halted_streams() as u64;
        let halted = |(stream, halt): (&StreamId, &Halt)| {
            let HaltedStream { version, reason, since_ms, attempts, .. } = HaltedStream::of(stream, halt);
            outbox::HaltedStream::new(stream.clone(), version, reason, since_ms, attempts)
        };
        row.halted = self.longest_halted().map(halted).collect();
        row.last_error = self.last_error.as_ref().map(|error| error.text.clone());
        row
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn summary(&self) -> RunSummary {
        let (totals, seconds) = (self.core.totals(), self.started.elapsed().as_secs_f64());
        let publishing_seconds = (self.last_confirm - self.started).as_secs_f64();
        let per_second = |events: u64| if publishing_seconds > 0.0 { events as f64 / publishing_seconds } else { 0.0 };
        let halted = self.core.halts();
        RunSummary {
            published: totals.published,
            entries_deleted: totals.deleted,
            seconds,
            events_per_second: per_second(totals.published),
            drained: self.core.has_drained_all(),
            halted: halted
                .map(|(stream, halt)| (stream.to_string(), format!("version {}: {}", halt.version, halt.reason)))
                .collect(),
        }
    }
}
