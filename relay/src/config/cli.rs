//! The command line: commands and flags. What a flag does, its default and what it allows stand in its help, which is the
//! reference; groups of flags have their headings there.

use std::{fmt, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use streambox::{StreamId, outbox::SkipTarget, table_name};

use super::observability::{EmfOptions, HttpOption};
use crate::broker::{DEFAULT_CLOUDEVENTS_SOURCE, LinkOptions, MessageFormat, Unroutable, without_password};

const AFTER_HELP: &str = "\
AWS's own settings are found as by every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 70 a fault of the program (start it again), 78 bad configuration.";

const STATUS_HELP: &str = "\
An age is the time on this machine less the time that the appender gave its event: it is as true as the two clocks agree.
Whether a worker is alive shows between two readings of its row: the command waits for one heartbeat unless told not to.

Exit codes: 0 done, 1 failed, or what --fail-if-… names is the case, 2 usage, 78 bad configuration.";

const SKIP_HELP: &str = "\
Only the first pending entry of a stream can be skipped. It is one append: skipping it skips all events of that append that are not published yet; where a relay is just
publishing one, that one may arrive all the same. The relay goes on with the stream by itself, within --max-retry-delay-ms.
Repeating the command is harmless: a skip that was done before is reported, not done again.

A damaged entry whose sort key has no version is named by that sort key, as `status` and the log show it, in single quotes: 'pending#abc'.
Where the append before the entry is missing from the table, nobody can tell whether it was published: --give-up-previous gives it
up, too.

Exit codes: 0 skipped, or skipped before, 1 failed, or nothing is pending there, 2 usage, 78 bad configuration.";

const REPLAY_HELP: &str = "\
The messages are those of `run`, byte for byte, with one more header, `x-streambox-replay`: the replay's id. Per stream they come
in order; private events never go out. With --queue the routing key is the queue's name, and a message of type
`streambox.ReplayEnded` comes last.

A consumer that follows the exchange drops replayed messages. To rebuild a read model: stop its consumer, replay to a queue that is
not bound to any exchange, into a new state, and when the replay has ended, let the consumer go on with its own queue and that
state. The README, section \"Consumers\", has the commands.

--state keeps the position: it is written at least every 512 events, once a second while events are confirmed, and at the end. The
same command with the same --state resumes there; at most 512 events are published twice. SIGTERM waits at most 20 seconds for what
is in flight. An event that the broker refuses ends the replay with its stream and version: nothing is passed over.

Exit codes: 0 done, 1 failed or interrupted, 2 usage, 78 bad configuration.";

const HEALTH_HELP: &str = "\
It asks /livez of a relay that runs in the same place, or /readyz, and prints the answer: a health check for containers, whose
image has nothing else to ask with. It needs neither the table nor the broker.

Exit codes: 0 well, 1 not well, or no answer within 4 seconds, 2 usage, 78 bad configuration.";

/// What belongs to one call alone, and has no variable.
const THIS_CALL: &str = "This call";

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
    /// Show the backlog, halted streams, workers and the latest skips, as the table has them.
    #[command(after_help = STATUS_HELP)]
    Status(StatusOptions),
    /// Give up on publishing a pending entry: remove it, and record who did it, when and why. The events stay in the stream.
    #[command(after_help = SKIP_HELP)]
    Skip(SkipOptions),
    /// Publish events of the past once more, marked as a replay. What is pending is not touched.
    #[command(after_help = REPLAY_HELP)]
    Replay(ReplayOptions),
    /// Ask a running relay how it is: exit 0 where its loop turns, or with --ready where it does its work; else 1.
    #[command(after_help = HEALTH_HELP)]
    Health(HealthOptions),
}

