//! The program `streambox`: parses the command line, runs one command, and ends with its exit code.

mod cli;
mod failure;
mod import;
mod read;
mod stop;

use std::process::ExitCode;

use clap::Parser as _;
use streambox::{EventStore, StreamId, TableCreation, client_from_env, create_table};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command, Format, Global, TableCommand},
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
    match command {
        Command::Table { command: TableCommand::Create } => create(&global).await,
        Command::Import(options) => {
            let store = store(&global).await;
            import::run(&store, &options, global.format, stop::signal()?).await
        }
        Command::Read { stream } => {
            let stream = StreamId::new(stream)?;
            read::run(&store(&global).await, &stream, global.format).await
        }
    }
}

async fn store(global: &Global) -> EventStore {
    EventStore::new(client_from_env().await, &global.table)
}

async fn create(global: &Global) -> Result<(), Failure> {
    let created = create_table(&client_from_env().await, &global.table).await? == TableCreation::Created;
    match global.format {
        Format::Json => println!("{}", serde_json::json!({ "table": global.table, "created": created })),
        Format::Text if created => println!("table {} created", global.table),
        Format::Text => println!("table {} was there already and is left as it is", global.table),
    }
    Ok(())
}
