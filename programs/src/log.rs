//! The log: its lines, and the simple one of a command, on standard error.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use tracing_subscriber::EnvFilter;

use crate::{BAD_CONFIGURATION, Failure, text::escaped_but};

/// Crates that log what goes over the wire to the broker, the password among it.
const SILENT: [&str; 2] = ["lapin", "amq_protocol"];

/// The filter of the directives of `--log`.
///
/// # Errors
/// They can't be read, or would log the broker's password.
///
/// # Panics
/// Never.
pub fn log_filter(directives: &str) -> Result<EnvFilter, String> {
    let speaks = |directive: &str| {
        let directive = directive.trim();
        SILENT.iter().any(|name| directive.starts_with(name)) && !directive.ends_with("=off")
    };
    if let Some(directive) = directives.split(',').find(|directive| speaks(directive)) {
        return Err(format!("{directive} would log the broker's password; leave it out, or set it to off"));
    }
    let mut filter = EnvFilter::try_new(directives)
        .map_err(|error| format!("{error}; allowed is a level, for example info, or tracing's directives"))?;
    for name in SILENT {
        filter = filter.add_directive(format!("{name}=off").parse().expect("a valid directive"));
    }
    Ok(filter)
}

/// Begins to log to standard error, as the directives of `--log` say. What can't be written is left out.
///
/// # Errors
/// As [`log_filter`].
///
/// # Panics
/// If it is called twice.
pub fn start_log(directives: &str) -> Result<(), Failure> {
    let filter = log_filter(directives).map_err(|why| {
        Failure::with_code(BAD_CONFIGURATION, format!("--log (STREAMBOX_LOG) = {directives:?}: {why}"))
    })?;
    let are_colored = has_colors(&io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_ansi(are_colored);
    builder.with_writer(move || LogLine { kept: colors(are_colored), write: write_line }).init();
    Ok(())
}

fn write_line(line: String) -> io::Result<()> {
    io::stderr().write_all((line + "\n").as_bytes())
}

/// What colors begin with.
const ESCAPE: char = '\u{1b}';

/// Whether a stream gets colors: it is a terminal, and `NO_COLOR` is empty or not set (<https://no-color.org>).
#[must_use]
pub fn has_colors(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The character to keep for the formatter's own colors; in values, the formatter escapes it itself.
#[must_use]
pub fn colors(are_on: bool) -> Option<char> {
    are_on.then_some(ESCAPE)
}

/// Takes one event of the log, which the formatter writes in one piece, and passes it on as one line, without its line break: what
/// can't be seen is escaped, so that no value forges a line.
pub struct LogLine<F> {
    /// See [`colors`].
    pub kept: Option<char>,
    /// Takes the line.
    pub write: F,
}

impl<F: FnMut(String) -> io::Result<()>> Write for LogLine<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        (self.write)(escaped_but(text.trim_end_matches('\n'), self.kept).into_owned())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
