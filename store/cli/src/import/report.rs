//! How an import ends, and the summary.

use std::{ops::AddAssign, time::Duration};

use serde::Serialize;
use streambox::Error;
use streambox_programs::Failure;

use super::{lane::Tally, source::Unreadable};
use crate::{
    cli::Format,
    output::{note, print_done, visible},
};

/// Most streams that are listed whose lines can't be imported.
const MAX_LISTED: usize = 100;

#[derive(Debug)]
pub(super) enum End {
    Complete,
    BadLine {
        number: u64,
        why: String,
    },
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

    /// Says on standard error which they are.
    pub(super) fn list(&self, file: &str) {
        for (line, why) in &self.first {
            note(&format!("streambox: {file}:{line}: {why}"));
        }
    }

    fn sentence(&self) -> Option<String> {
        let (first, lines) = (self.first.len(), self.lines);
        let listed =
            if self.streams > first as u64 { format!(" (the first {first} are listed)") } else { String::new() };
        match self.streams {
            0 => None,
            1 => Some(format!("1 stream is not as the table has it: {lines} of its lines are not imported")),
            streams => Some(format!(
                "{streams} streams are not as the table has them{listed}: {lines} of their lines are not imported"
            )),
        }
    }
}

impl End {
    /// Whether the lines that were read before it are still to be imported.
    pub(super) fn lets_the_lines_before_in(&self) -> bool {
        matches!(self, Self::Complete | Self::BadLine { .. } | Self::Unreadable(_))
    }

    fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// What went wrong, and what to do; a place in the file is `file:line`.
    fn failure(self, file: &str) -> Option<Failure> {
        let message = match self {
            Self::Complete => return None,
            Self::BadLine { number, why } => format!(
                "{file}:{number}: {why}. All lines before it are imported; correct it and run the same command \
                 again, which goes on from there"
            ),
            Self::Unreadable(damaged @ Unreadable::Damaged { .. }) => format!(
                "{file}: {damaged}. Nothing was imported: get the file again, or import what is left of it by `gzip -dc \
                 {file} | streambox import -`"
            ),
            Self::Unreadable(unreadable) => format!(
                "{file}: {unreadable}. The lines before are imported; correct the file and run the same command again"
            ),
            Self::Interrupted => "interrupted. What was imported stays; run the same command again to go on".to_owned(),
            Self::Stopped(line, error) => {
                let again = ". What was imported stays; run the same command again to go on";
                return Some(Failure::from(error).preceded_by(&format!("{file}:{line}: ")).followed_by(again));
            }
        };
        Some(Failure::new(message))
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

/// What an import has done; its JSON is read by scripts.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Lines that are in the table now: appended by this import, or before.
    events: u64,
    appended: u64,
    already_there: u64,
    /// Lines of streams that are not as the table has them.
    left_out: u64,
    streams: usize,
    appends: u64,
    seconds: f64,
    events_per_second: f64,
    write_units: f64,
    complete: bool,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
    pub(super) fn new(totals: Tally, streams: usize, elapsed: Duration, end: &End, left_out: &LeftOut) -> Self {
        let Tally { appended, already_there, appends, write_units } = totals;
        let (events, seconds) = (appended + already_there, elapsed.as_secs_f64());
        let events_per_second = if seconds > 0.0 { events as f64 / seconds } else { 0.0 };
        let left_out = left_out.lines;
        let complete = end.is_complete() && left_out == 0;
        Self {
            events,
            appended,
            already_there,
            left_out,
            streams,
            appends,
            seconds,
            events_per_second,
            write_units,
            complete,
        }
    }

    pub(super) fn print(&self, file: &str, format: Format) -> Result<(), Failure> {
        let left_out = if self.left_out > 0 { format!(", {} left out", self.left_out) } else { String::new() };
        let done = format!(
            "{file}: {} events of {} streams; {} appended in {} appends ({} write units), {} already there{left_out}; {:.1} s \
             ({:.0} events/s)",
            self.events,
            self.streams,
            self.appended,
            self.appends,
            self.write_units,
            self.already_there,
            self.seconds,
            self.events_per_second,
        );
        match format {
            Format::Json => print_done(&serde_json::to_string(self).expect("a report is plain data"), &done),
            Format::Text => print_done(&visible(&done), &done),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.appended += other.appended;
        self.already_there += other.already_there;
        self.appends += other.appends;
        self.write_units += other.write_units;
    }
}
