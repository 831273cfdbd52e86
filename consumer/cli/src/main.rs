//! The program `streambox-consumer`: parses the command line, runs one command, and ends with its exit code.

mod cli;
mod queues;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use streambox_programs::{Failure, Role, note, print_completions, start_log, write_man_pages};
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command, Global, QueuesCommand, Work};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let ended = match command {
        Command::Work(work) => run(&global, work),
        Command::Completions(options) => print_completions(Cli::command(), &options),
        Command::Man(options) => write_man_pages(Cli::command(), &options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(&format!("streambox-consumer: {}", failure.message(Role::Operator)));
            ExitCode::from(failure.code())
        }
    }
}

fn run(global: &Global, work: Work) -> Result<(), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::new(format!("the program can't start: {error}")))?;
    let ended = runtime.block_on(execute(global, work));
    // A thread that still waits for a name server, for instance, does not keep the program from ending.
    runtime.shutdown_background();
    ended
}

async fn execute(global: &Global, work: Work) -> Result<(), Failure> {
    start_log(&global.log)?;
    match work {
        Work::Queues { command: QueuesCommand::Declare(options) } => queues::declare(&options, global.format).await,
        Work::Queues { command: QueuesCommand::Check(options) } => queues::check(&options, global.format).await,
    }
}
