//! The program `streambox`: parses the command line, runs one command, and ends with its exit code.

mod append;
mod cli;
mod export;
mod import;
mod line;
mod output;
mod read;
mod streams;
mod table;
mod verify;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use streambox::{EventStore, RequestLimits, client_from_env_with};
use streambox_programs::{Failure, Role, print_completions, start_log, stop_signal, write_man_pages};
use tokio::runtime::Runtime;

use crate::{
    cli::{Cli, Command, Global, OnTable, TableCommand},
    output::note,
};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let (role, ended) = match command {
        Command::OnTable(command) => (role(&command), run(&global, command)),
        Command::Completions(options) => (Role::Operator, print_completions(Cli::command(), &options)),
        Command::Man(options) => (Role::Operator, write_man_pages(Cli::command(), &options)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(&format!("streambox: {}", failure.message(role)));
            ExitCode::from(failure.code())
        }
    }
}

fn role(command: &OnTable) -> Role {
    match command {
        OnTable::Import(_) | OnTable::Append(_) => Role::Writer,
        OnTable::Read(_) | OnTable::Streams(_) | OnTable::Export(_) => Role::Reader,
        OnTable::Table { .. } | OnTable::Verify(_) => Role::Operator,
    }
}

fn run(global: &Global, command: OnTable) -> Result<(), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::new(format!("the program can't start: {error}")))?;
    let ended = runtime.block_on(execute(global, command));
    // A thread that still waits for a name server, for instance, does not keep the program from ending.
    runtime.shutdown_background();
    ended
}

async fn execute(global: &Global, command: OnTable) -> Result<(), Failure> {
    start_log(&global.log)?;
    let (table, format) = (global.table.as_str(), global.format);
    let timeout = Duration::from_secs(global.request_timeout_s.into());
    let client = client_from_env_with(RequestLimits::patient().request(timeout)).await;
    let store = EventStore::builder(client.clone(), table).operation_timeout(timeout).build();
    match command {
        OnTable::Table { command: TableCommand::Create } => table::create(&client, table, format).await,
        OnTable::Table { command: TableCommand::Check } => table::check(&client, table, format).await,
        OnTable::Import(options) => import::run(&store, &options, format, stop_signal()?).await,
        OnTable::Append(options) => append::run(&store, &options, format).await,
        OnTable::Read(options) => read::run(&store, &options, format).await,
        OnTable::Streams(options) => streams::run(&store, &options, format).await,
        OnTable::Export(options) => export::run(&store, &options, format, stop_signal()?).await,
        OnTable::Verify(options) => verify::run(&store, &options, format).await,
    }
}