impl Command {
    /// What is logged, and how; none where nothing is.
    #[must_use]
    pub fn log(&self) -> Option<&LogOptions> {
        match self {
            Self::Run(options) => Some(&options.relay.log),
            Self::Drain(options) => Some(&options.log),
            Self::Status(options) => Some(&options.log),
            Self::Skip(options) => Some(&options.log),
            Self::Replay(options) => Some(&options.log),
            Self::Health(_) => None,
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
    /// Whom it shares the streams with.
    #[command(flatten)]
    pub group: GroupOptions,
    /// Where to look into it.
    #[command(flatten)]
    pub http: HttpOption,
    /// What CloudWatch is told.
    #[command(flatten)]
    pub emf: EmfOptions,
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
    /// What to export.
    #[cfg(feature = "opentelemetry")]
    #[command(flatten)]
    pub traces: TraceOption,
    /// What to log.
    #[command(flatten)]
    pub log: LogOptions,

    /// The form of the summary on standard output.
    #[arg(long, value_enum, default_value = "text", help_heading = "Output")]
    pub format: Format,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Show it again and again, until Ctrl-C.
    #[arg(long, help_heading = THIS_CALL)]
    pub watch: bool,

    /// Time from one showing to the next, in milliseconds. Each costs read units for the part of the index that it reads.
    #[arg(long, help_heading = THIS_CALL, default_value_t = 2_000, value_parser = value_parser!(u32).range(200..=3_600_000))]
    pub watch_interval_ms: u32,

    /// Most pending entries that are counted: beyond that it says "at least". About 13 read units for each 1,000.
    #[arg(long, help_heading = THIS_CALL, default_value_t = 100_000, value_parser = value_parser!(u32).range(1..))]
    pub max_entries: u32,

    /// How many of the latest skips are shown.
    #[arg(long, help_heading = THIS_CALL, default_value_t = 5, value_parser = value_parser!(u16).range(0..=100))]
    pub skips: u16,

    /// Don't wait for a heartbeat: whether a worker is alive is then unknown.
    #[arg(long, help_heading = THIS_CALL)]
    pub no_wait: bool,

    /// Exit with 1 where something is pending for longer than this, in seconds.
    #[arg(long, help_heading = THIS_CALL, conflicts_with = "watch")]
    pub fail_if_older_than_s: Option<u32>,

    /// Exit with 1 where a stream is halted.
    #[arg(long, help_heading = THIS_CALL, conflicts_with = "watch")]
    pub fail_if_halted: bool,

    /// Which table.
    #[command(flatten)]
    pub table: TableOption,
    /// What to log.
    #[command(flatten)]
    pub log: LogOptions,

    /// The form of what is printed.
    #[arg(long, value_enum, default_value = "text", help_heading = THIS_CALL)]
    pub format: Format,
}

/// `skip`.
#[derive(Debug, Args)]
pub struct SkipOptions {
    /// The stream, for example order-4711, as `status` names it: also one whose id breaks the rules.
    pub stream: String,

    /// A version that is pending: `status` names the one that a stream is halted at. A damaged entry whose sort key has no version
    /// is named by that sort key, for example 'pending#abc'.
    #[arg(value_name = "VERSION")]
    pub target: SkipTarget,

    /// Give up the append before the entry, too, if it is missing: somebody has deleted it from the table, and nobody can tell
    /// whether its events were published. Without this flag such an entry is not skipped.
    #[arg(long, help_heading = THIS_CALL)]
    pub give_up_previous: bool,

    /// Why. It stays in the table for ever.
    #[arg(long, help_heading = THIS_CALL)]
    pub reason: String,

    /// Who does it. By default the user and the host.
    #[arg(long, help_heading = THIS_CALL, value_name = "NAME")]
    pub by: Option<String>,

    /// Which table.
    #[command(flatten)]
    pub table: TableOption,
    /// What to log.
    #[command(flatten)]
    pub log: LogOptions,

    /// The form of what is printed.
    #[arg(long, value_enum, default_value = "text", help_heading = THIS_CALL)]
    pub format: Format,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayOptions {
    /// What to replay.
    #[command(flatten)]
    pub of: ReplayOf,

    /// Begin at this version.
    #[arg(long, help_heading = THIS_CALL, conflicts_with_all = ["category", "all"], value_parser = value_parser!(u64).range(1..))]
    pub from_version: Option<u64>,

    /// End behind this version.
    #[arg(long, help_heading = THIS_CALL, conflicts_with_all = ["category", "all"], value_parser = value_parser!(u64).range(1..))]
    pub to_version: Option<u64>,

    /// Leave out what was recorded before this time (RFC 3339, for example 2026-01-31T00:00:00Z).
    #[arg(long, help_heading = THIS_CALL, value_name = "TIME")]
    pub from_time: Option<String>,

    /// Leave out what was recorded at this time or later (RFC 3339).
    #[arg(long, help_heading = THIS_CALL, value_name = "TIME")]
    pub to_time: Option<String>,

    /// Publish to this queue alone, past the exchange. It has to exist, and to be bound to nothing.
    #[arg(long, help_heading = THIS_CALL)]
    pub queue: Option<String>,

    /// Most events a second.
    #[arg(long, help_heading = THIS_CALL, default_value_t = 500, value_parser = value_parser!(u32).range(1..=100_000))]
    pub rate: u32,

    /// The replay's id, which stands in the header `x-streambox-replay`. By default a new one.
    #[arg(long, help_heading = THIS_CALL)]
    pub id: Option<String>,

    /// Where the position is kept: a file. If it is there, the replay goes on from it.
    #[arg(long, help_heading = THIS_CALL, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Which table.
    #[command(flatten)]
    pub table: TableOption,
    /// Where to publish.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// What to log.
    #[command(flatten)]
    pub log: LogOptions,

    /// The form of the summary.
    #[arg(long, value_enum, default_value = "text", help_heading = THIS_CALL)]
    pub format: Format,
}

/// `health`.
#[derive(Clone, Debug, Args)]
pub struct HealthOptions {
    /// Ask whether it does its work (/readyz), not only whether its loop turns (/livez).
    #[arg(long, help_heading = THIS_CALL)]
    pub ready: bool,

    /// Where the relay serves.
    #[command(flatten)]
    pub http: HttpOption,
}

/// What a replay is of.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ReplayOf {
    /// The events of one stream.
    #[arg(long, help_heading = THIS_CALL)]
    pub stream: Option<StreamId>,

    /// The events of all streams of a category (what stands before the first `-`). Reads the whole table.
    #[arg(long, help_heading = THIS_CALL)]
    pub category: Option<String>,

    /// The events of all streams. Reads the whole table.
    #[arg(long, help_heading = THIS_CALL)]
    pub all: bool,
}

/// The table.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Table")]
pub struct TableOption {
    /// The table.
    #[arg(long, env = "STREAMBOX_TABLE", default_value = "streambox", value_parser = table_name)]
    pub table: String,
}

/// The broker.
#[derive(Clone, Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerOptions {
    /// The broker, for example `amqps://user:password@host:5671/vhost`. Parameters: `heartbeat` (seconds, 1 to 3600),
    /// `auth_mechanism` (plain, external), `connection_timeout` (ms, 100 to 600000), `frame_max` (bytes, 32768 to 1048576),
    /// `channel_max` (8 or more).
    #[arg(long, env = "STREAMBOX_AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,

    /// How a connection to the broker is made.
    #[command(flatten)]
    pub link: LinkOptions,

    /// The topic exchange; it is declared, durable, where it does not exist.
    #[arg(long, env = "STREAMBOX_EXCHANGE", default_value = "streambox")]
    pub exchange: String,

    /// What to do with a message that no queue takes.
    #[arg(long, env = "STREAMBOX_UNROUTABLE", value_enum, default_value = "halt")]
    pub unroutable: Unroutable,

    /// What the body of a message is.
    #[arg(long, env = "STREAMBOX_MESSAGE_FORMAT", value_enum, default_value = "plain")]
    pub message_format: MessageFormat,

    /// The `source` of CloudEvents, a URI reference.
    #[arg(long, env = "STREAMBOX_CLOUDEVENTS_SOURCE", default_value = DEFAULT_CLOUDEVENTS_SOURCE)]
    pub cloudevents_source: String,
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions")
            .field("amqp_url", &without_password(&self.amqp_url))
            .field("exchange", &self.exchange)
            .field("unroutable", &self.unroutable)
            .finish_non_exhaustive()
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

    /// Most bytes of payloads in one batch of more than one event, in KiB: so many are sent twice at most when a connection
    /// ends.
    #[arg(long, env = "STREAMBOX_BATCH_KIB", default_value_t = 4_096, value_parser = value_parser!(u32).range(1..=1_048_576))]
    pub batch_kib: u32,

    /// Most events that are published one by one at the same time, each on a channel of its own: those of a batch that the
    /// broker broke off, to find out which of them it refuses.
    #[arg(long, env = "STREAMBOX_MAX_SUSPECTS", default_value_t = 256, value_parser = value_parser!(u16).range(1..=1_024))]
    pub max_suspects: u16,

    /// Most streams that are worked on at the same time.
    #[arg(long, env = "STREAMBOX_MAX_STREAMS", default_value_t = 512, value_parser = value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// Most reads of DynamoDB that are under way at the same time.
    #[arg(long, env = "STREAMBOX_MAX_READS", default_value_t = 32, value_parser = value_parser!(u16).range(1..=1_000))]
    pub max_reads: u16,

    /// Most bytes of events that are held in memory, in MiB.
    #[arg(long, env = "STREAMBOX_MAX_BUFFERED_MIB", default_value_t = 32, value_parser = value_parser!(u16).range(1..=4_096))]
    pub max_buffered_mib: u16,

    /// Appends to one stream that are closer than this by their writers' clocks, in milliseconds, are published only when
    /// it is sure that the earlier one is: it may become visible later. Longer than the clocks of any two writers are apart;
    /// the default is thrice what AWS lets pass.
    #[arg(long, env = "STREAMBOX_SETTLE_WINDOW_MS", default_value_t = 1_800_000, value_parser = value_parser!(u32).range(1_000..))]
    pub settle_window_ms: u32,

    /// Streams whose last published version is remembered, so that their next event needs no such proof (4 read units). As many as
    /// get events within --settle-window-ms are enough. Each takes about 160 bytes, 40 MB in all by default.
    #[arg(long, env = "STREAMBOX_REMEMBERED_STREAMS", default_value_t = 250_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub remembered_streams: u32,

    /// First delay before a halted stream or a failed read is tried again, in milliseconds. It doubles each time.
    #[arg(long, env = "STREAMBOX_RETRY_DELAY_MS", default_value_t = 1_000, value_parser = value_parser!(u32).range(10..=600_000))]
    pub retry_delay_ms: u32,

    /// Longest delay before a halted stream or a failed read is tried again, in milliseconds.
    #[arg(long, env = "STREAMBOX_MAX_RETRY_DELAY_MS", default_value_t = 60_000, value_parser = value_parser!(u32).range(10..=3_600_000))]
    pub max_retry_delay_ms: u32,
}

/// The group of relays.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Group")]
pub struct GroupOptions {
    /// This worker's name in its group, which no other running worker may have; one that stays the same over restarts lets
    /// a worker that was killed go on at once. By default host, process id and a random number.
    #[arg(long, env = "STREAMBOX_WORKER_ID")]
    pub worker_id: Option<String>,

