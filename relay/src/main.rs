//! The program `streambox-relay`: parses, binds, runs.

use std::{
    future::Future,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use streambox::{Error, EventStore, client_from_env};
use streambox_relay::{
    Chain, Report, Until,
    config::{Cli, Command, Format, Options},
    run,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 78;
/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let (options, until) = match Cli::parse().command {
        Command::Run(options) => (options, Until::Stopped),
        Command::Drain(options) => (options, Until::Drained),
    };
    match relay(&options, until).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(failure) => {
            eprintln!("streambox-relay: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

struct Failure {
    code: u8,
    message: String,
}

fn bad_configuration(error: &dyn std::error::Error) -> Failure {
    Failure { code: BAD_CONFIGURATION, message: Chain(error).to_string() }
}

/// Runs the relay. Returns whether it has done what was asked.
async fn relay(options: &Options, until: Until) -> Result<bool, Failure> {
    let filter = EnvFilter::try_new(&options.log).map_err(|error| bad_configuration(&error))?;
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal).init();
    let settings = options.settings().map_err(|error| bad_configuration(&error))?;
    let store = EventStore::new(client_from_env().await, &options.table);
    let stop = stop_signal().map_err(|error| Failure { code: FAILED, message: Chain(&error).to_string() })?;

    tracing::info!(table = options.table, exchange = options.exchange, "the relay starts");
    let report = run(&store, settings, until, stop).await.map_err(|error| match error {
        Error::Setup { .. } => bad_configuration(&error),
        error => Failure { code: FAILED, message: Chain(&error).to_string() },
    })?;
    print(&report, options.format);
    Ok(until == Until::Stopped || report.drained)
}

/// Resolves at SIGTERM or Ctrl-C. A second one ends the program at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            std::process::exit(INTERRUPTED);
        });
    })
}

fn print(report: &Report, format: Format) {
    let text = match format {
        Format::Json => serde_json::to_string(report).expect("a report is plain data"),
        Format::Text => summary(report),
    };
    // Whoever closed standard output does not want to know.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn summary(report: &Report) -> String {
    let mut lines = vec![format!(
        "published {} events, deleted {} pending entries in {:.1} s ({:.0} events/s until the last confirm); {}",
        report.published,
        report.entries_deleted,
        report.seconds,
        report.events_per_second,
        if report.drained { "nothing is pending" } else { "entries may be pending" },
    )];
    lines.extend(report.halted.iter().map(|(stream, reason)| format!("halted: stream {stream}, {reason}")));
    lines.join("\n")
}
