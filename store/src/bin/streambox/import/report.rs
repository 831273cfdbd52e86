//! How an import ends, and the summary.

use std::{
    io::{self, Write as _},
    ops::AddAssign,
    time::Duration,
};

use serde::Serialize;

use super::{
    lane::{Stopped, Tally},
    source::Unreadable,
};
use crate::{
    cli::Format,
    failure::{FAILED, Failure, exit_code, sentence},
};

#[derive(Debug)]
pub(super) enum End {
    Complete,
    BadLine { number: u64, why: String },
    Unreadable(Unreadable),
    Interrupted,
    Stopped(Stopped),
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
    fn sentence(&self, file: &str) -> Option<String> {
        Some(match self {
            Self::Complete => return None,
            Self::BadLine { number, why } => format!(
                "{file}:{number}: {why}. All lines before it are imported; mend it and run the same command again, \
                 which goes on from there"
            ),
            Self::Unreadable(unreadable) => format!(
                "{file}: {unreadable}. The lines before are imported; mend the file and run the same command again"
            ),
            Self::Interrupted => "interrupted. What was imported stays; run the same command again to go on".to_owned(),
            Self::Stopped(Stopped::Differs { line, stream, version, what }) => format!(
                "{file}:{line}: the table has another event as version {version} of {stream}: its {what} differs. Nothing \
                 was overwritten; is this the right file and the right table?"
            ),
            Self::Stopped(Stopped::Store { line, error }) => format!(
                "{file}:{line}: {}. What was imported stays; run the same command again to go on",
                sentence(error)
            ),
        })
    }

    pub(super) fn result(&self, file: &str) -> Result<(), Failure> {
        let Some(message) = self.sentence(file) else { return Ok(()) };
        let code = if let Self::Stopped(Stopped::Store { error, .. }) = self { exit_code(error) } else { FAILED };
        Err(Failure { code, message })
    }
}

/// What an import has done; its JSON is read by scripts.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Lines that are in the table now: appended by this import, or before.
    events: u64,
    appended: u64,
    already_there: u64,
    streams: usize,
    appends: u64,
    seconds: f64,
    events_per_second: f64,
    write_units: f64,
    complete: bool,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
    pub(super) fn new(totals: Tally, streams: usize, elapsed: Duration, end: &End) -> Self {
        let Tally { appended, already_there, appends, write_units } = totals;
        let (events, seconds) = (appended + already_there, elapsed.as_secs_f64());
        let events_per_second = if seconds > 0.0 { events as f64 / seconds } else { 0.0 };
        let complete = end.is_complete();
        Self { events, appended, already_there, streams, appends, seconds, events_per_second, write_units, complete }
    }

    pub(super) fn print(&self, file: &str, format: Format) {
        let text = match format {
            Format::Json => serde_json::to_string(self).expect("a report is plain data"),
            Format::Text => format!(
                "{file}: {} events of {} streams; {} appended in {} appends ({} write units), {} already there; {:.1} s \
                 ({:.0} events/s)",
                self.events,
                self.streams,
                self.appended,
                self.appends,
                self.write_units,
                self.already_there,
                self.seconds,
                self.events_per_second,
            ),
        };
        // Whoever closed standard output does not want to know.
        let _ = writeln!(io::stdout(), "{text}");
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
