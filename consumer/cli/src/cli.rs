//! The command line: commands, flags, each flag with an environment variable.

use std::fmt;

use clap::{Args, Parser, Subcommand, value_parser};
use streambox::{StreamId, table_name};
use streambox_amqp::{TlsFiles, without_password};
use streambox_programs::{CompletionsOptions, Format, ManOptions};

const AFTER_HELP: &str = "\
Examples:
  streambox-consumer queues declare --queue free-seats --category concert
  streambox-consumer status --consumer free-seats --category concert
  streambox-consumer help queues check

AWS's own settings work as in every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration.";

const DECLARE_HELP: &str = "\
Examples:
  export STREAMBOX_AMQP_URL=amqps://user:password@broker.example:5671/%2f
  streambox-consumer queues declare --queue free-seats --category concert --category booking
  streambox-consumer queues declare --queue free-seats-8 --category concert --partitions 8

Declares a durable quorum queue that gives messages to one consumer at a time and deletes none, the queue NAME.dead for messages that \
are not events, the exchange if it does not exist, and binds the queue to all events of the categories. What exists stays as it is; the \
command can be repeated.

With --partitions, an exchange NAME of the type x-consistent-hash gives each stream to one of the queues NAME.0, NAME.1 and so on, so \
that several consumers share the streams; from RabbitMQ 4.0 on each of them gets about as many. Have several partitions for each \
process. The broker needs its plugin: rabbitmq-plugins enable rabbitmq_consistent_hash_exchange. \
Another number of partitions later is another set of queues, with another name: declare it, let the consumers come to the end of what \
the former queues had then, stop them, start them on the new queues, and delete the former ones. Positions do not depend on queues, so \
no event is lost or applied twice.

The user needs the permissions to configure, write and read the queues and exchanges.

Exits with 1 if a queue or exchange of that name is there with other arguments.";

const CHECK_HELP: &str = "\
Examples:
  streambox-consumer queues check --queue free-seats --category concert
  streambox-consumer queues check --queue free-seats-8 --partitions 8 --format json

Compares queues and exchanges with what `queues declare` declares, and changes nothing. AMQP does not show bindings and policies, so \
neither does this.

Exits with 1 if there is a difference.";

const INBOX_CREATE_HELP: &str = "\
Examples:
  streambox-consumer inbox create
  streambox-consumer inbox create --inbox free-seats-inbox

Creates the table of an inbox, on-demand, with its index, and waits until both are active. For development: in the cloud \
infra/inbox.yaml creates it. A table that exists is not changed.";

const INBOX_CHECK_HELP: &str = "\
Examples:
  streambox-consumer inbox check
  streambox-consumer inbox check --format json

Compares keys, index and settings that could lose items with what the library expects, and changes nothing.

Exits with 1 if there is a difference.";

const STATUS_HELP: &str = "\
Examples:
  streambox-consumer status --consumer free-seats --category concert
  streambox-consumer status --consumer free-seats --no-events --format json

How far the consumer is behind the events, by stream and in all; which streams are parked, since when, why, how often they were tried \
and when they are tried next; the latest skips. Needs no running consumer and no broker.

A stream is behind if its last public event is not applied. Only versions can be counted, and private events are versions, too. To \
compare, the whole events table is scanned: half a read unit for each 4 KB of it, and half a read unit for each stream. With --no-events it \
is not read.";

const RETRY_HELP: &str = "\
Examples:
  streambox-consumer retry --consumer free-seats concert-7

A parked stream is tried as soon as a consumer looks for what is due, instead of at its next time.

Exits with 1 if the stream is not parked.";

const SKIP_HELP: &str = "\
Examples:
  streambox-consumer skip --consumer free-seats concert-7 12 --reason 'a test booking, seat 900 does not exist'

The consumer passes the event over as if it were applied, for ever, and continues with what comes behind it. Who did it, when and why is \
recorded in the same transaction; `status` shows it. Only the event that comes next can be skipped: the first public one behind what is \
applied. The events table is read to find out. With --no-events, for events in another account, your word counts: everything up to the version is \
passed over.

Exits with 1 if it is applied, or another one comes next.";

const GENERATIONS_LIST_HELP: &str = "\
Examples:
  streambox-consumer generations list --consumer free-seats
  streambox-consumer generations list --consumer free-seats --format json

The current generation, and those whose rebuild is kept in the inbox, with how far it is.";

