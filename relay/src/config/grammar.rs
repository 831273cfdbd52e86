//! The command line: commands and flags. What a flag does, its default and what it allows stand in its help, which is the
//! reference; groups of flags have their headings there.

use std::fmt;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::broker::Unroutable;

const AFTER_HELP: &str = "\
AWS's own settings are found as by every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration.";

/// Publishes the outbox of a streambox event store to RabbitMQ: at least once, in stream order.
#[derive(Debug, Parser)]
#[command(name = "streambox-relay", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish what is pending and whatever is appended, until told to stop (SIGTERM, Ctrl-C).
    #[command(after_help = AFTER_HELP)]
    Run(RunOptions),
    /// Publish until nothing is pending, then exit: 0 if all was published, 1 if a stream is halted.
    #[command(after_help = AFTER_HELP)]
    Drain(RelayOptions),
}

impl Command {
    /// What is logged, and how.
    #[must_use]
    pub fn log(&self) -> &LogOptions {
        match self {
            Self::Run(options) => &options.relay.log,
            Self::Drain(options) => &options.log,
        }
    }
}

/// The form of what is printed on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts: JSON.
    Json,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// What it has in common with `drain`.
    #[command(flatten)]
    pub relay: RelayOptions,
    /// Where to look into it.
    #[command(flatten)]
    pub http: HttpOption,
}

/// `run` and `drain`.
#[derive(Debug, Args)]
pub struct RelayOptions {
    /// Which table.
    #[command(flatten)]
    pub table: TableOption,
    /// Where to publish.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// How much at a time.
    #[command(flatten)]
    pub work: WorkOptions,
    /// What to log.
    #[command(flatten)]
    pub log: LogOptions,

    /// The form of the summary on standard output.
    #[arg(long, value_enum, default_value = "text", help_heading = "Output")]
    pub format: Format,
}

/// The table.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Table")]
pub struct TableOption {
    /// The table.
    #[arg(long, env = "STREAMBOX_TABLE", default_value = "streambox")]
    pub table: String,
}

/// The broker.
#[derive(Clone, Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerOptions {
    /// The broker, for example `amqp://user:password@host:5672/vhost`.
    #[arg(long, env = "STREAMBOX_AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,

    /// The topic exchange; it is declared, durable, where it does not exist.
    #[arg(long, env = "STREAMBOX_EXCHANGE", default_value = "streambox")]
    pub exchange: String,

    /// What to do with a message that no queue takes.
    #[arg(long, env = "STREAMBOX_UNROUTABLE", value_enum, default_value = "halt")]
    pub unroutable: Unroutable,
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions")
            .field("amqp_url", &super::without_password(&self.amqp_url))
            .field("exchange", &self.exchange)
            .field("unroutable", &self.unroutable)
            .finish()
    }
}

/// How much is done at a time, and when.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Work")]
pub struct WorkOptions {
    /// Shortest time from one scan of the index to the next, in milliseconds. An idle scan costs half a read unit.
    #[arg(long, env = "STREAMBOX_POLL_INTERVAL_MS", default_value_t = 500, value_parser = value_parser!(u64).range(10..=60_000))]
    pub poll_interval_ms: u64,

    /// Longest time to finish what is in flight when told to stop, in milliseconds.
    #[arg(long, env = "STREAMBOX_DRAIN_TIMEOUT_MS", default_value_t = 20_000, value_parser = value_parser!(u64).range(..=600_000))]
    pub drain_timeout_ms: u64,

    /// Connections that publish at the same time, each with one channel.
    #[arg(long, env = "STREAMBOX_PUBLISHERS", default_value_t = 2, value_parser = value_parser!(u16).range(1..=16))]
    pub publishers: u16,

    /// Most events in one batch; all of a batch are confirmed before anything is concluded from it.
    #[arg(long, env = "STREAMBOX_BATCH_EVENTS", default_value_t = 256, value_parser = value_parser!(u16).range(1..=256))]
    pub batch_events: u16,

    /// Most streams that are worked on at the same time.
    #[arg(long, env = "STREAMBOX_MAX_STREAMS", default_value_t = 512, value_parser = value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// Most reads of DynamoDB that are under way at the same time.
    #[arg(long, env = "STREAMBOX_MAX_READS", default_value_t = 32, value_parser = value_parser!(u16).range(1..=1_000))]
    pub max_reads: u16,

    /// Most bytes of events that are held in memory, in MiB.
    #[arg(long, env = "STREAMBOX_MAX_BUFFERED_MIB", default_value_t = 32, value_parser = value_parser!(u16).range(1..=4_096))]
    pub max_buffered_mib: u16,

    /// Appends to one stream that are closer than this, in milliseconds, are published only when it is sure that the
    /// earlier one is: it may become visible later. Twice the difference between the writers' clocks is plenty.
    #[arg(long, env = "STREAMBOX_SETTLE_WINDOW_MS", default_value_t = 10_000, value_parser = value_parser!(u32).range(1_000..))]
    pub settle_window_ms: u32,

    /// First delay before a halted stream or a failed read is tried again, in milliseconds. It doubles each time.
    #[arg(long, env = "STREAMBOX_RETRY_DELAY_MS", default_value_t = 1_000, value_parser = value_parser!(u32).range(10..=600_000))]
    pub retry_delay_ms: u32,

    /// Longest delay before a halted stream or a failed read is tried again, in milliseconds.
    #[arg(long, env = "STREAMBOX_MAX_RETRY_DELAY_MS", default_value_t = 60_000, value_parser = value_parser!(u32).range(10..=3_600_000))]
    pub max_retry_delay_ms: u32,
}

/// Health, metrics and the status page.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Looking into it")]
pub struct HttpOption {
    /// Where /livez, /readyz, /metrics and the status page are served: `off`, or an address and a port (0: one that the
    /// system chooses; it is logged). There is no authentication: bind what only your own network reaches.
    #[arg(long, env = "STREAMBOX_HTTP", default_value = "127.0.0.1:9090", value_name = "ADDRESS:PORT|off")]
    pub http: String,
}

/// The log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct LogOptions {
    /// What is logged to standard error: a level, or tracing's directives.
    #[arg(long, env = "STREAMBOX_LOG", default_value = "info,lapin=off")]
    pub log: String,

    /// The form of the log.
    #[arg(long, env = "STREAMBOX_LOG_FORMAT", value_enum, default_value = "auto")]
    pub log_format: LogFormat,
}
