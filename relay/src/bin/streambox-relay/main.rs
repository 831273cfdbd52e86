//! The program `streambox-relay`: parses the command line, runs one command, and ends with its exit code.

mod failure;
mod health;
mod logs;
mod relay;
mod replay;
mod skip;
mod status;
mod stop;
mod traces;

use std::process::ExitCode;

use clap::Parser as _;
use streambox::{EventStore, Role, client_from_env};
use streambox_relay::config::{Cli, Command, TableOption};

use crate::failure::{FAILED, Failure};

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

/// Does what the command line asks for. Returns whether that was done.
async fn execute(command: Command) -> Result<bool, Failure> {
    if let Some(options) = command.log() {
        logs::start(options)?;
    }
    match command {
        Command::Run(options) => relay::run(&options).await,
        Command::Drain(options) => relay::drain(&options).await,
        Command::Skip(options) => skip::run(&store(&options.table, Role::Operator).await, &options).await,
        Command::Status(options) => status::run(store(&options.table, Role::Operator).await, &options).await,
        Command::Replay(options) => replay::run(&store(&options.table, Role::Operator).await, &options).await,
        Command::Health(options) => health::run(&options).await,
    }
}

async fn store(option: &TableOption, role: Role) -> EventStore {
    EventStore::builder(client_from_env().await, &option.table).role(role).build()
}
