//! The program `streambox-relay`: parses, binds, runs.

mod logs;

use std::{future::Future, io::Write as _, process::ExitCode};

use clap::Parser as _;
use streambox::{Error, EventStore, client_from_env};
use streambox_relay::{
    Chain, Report, Until,
    config::{Cli, Command, Format, RelayOptions},
    run,
};
use tokio::signal::unix::{SignalKind, signal};

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 78;
/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    match execute(Cli::parse().command).await {
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

/// Does what the command line asks for. Returns whether that was done.
async fn execute(command: Command) -> Result<bool, Failure> {
    logs::start(command.log()).map_err(|error| bad_configuration(&error))?;
    match command {
        Command::Run(options) => relay(&options.relay, Until::Stopped).await,
        Command::Drain(options) => relay(&options, Until::Drained).await,
    }
}

/// Runs the relay. Returns whether it has done what was asked.
async fn relay(options: &RelayOptions, until: Until) -> Result<bool, Failure> {
    let settings = options.settings().map_err(|error| bad_configuration(&error))?;
    let store = EventStore::new(client_from_env().await, &options.table.table);
    let stop = stop_signal().map_err(|error| Failure { code: FAILED, message: Chain(&error).to_string() })?;

    tracing::info!(table = options.table.table, exchange = options.broker.exchange, "the relay starts");
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
