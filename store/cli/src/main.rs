//! The program `streambox`: parses the command line, runs one command, and ends with its exit code.

mod append;
mod cli;
mod export;
mod import;
mod line;
mod log;
mod output;
mod read;
mod streams;
mod table;
mod verify;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use streambox::{Client, EventStore, RequestLimits, client_from_env_with};
use streambox_programs::{FAILED, Failure, Role, stop_signal};
use tokio::runtime::Runtime;

use crate::{
    cli::{Cli, Command, Global, TableCommand},
    output::note,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("streambox: the program can't start: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let role = role(&cli.command);
    let code = match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(&format!("streambox: {}", failure.message(role)));
            ExitCode::from(failure.code())
        }
    };
    // A thread that still waits for a name server, for instance, does not keep the program from ending.
    runtime.shutdown_background();
    code
}

fn role(command: &Command) -> Role {
    match command {
        Command::Import(_) | Command::Append(_) => Role::Writer,
        Command::Read(_) | Command::Streams(_) | Command::Export(_) => Role::Reader,
        Command::Table { .. } | Command::Verify(_) => Role::Operator,
    }
}

async fn run(Cli { global, command }: Cli) -> Result<(), Failure> {
    log::start(&global.log)?;
    let format = global.format;
    match command {
        Command::Table { command: TableCommand::Create } => table::create(&global).await,
        Command::Table { command: TableCommand::Check } => table::check(&global).await,
        Command::Import(options) => import::run(&store(&global).await, &options, format, stop_signal()?).await,
        Command::Append(options) => append::run(&store(&global).await, &options, format).await,
        Command::Read(options) => read::run(&store(&global).await, &options, format).await,
        Command::Streams(options) => streams::run(&store(&global).await, &options, format).await,
        Command::Export(options) => export::run(&store(&global).await, &options, format, stop_signal()?).await,
        Command::Verify(options) => verify::run(&store(&global).await, &options, format).await,
    }
}

async fn store(global: &Global) -> EventStore {
    let store = EventStore::builder(client(global).await, &global.table);
    store.operation_timeout(request_timeout(global)).build()
}

async fn client(global: &Global) -> Client {
    client_from_env_with(RequestLimits::patient().request(request_timeout(global))).await
}

fn request_timeout(global: &Global) -> Duration {
    Duration::from_secs(global.request_timeout_s.into())
}
