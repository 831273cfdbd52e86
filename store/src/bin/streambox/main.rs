//! The program `streambox`: parses the command line, runs one command, and ends with its exit code.

mod append;
mod cli;
mod export;
mod failure;
mod import;
mod line;
mod output;
mod read;
mod stop;
mod streams;
mod table;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;
use streambox::{EventStore, Role, client_from_env};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command, Global, TableCommand},
    failure::{BAD_CONFIGURATION, Failure},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("streambox: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

async fn run(Cli { global, command }: Cli) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&global.log).map_err(|error| {
        let message =
            format!("--log (STREAMBOX_LOG) = {:?}: {error}; allowed is a level, for example info", global.log);
        Failure { code: BAD_CONFIGURATION, message }
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let format = global.format;
    match command {
        Command::Table { command: TableCommand::Create } => table::create(&global).await,
        Command::Table { command: TableCommand::Check } => table::check(&global).await,
        Command::Import(options) => {
            import::run(&store(&global, Role::Writer).await, &options, format, stop::signal()?).await
        }
        Command::Append(options) => append::run(&store(&global, Role::Writer).await, &options, format).await,
        Command::Read(options) => read::run(&store(&global, Role::Reader).await, &options, format).await,
        Command::Streams(options) => streams::run(&store(&global, Role::Reader).await, &options, format).await,
        Command::Export(options) => {
            export::run(&store(&global, Role::Reader).await, &options, format, stop::signal()?).await
        }
        Command::Verify(options) => verify::run(&store(&global, Role::Operator).await, &options, format).await,
    }
}

async fn store(global: &Global, role: Role) -> EventStore {
    EventStore::builder(client_from_env().await, &global.table).role(role).build()
}
