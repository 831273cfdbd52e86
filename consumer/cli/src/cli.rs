//! The command line: commands, flags, each flag with an environment variable.

use std::fmt;

use clap::{Args, Parser, Subcommand};
use streambox_amqp::{TlsFiles, without_password};
use streambox_programs::{CompletionsOptions, Format, ManOptions};

const AFTER_HELP: &str = "\
Examples:
  streambox-consumer queues declare --queue free-seats --category concert
  streambox-consumer help queues check

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
that several consumers share the streams. The broker needs its plugin: rabbitmq-plugins enable rabbitmq_consistent_hash_exchange. \
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
