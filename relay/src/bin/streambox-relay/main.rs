//! The program `streambox-relay`: parses the command line, runs one command, and ends with its exit code.

mod health;
mod logs;
mod output;
mod relay;
mod replay;
mod skip;
mod status;
mod traces;

use std::{
    env,
    io::{self, Write as _},
    panic::AssertUnwindSafe,
    process::ExitCode,
};

use clap::CommandFactory as _;
use futures_util::FutureExt as _;
use streambox::{EventStore, RequestLimits, SILENCE_TIMEOUT, client_from_env_with};
use streambox_programs::{FAILED, Failure, Role, SOFTWARE, USAGE, print_completions, write_man_pages};
use streambox_relay::config::{Cli, Command, CommonOptions};
use tokio::runtime::Runtime;

use crate::logs::Log;

fn main() -> ExitCode {
    let command = match Cli::parse_with(env::args_os(), |name| env::var(name).ok()) {
        Ok(cli) => cli.command,
        Err(error) if error.use_stderr() && quotes_a_url(&error) => {
            return end(
                USAGE,
                "the broker's URL is in the wrong place; it is not shown, since it may contain a password: give it as \
                 --amqp-url URL, or better in STREAMBOX_AMQP_URL",
            );
        }
        Err(error) => error.exit(),
    };
    let (log, runtime) = match Log::open().and_then(|log| Ok((log, Runtime::new()?))) {
        Ok(started) => started,
        Err(error) => return end(FAILED, &format!("the program can't start: {error}")),
    };
    let role = if matches!(command, Command::Run(_) | Command::Drain(_)) { Role::Relay } else { Role::Operator };
    let code = runtime.block_on(async {
        // Nothing of what is caught is used afterwards.
        let (code, failure) = match AssertUnwindSafe(Box::pin(execute(command, &log))).catch_unwind().await {
            Ok(Ok(true)) => (0, None),
            Ok(Ok(false)) => (FAILED, None),
            Ok(Err(failure)) => (failure.code(), Some(format!("streambox-relay: {}", failure.message(role)))),
            Err(_) => (SOFTWARE, Some("streambox-relay: a fault of the program ended it: see its log".to_owned())),
        };
        log.finish(failure).await;
        code
    });
    // A thread that still waits for a name server, for instance, does not keep the program from ending.
    runtime.shutdown_background();
    ExitCode::from(code)
}

fn quotes_a_url(error: &clap::Error) -> bool {
    let text = error.to_string();
    ["amqp:", "amqps:"].iter().any(|scheme| text.contains(scheme))
}

/// Reports an error before the log is started. If that can't be written, the exit code remains.
fn end(code: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "streambox-relay: {why}");
    ExitCode::from(code)
}

/// Does what the command line asks for. Returns whether that was done.
async fn execute(command: Command, log: &Log) -> Result<bool, Failure> {
    if let Some(options) = command.common() {
        log.start(options)?;
    }
    match command {
        Command::Run(options) => relay::run(&options, log).await,
        Command::Drain(options) => relay::drain(&options).await,
        Command::Skip(options) => skip::run(&store(&options.common).await, &options).await,
        Command::Status(options) => status::run(store(&options.common).await, &options).await,
        Command::Replay(options) => replay::run(&store(&options.common).await, &options).await,
        Command::Health(options) => health::run(&options).await,
        Command::Completions(options) => print_completions(Cli::command(), &options).map(|()| true),
        Command::Man(options) => write_man_pages(Cli::command(), &options).map(|()| true),
    }
}

async fn store(options: &CommonOptions) -> EventStore {
    // A page takes its time over a slow link; a dead connection is noticed as soon as in a service.
    let limits = RequestLimits::patient().silence(SILENCE_TIMEOUT);
    EventStore::new(client_from_env_with(limits).await, &options.table)
}