    /// Time from one heartbeat to the next, in milliseconds. A heartbeat costs one write unit and one read unit.
    #[arg(long, env = "STREAMBOX_HEARTBEAT_INTERVAL_MS", default_value_t = 5_000, value_parser = value_parser!(u32).range(100..=60_000))]
    pub heartbeat_interval_ms: u32,

    /// After this time without a heartbeat, in milliseconds, a worker's streams go to the others; at least twice the
    /// interval.
    #[arg(long, env = "STREAMBOX_WORKER_TIMEOUT_MS", default_value_t = 15_000, value_parser = value_parser!(u32).range(..=600_000))]
    pub worker_timeout_ms: u32,
}

/// Traces.
#[cfg(feature = "opentelemetry")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Looking into it")]
pub struct TraceOption {
    /// Where spans are exported to, an OpenTelemetry collector, for example `http://127.0.0.1:4318`: OTLP over HTTP, or HTTPS with
    /// the system's authorities. Without it there are none. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_BSP_…` work as
    /// everywhere.
    #[arg(long, env = "STREAMBOX_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// The log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct LogOptions {
    /// What is logged to standard error: a level, or tracing's directives. The AMQP library is never logged: it would show the
    /// password.
    #[arg(long, env = "STREAMBOX_LOG", default_value = "info,aws_config=error")]
    pub log: String,

    /// The form of the log.
    #[arg(long, env = "STREAMBOX_LOG_FORMAT", value_enum, default_value = "auto")]
    pub log_format: LogFormat,
}
