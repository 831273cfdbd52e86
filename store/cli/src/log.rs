//! The log, on standard error. If it can't be written, it is left out.

use std::io::{self, IsTerminal as _, Write};

use streambox::text::escaped_but;
use tracing_subscriber::EnvFilter;

use crate::failure::{BAD_CONFIGURATION, Failure};

/// What colours begin with.
const ESCAPE: char = '\u{1b}';

/// Begins to log.
pub(crate) fn start(directives: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        let message = format!("--log (STREAMBOX_LOG) = {directives:?}: {error}; allowed is a level, for example info");
        Failure { code: BAD_CONFIGURATION, message }
    })?;
    let is_terminal = io::stderr().is_terminal();
    let kept = is_terminal.then_some(ESCAPE);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_ansi(is_terminal);
    builder.with_writer(move || Event { kept }).init();
    Ok(())
}

/// Takes one event, which the formatter writes in one piece.
struct Event {
    /// The formatter's own colours; in values it escapes this character itself.
    kept: Option<char>,
}

impl Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = escaped_but(text.trim_end_matches('\n'), self.kept) + "\n";
        io::stderr().write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
