//! The whole path, once: imports an event log into a new table, drains its outbox to a new exchange, consumes everything by a real consumer
//! with effects in DynamoDB, and says whether every event has taken effect, once and in order. With `--purge`, most of what is in the queue is
//! deleted in the middle, and what was lost with it is found and healed.
//!
//! It finds DynamoDB and RabbitMQ as the programs do, which it runs as processes: `localstack/run` sets that up. With
//! `--relay-runs` a relay is there already, with its table and its exchange; the demo then imports, consumes and compares.
//!
//! - `log.rs`: what is expected, by the file; `effects.rs`: what took effect, compared with that.
//! - `parts.rs`: what is made and removed; `programs.rs`: the programs; `consuming.rs`: the consumer, whose effects can be held.
//! - `course.rs`: one after the other; `summary.rs`: what is printed at the end; `units.rs`: what an effect costs.

mod consuming;
mod course;
mod effects;
mod log;
mod parts;
mod programs;
mod summary;
mod units;

use std::{error::Error, panic::AssertUnwindSafe, path::PathBuf, process::ExitCode};

use clap::Parser;
use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{log::Log, parts::Parts, summary::Summary};

/// As shells have it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(about = "Import an event log, relay it to RabbitMQ, consume it, and compare the effects", version)]
struct Arguments {
    /// NDJSON, plain or gzipped; the format of `streambox import`
    file: PathBuf,

    /// Purge the queue when half of the events have taken effect, and heal what was lost
    #[arg(long)]
    purge: bool,

    /// A relay runs already: use its table and exchange, and leave both where they are
    #[arg(long)]
    relay_runs: bool,

    /// The table of the relay that runs
    #[arg(long, env = "STREAMBOX_TABLE", default_value = "streambox")]
    table: String,

    /// The exchange of the relay that runs
    #[arg(long, env = "STREAMBOX_EXCHANGE", default_value = "streambox")]
    exchange: String,
}

type Failure = Box<dyn Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match demo(&Arguments::parse()).await {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo with tables, queues and an exchange of its own, and removes them, whatever happens; or with the events table and the exchange
/// of a running relay.
async fn demo(arguments: &Arguments) -> Result<ExitCode, Failure> {
    println!("streambox demo: {}", arguments.file.display());
    let log = Log::read(&arguments.file)?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let parts = Parts::named(arguments).await?;
    let path = async {
        // To its end, so that whatever it makes is there when it is removed.
        parts.create().await?;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
            summary = course::run(arguments, &log, &parts) => summary.map(Some),
        }
    };
    // A helper of the tests panics if an engine does not answer.
    let outcome = AssertUnwindSafe(path).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err("a part of it has failed; what it says stands above".into()));
    let removed = parts.remove().await;
    let code = if let Some(summary) = outcome? {
        print(&summary)
    } else {
        eprintln!("demo: interrupted; what it has made is removed");
        ExitCode::from(INTERRUPTED)
    };
    removed.map(|()| code)
}

fn print(summary: &Summary) -> ExitCode {
    print!("{}", summary.text());
    let problems = summary.problems();
    if problems.is_empty() {
        println!("\nEvery event has taken effect once, each stream in order.");
        if summary.purged.is_some() {
            println!("What the purge had deleted was healed, and nothing took effect twice.");
        }
        return ExitCode::SUCCESS;
    }
    println!("\nBROKEN: {}.", problems.join("; "));
    ExitCode::FAILURE
}