const GENERATIONS_SWITCH_HELP: &str = "\
Examples:
  streambox-consumer generations switch --consumer free-seats 2

Readers use this generation from now on: as soon as they ask the inbox. Switch when it is rebuilt and its consumer has come to the end \
of what its queue had. Back to an earlier one as well, as long as it is kept up to date.";

const GENERATIONS_DELETE_HELP: &str = "\
Examples:
  streambox-consumer generations delete --consumer free-seats 1

Deletes the positions of a generation, the marks of its parked streams, and how far it is rebuilt. The record of its skips stays, and so \
do its effects, which are not in the inbox. Stop its consumers before: one that runs applies everything once more. It can be repeated. \
Costs a scan of the whole inbox, half a read unit for each 4 KB of it, and a write unit for each position.

Exits with 1 if it is the current generation.";

const COMPLETIONS_HELP: &str = "\
Examples:
  streambox-consumer completions bash > ~/.local/share/bash-completion/completions/streambox-consumer
  streambox-consumer completions zsh > ~/.zfunc/_streambox-consumer       # a directory of $fpath
  streambox-consumer completions fish > ~/.config/fish/completions/streambox-consumer.fish";

const MAN_HELP: &str = "\
Examples:
  streambox-consumer man ~/.local/share/man/man1
  man streambox-consumer-queues-declare";

/// What consumers of an event store need beside their own program: their queues at RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "streambox-consumer", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command stand behind a command's own.
const ANY_COMMAND: &str = "Options of every command";

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The format of standard output.
    #[arg(long, global = true, help_heading = ANY_COMMAND, value_enum, default_value = "text")]
    pub(crate) format: Format,

    /// What is logged to standard error: a level, or directives of tracing. The AMQP library is not logged: it would show the password.
    #[arg(long, global = true, help_heading = ANY_COMMAND, env = "STREAMBOX_LOG", value_name = "LEVEL", default_value = "warn,aws_config=error")]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Work(Work),
    /// Print the completions for a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsOptions),
    /// Write the man pages of this program and its commands.
    #[command(after_help = MAN_HELP)]
    Man(ManOptions),
}

