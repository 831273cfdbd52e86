//! The program `streambox-consumer`: parses the command line, runs one command, and ends with its exit code.

mod cli;
mod generations;
mod inbox;
mod operator;
mod queues;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use streambox::{Client, EventStore, RequestLimits, client_from_env_with};
use streambox_consumer::Inbox;
use streambox_programs::{Failure, Role, note, print_completions, start_log, write_man_pages};
use tokio::runtime::Runtime;

use crate::cli::{
    Cli, Command, ConsumerOptions, EventsOptions, GenerationsCommand, Global, InboxCommand, NameOptions, QueuesCommand,
    Work,
};

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
            note(&format!("streambox-consumer: {}", failure.message(Role::ConsumerOperator)));
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
        Work::Inbox { command: InboxCommand::Create(options) } => {
            inbox::create(&client().await, &options.inbox, global.format).await
        }
        Work::Inbox { command: InboxCommand::Check(options) } => {
            inbox::check(&client().await, &options.inbox, global.format).await
        }
        Work::Generations { command: GenerationsCommand::List(of) } => {
            generations::list(&named(&client().await, &of)?, global.format).await
        }
        Work::Generations { command: GenerationsCommand::Switch(options) } => {
            generations::switch(&named(&client().await, &options.of)?, options.generation, global.format).await
        }
        Work::Generations { command: GenerationsCommand::Delete(options) } => {
            generations::delete(&named(&client().await, &options.of)?, options.generation, global.format).await
        }
        Work::Status(options) => {
            let client = client().await;
            let (inbox, store) = (open(&client, &options.of).await?, events(&client, &options.events));
            status::run(&inbox, store.as_ref(), &options, global.format).await
        }
        Work::Retry(options) => {
            operator::retry(&open(&client().await, &options.of).await?, &options.stream, global.format).await
        }
        Work::Skip(options) => {
            let client = client().await;
            let (inbox, store) = (open(&client, &options.of).await?, events(&client, &options.events));
            operator::skip(&inbox, store.as_ref(), &options, global.format).await
        }
    }
}

async fn client() -> Client {
    client_from_env_with(RequestLimits::patient()).await
}

fn named(client: &Client, options: &NameOptions) -> Result<Inbox, Failure> {
    Ok(Inbox::new(client.clone(), &options.table.inbox, &options.consumer)?)
}

/// The inbox of the generation that is named, or of the current one.
async fn open(client: &Client, options: &ConsumerOptions) -> Result<Inbox, Failure> {
    let inbox = named(client, &options.named)?;
    let generation = match options.generation {
        Some(generation) => generation,
        None => inbox.current_generation().await?,
    };
    Ok(inbox.generation(generation))
}

fn events(client: &Client, options: &EventsOptions) -> Option<EventStore> {
    (!options.no_events).then(|| EventStore::new(client.clone(), &options.table))
}
