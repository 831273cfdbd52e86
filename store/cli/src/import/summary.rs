//! How an import ends, and the summary.

use std::time::Duration;

use serde_json::json;
use streambox::Error;
use streambox_programs::Failure;

use super::{batch::Tally, source::Unreadable};
use crate::{
    cli::Format,
    output::{count, note, print_done},
};

/// Most streams that are listed whose lines can't be imported.
const MAX_LISTED: usize = 100;

#[derive(Debug)]
pub(super) enum End {
    Complete,
    Unreadable(Unreadable),
    Interrupted,
    /// At this line.
    Stopped(u64, Error),
}

/// Streams whose lines can't be imported, while those of others are.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Lines that are not imported.
    pub(super) lines: u64,
    streams: u64,
    /// Line and reason of the first ones.
    first: Vec<(u64, String)>,
}

impl LeftOut {
    /// A stream more, whose lines from `line` on are not imported.
    pub(super) fn add(&mut self, line: u64, why: String, lines: u64) {
        self.lines += lines;
        self.streams += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push((line, why));
        }
    }

    /// Lists them on standard error.
    pub(super) fn list(&self, file: &str) {
        for (line, why) in &self.first {
            note(&format!("streambox: {file}:{line}: {why}"));
        }
    }

    fn sentence(&self) -> Option<String> {
        let (first, lines) = (self.first.len(), self.lines);
        let listed =
            if self.streams > first as u64 { format!(" (the first {first} are listed)") } else { String::new() };
        let differ = count(self.streams, "stream differs", "streams differ");
        (self.streams > 0).then(|| format!("{differ} from the table{listed}: {lines} lines are not imported"))
    }
}

impl End {
    /// Whether the lines that were read before it are still to be imported.
    pub(super) fn lets_the_lines_before_in(&self) -> bool {
        matches!(self, Self::Complete | Self::Unreadable(_))
    }

    /// What went wrong, and what to do; a place in the file is `file:line`.
    fn failure(self, file: &str) -> Option<Failure> {
        const AGAIN: &str = "What was imported stays; to resume, run the same command again";
        Some(match self {
            Self::Complete => return None,
            Self::Unreadable(Unreadable::Line { number, why }) => Failure::new(format!(
                "{file}:{number}: {why}. All lines before it are imported; correct it, and resume with the same command"
            )),
            Self::Unreadable(damaged @ Unreadable::Damaged { .. }) => Failure::new(format!(
                "{file}: {damaged}. Nothing was imported: get the file again, or import what is left of it by `gzip -dc {file} | \
                 streambox import -`"
            )),
            Self::Unreadable(unreadable) => Failure::new(format!(
                "{file}: {unreadable}. The lines before are imported; correct the file, and resume with the same command"
            )),
            Self::Interrupted => Failure::new(format!("interrupted. {AGAIN}")),
            Self::Stopped(line, error) => {
                Failure::from(error).preceded_by(&format!("{file}:{line}: ")).followed_by(&format!(". {AGAIN}"))
            }
        })
    }

    pub(super) fn result(self, file: &str, left_out: &LeftOut) -> Result<(), Failure> {
        Err(match (left_out.sentence(), self.failure(file)) {
            (None, None) => return Ok(()),
            (None, Some(end)) => end,
            (Some(left_out), None) => Failure::new(format!(
                "{left_out}. Nothing was overwritten, and all other lines are imported; is this the right file and the right table?"
            )),
            (Some(left_out), Some(end)) => end.preceded_by(&format!("{left_out}. And ")),
        })
    }
}

/// Prints what an import has done. Events are the lines that are in the table now, appended by this import or before; lines that are
/// left out belong to streams that differ from the table. Scripts read the JSON.
#[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
pub(super) fn print(
    file: &str,
    totals: Tally,
    streams: usize,
    elapsed: Duration,
    is_complete: bool,
    left_out: u64,
    format: Format,
) -> Result<(), Failure> {
    let Tally { appended, already_there, appends, write_units } = totals;
    let (events, seconds) = (appended + already_there, elapsed.as_secs_f64());
    let events_per_second = if seconds > 0.0 { events as f64 / seconds } else { 0.0 };
    let summary = json!({
        "events": events, "appended": appended, "already_there": already_there, "left_out": left_out, "streams": streams,
        "appends": appends, "seconds": seconds, "events_per_second": events_per_second, "write_units": write_units,
        "complete": is_complete && left_out == 0,
    });
    let left_out = if left_out > 0 { format!(", {left_out} left out") } else { String::new() };
    let done = format!(
        "{file}: {events} events of {streams} streams; {appended} appended in {appends} appends ({write_units} write units), \
         {already_there} already there{left_out}; {seconds:.1} s ({events_per_second:.0} events/s)"
    );
    print_done(format, &summary, &done)
}