/// What needs a broker or a table.
#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// Declare the queues of a consumer, or compare them with what is declared.
    Queues {
        #[command(subcommand)]
        command: QueuesCommand,
    },
    /// Create the table of an inbox, or compare it with what is expected.
    Inbox {
        #[command(subcommand)]
        command: InboxCommand,
    },
    /// List the generations of a projection, switch readers to one, or delete one.
    Generations {
        #[command(subcommand)]
        command: GenerationsCommand,
    },
    /// Show how far a consumer is behind, what is parked, and the latest skips.
    #[command(after_help = STATUS_HELP)]
    Status(StatusOptions),
    /// Try a parked stream now.
    #[command(after_help = RETRY_HELP)]
    Retry(RetryOptions),
    /// Pass over the event that a stream waits for.
    #[command(after_help = SKIP_HELP)]
    Skip(SkipOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum InboxCommand {
    /// Create the table, for development.
    #[command(after_help = INBOX_CREATE_HELP)]
    Create(TableOptions),
    /// Compare the table with what is expected; changes nothing.
    #[command(after_help = INBOX_CHECK_HELP)]
    Check(TableOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum GenerationsCommand {
    /// List them, with how far each is rebuilt.
    #[command(after_help = GENERATIONS_LIST_HELP)]
    List(NameOptions),
    /// Switch readers to one.
    #[command(after_help = GENERATIONS_SWITCH_HELP)]
    Switch(GenerationOptions),
    /// Delete one that nobody uses any more.
    #[command(after_help = GENERATIONS_DELETE_HELP)]
    Delete(GenerationOptions),
}

#[derive(Debug, Args)]
pub(crate) struct GenerationOptions {
    #[command(flatten)]
    pub(crate) of: NameOptions,

    /// Its number, from 1.
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub(crate) generation: u32,
}

#[derive(Debug, Args)]
pub(crate) struct TableOptions {
    /// The inbox's table: its name or ARN.
    #[arg(long, env = "STREAMBOX_INBOX", value_name = "TABLE", default_value = "streambox-inbox", value_parser = table_name)]
    pub(crate) inbox: String,
}

#[derive(Debug, Args)]
pub(crate) struct NameOptions {
    #[command(flatten)]
    pub(crate) table: TableOptions,

    /// The name of the consumer.
    #[arg(long, env = "STREAMBOX_CONSUMER", value_name = "NAME")]
    pub(crate) consumer: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumerOptions {
    #[command(flatten)]
    pub(crate) named: NameOptions,

    /// The generation of its projection, a number from 1. Without it, the current one.
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..))]
    pub(crate) generation: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsOptions {
    /// The table of the events: its name or ARN.
    #[arg(long, env = "STREAMBOX_TABLE", value_name = "TABLE", default_value = "streambox", value_parser = table_name)]
    pub(crate) table: String,

    /// Don't read the table of the events: this account can't.
    #[arg(long)]
    pub(crate) no_events: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) of: ConsumerOptions,

    #[command(flatten)]
    pub(crate) events: EventsOptions,

    /// Only streams of this category, as the consumer's queue is bound. It can be repeated; without it, of all.
    #[arg(long = "category", env = "STREAMBOX_CATEGORIES", value_name = "CATEGORY", value_delimiter = ',')]
    pub(crate) categories: Vec<String>,

    /// Most streams that are listed, of those that are furthest behind and of those that are parked.
    #[arg(long, value_name = "STREAMS", default_value_t = 20)]
    pub(crate) most: u16,
}

#[derive(Debug, Args)]
pub(crate) struct RetryOptions {
    #[command(flatten)]
    pub(crate) of: ConsumerOptions,

    /// The stream.
    #[arg(value_parser = stored_stream)]
    pub(crate) stream: StreamId,
}

#[derive(Debug, Args)]
pub(crate) struct SkipOptions {
    #[command(flatten)]
    pub(crate) of: ConsumerOptions,

    #[command(flatten)]
    pub(crate) events: EventsOptions,

    /// The stream.
    #[arg(value_parser = stored_stream)]
    pub(crate) stream: StreamId,

    /// The version of the event.
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub(crate) version: u64,

    /// Why: it is recorded.
    #[arg(long)]
    pub(crate) reason: String,

    /// Who: it is recorded. Without it, the user and the host.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

/// A stream as it stands in the inbox: also an id that breaks a rule.
fn stored_stream(id: &str) -> Result<StreamId, String> {
    if id.is_empty() { Err("it is empty".to_owned()) } else { Ok(StreamId::stored(id)) }
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueuesCommand {
    /// Declare queues, exchanges and bindings, as far as they do not exist.
    #[command(after_help = DECLARE_HELP)]
    Declare(QueuesOptions),
    /// Compare queues and exchanges with what is declared; changes nothing.
    #[command(after_help = CHECK_HELP)]
    Check(QueuesOptions),
}

#[derive(Debug, Args)]
pub(crate) struct QueuesOptions {
    /// The name of the queue, or what the names of several begin with.
    #[arg(long, env = "STREAMBOX_QUEUE", value_name = "NAME")]
    pub(crate) queue: String,

    /// The exchange that the relay publishes to.
    #[arg(long, env = "STREAMBOX_EXCHANGE", value_name = "NAME", default_value = "streambox")]
    pub(crate) exchange: String,

    /// Only events of this category: the part of their stream ids before the first `-`. It can be repeated; without it, all events come.
    #[arg(long = "category", env = "STREAMBOX_CATEGORIES", value_name = "CATEGORY", value_delimiter = ',')]
    pub(crate) categories: Vec<String>,

    /// The number of queues that share the streams, 1 to 64.
    #[arg(long, env = "STREAMBOX_PARTITIONS", value_name = "QUEUES", default_value_t = 1)]
    pub(crate) partitions: u16,

    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
}

#[derive(Args)]
#[command(next_help_heading = "Broker")]
pub(crate) struct BrokerOptions {
    /// The broker, for example `amqps://user:password@host:5671/vhost`. Parameters: `heartbeat` (seconds, 1 to 3600),
    /// `auth_mechanism` (plain, external), `connection_timeout` (ms, 100 to 600000), `frame_max` (bytes, 32768 to 1048576),
    /// `channel_max` (8 or more).
    #[arg(long, env = "STREAMBOX_AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) amqp_url: String,

    #[command(flatten)]
    pub(crate) tls: TlsFiles,
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions").field("amqp_url", &without_password(&self.amqp_url)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_says_what_it_does_with_examples_and_units() {
        assert_eq!(streambox_programs::help::faults(&Cli::command()), [""; 0]);
    }
}
