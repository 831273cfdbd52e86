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
use streambox::{EventStore, RequestLimits, client_from_env_with};
use streambox_programs::{Failure, Role, stop_signal};
use tokio::runtime::Runtime;

use crate::{
    cli::{Cli, Command, TableCommand},
    output::note,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let role = role(&cli.command);
    let runtime = Runtime::new().map_err(|error| Failure::new(format!("the program can't start: {error}")));
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(run(cli));
        // A thread that still waits for a name server, for instance, does not keep the program from ending.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(&format!("streambox: {}", failure.message(role)));
            ExitCode::from(failure.code())
        }
    }
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
    let (table, format) = (global.table.as_str(), global.format);
    let timeout = Duration::from_secs(global.request_timeout_s.into());
    let client = client_from_env_with(RequestLimits::patient().request(timeout)).await;
    let store = EventStore::builder(client.clone(), table).operation_timeout(timeout).build();
    match command {
        Command::Table { command: TableCommand::Create } => table::create(&client, table, format).await,
        Command::Table { command: TableCommand::Check } => table::check(&client, table, format).await,
        Command::Import(options) => import::run(&store, &options, format, stop_signal()?).await,
        Command::Append(options) => append::run(&store, &options, format).await,
        Command::Read(options) => read::run(&store, &options, format).await,
        Command::Streams(options) => streams::run(&store, &options, format).await,
        Command::Export(options) => export::run(&store, &options, format, stop_signal()?).await,
        Command::Verify(options) => verify::run(&store, &options, format).await,
    }
}
