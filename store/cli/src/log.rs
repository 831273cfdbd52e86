//! The log, on standard error. If it can't be written, it is left out.

use std::io::{self, Write as _};

use streambox_programs::{BAD_CONFIGURATION, Failure, LogLine, colors, has_colors};
use tracing_subscriber::EnvFilter;

/// Begins to log.
pub(crate) fn start(directives: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        let message = format!("--log (STREAMBOX_LOG) = {directives:?}: {error}; allowed is a level, for example info");
        Failure::with_code(BAD_CONFIGURATION, message)
    })?;
    let are_colored = has_colors(&io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_ansi(are_colored);
    builder.with_writer(move || LogLine { kept: colors(are_colored), write: write_line }).init();
    Ok(())
}

fn write_line(line: String) -> io::Result<()> {
    io::stderr().write_all((line + "\n").as_bytes())
}
