//! The log: on standard error, for people or as JSON. It goes by [`Lines`]: a disk that is full, a pipe that is closed or that
//! nobody reads costs log lines, and nothing else.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    sync::{Arc, atomic::AtomicU64},
};

use streambox_programs::{LogLine, colors, has_colors, log_filter};
use streambox_relay::{
    config::{BadConfiguration, CommonOptions, LogFormat},
    lines::Lines,
    text::escaped,
};
use tracing_subscriber::EnvFilter;

/// The most bytes of log lines that wait to be written; what comes then is dropped and counted.
const WAITING_BYTES: usize = 1024 * 1024;

/// Standard error.
#[derive(Clone)]
pub(crate) struct Log(Lines);

impl Log {
    /// Nothing is logged yet.
    pub(crate) fn open() -> io::Result<Self> {
        // Not by the standard library's handle, whose lock a writer would hold while the pipe is full.
        let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Lines::to("standard error", out, WAITING_BYTES).map(Self)
    }

    /// Begins to log.
    pub(crate) fn start(&self, options: &CommonOptions) -> Result<(), BadConfiguration> {
        let filter = filter(options)?;
        let is_terminal = io::stderr().is_terminal();
        let lines = self.0.clone();
        let write = move |line| {
            lines.put(line);
            Ok(())
        };
        let writer = move |are_colored| move || LogLine { kept: colors(are_colored), write: write.clone() };
        let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
        match options.log_format {
            LogFormat::Text | LogFormat::Auto if is_terminal => {
                let are_colored = has_colors(&io::stderr());
                builder.with_ansi(are_colored).with_writer(writer(are_colored)).init();
            }
            LogFormat::Text => builder.with_ansi(false).with_writer(writer(false)).init(),
            // The event's fields stand beside its time and level, where a query of a log store looks for them.
            LogFormat::Auto | LogFormat::Json => {
                builder.json().flatten_event(true).with_current_span(false).with_writer(writer(false)).init();
            }
        }
        // A panic is a log line as well. By default it would be written to standard error itself, and wait for it.
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
            tracing::error!(%panic, backtrace, "a fault of the program");
        }));
        Ok(())
    }

    /// How many lines were dropped.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        self.0.dropped()
    }

    /// Waits a moment until everything is written, this line last.
    pub(crate) async fn finish(&self, last: Option<String>) {
        self.0.finish(last.map(|line| escaped(&line).into_owned())).await;
    }
}

fn filter(options: &CommonOptions) -> Result<EnvFilter, BadConfiguration> {
    log_filter(&options.log).map_err(|why| BadConfiguration::new("--log (STREAMBOX_LOG)", &options.log, why))
}
