//! The log, on standard error. If it can't be written, it is left out.

use std::io::{self, IsTerminal as _, Write as _};

use streambox_programs::{BAD_CONFIGURATION, Failure, LogLine, colors};
use tracing_subscriber::EnvFilter;

/// Begins to log.
pub(crate) fn start(directives: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        let message = format!("--log (STREAMBOX_LOG) = {directives:?}: {error}; allowed is a level, for example info");
        Failure::with_code(BAD_CONFIGURATION, message)
    })?;
    let is_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_ansi(is_terminal);
    builder.with_writer(move || LogLine { kept: colors(is_terminal), write: write_line }).init();
    Ok(())
}

fn write_line(line: String) -> io::Result<()> {
    io::stderr().write_all((line + "\n").as_bytes())
}
