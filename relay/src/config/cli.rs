//! The command line: commands and flags. What a flag does, its default and what it allows stand in its help, which is the
//! reference; groups of flags have their headings there.

use std::{ffi::OsString, fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, value_parser};
use streambox::{StreamId, outbox::SkipTarget, table_name};
use streambox_amqp::Endpoint;
use streambox_programs::{CompletionsOptions, ManOptions};

#[cfg(feature = "opentelemetry")]
use super::observability::TraceOption;
use super::observability::{EmfOptions, HttpOption};
use crate::{
    broker::{
        CONNECT_TIMEOUT_MS, DEFAULT_CLOUDEVENTS_SOURCE, MessageFormat, Timeouts, TlsFiles, Unroutable, without_password,
    },
    core::{Bounds, DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_WORKER_TIMEOUT},
    flag_values::{DURATION, count, duration, shown, with_units},
};

const AFTER_HELP: &str = "\
Examples:
  streambox-relay run --amqp-url amqps://user:password@broker.example:5671/%2f
  streambox-relay status --watch
  streambox-relay help skip

AWS's own settings work as in every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 70 a fault of the program (start it again), 78 bad configuration.";

const RUN_HELP: &str = "\
Examples:
  export STREAMBOX_AMQP_URL=amqps://user:password@broker.example:5671/%2f
  streambox-relay run
  streambox-relay run --table orders --worker-id relay-1 --http 0.0.0.0:9090
  streambox-relay run --unroutable accept --message-format cloudevents

In a variable, the URL with its password does not show in the list of processes. Several relays on one table share its streams. The \
status page is served at --http.

SIGTERM and Ctrl-C finish what is in flight (--drain-timeout). A second one ends the program at once; nothing is lost by that.

AWS's own settings work as in every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 stopped, 1 failed, 2 usage, 70 a fault of the program (start it again), 78 bad configuration.";

const DRAIN_HELP: &str = "\
Examples:
  export STREAMBOX_AMQP_URL=amqps://user:password@broker.example:5671/%2f
  streambox-relay drain
  streambox-relay drain --table orders --format json

It joins no group and serves no status page. Other relays may run at the same time: that costs duplicates, and nothing else.

Exit codes: 0 nothing is pending, 1 failed, or a stream is halted, 2 usage, 70 a fault of the program (start it again), 78 bad \
configuration.";

const STATUS_HELP: &str = "\
Examples:
  streambox-relay status
  streambox-relay status --watch
  streambox-relay status --fail-if-halted --fail-if-older-than 5m --format json   # for a cron job

Reads the table alone, so it works when no relay runs and the broker is down. An age is this machine's time minus the time that the \
appender gave its event: it is as exact as the two clocks agree. Two readings of a worker's row show whether it is alive: the command waits for one heartbeat, unless --no-wait is given.

Exit codes: 0 done, 1 failed, or a condition of --fail-if-… holds, 2 usage, 78 bad configuration.";

const SKIP_HELP: &str = "\
Examples:
  streambox-relay skip order-4711 12 --reason 'test order, no consumer wants it'
  streambox-relay skip order-4711 'pending#abc' --table orders --reason 'written by hand' --by ann

Only the first pending entry of a stream can be skipped. An entry is one append: skipping it skips all events of that append that \
are not published yet. An event that a relay is publishing at that moment may still arrive. The relay then continues the stream by \
itself, within --max-retry-delay. Repeating the command is harmless: a skip that was done before is reported, not done again.

A damaged entry whose sort key has no version is named by that sort key, as `status` and the log show it, in single quotes: \
'pending#abc'. If the append before the entry is missing from the table, it is unknown whether it was published: \
--give-up-previous gives it up, too.

Exit codes: 0 skipped, or skipped before, 1 failed, or nothing is pending there, 2 usage, 78 bad configuration.";

const REPLAY_HELP: &str = "\
Examples:
  export STREAMBOX_AMQP_URL=amqps://user:password@broker.example:5671/%2f
  streambox-relay replay --stream order-4711
  streambox-relay replay --category order --queue rebuild-orders --rate 2000 --state rebuild.state
  streambox-relay replay --all --from-time 2026-01-31T00:00:00Z

The messages are those of `run`, byte for byte, with one more header, `x-streambox-replay`: the replay's id. Each stream's events \
come in order; private events are never published. With --queue the routing key is the queue's name, and a message of type \
`streambox.ReplayEnded` comes last.

A consumer that follows the exchange drops replayed messages. To rebuild a read model: stop its consumer, replay to a queue that is \
not bound to any exchange, into a new state, and when the replay has ended, let the consumer continue with its own queue and that \
state. docs/consuming.md has the commands.

--state keeps the position: it is written at least every 512 events, once a second while events are confirmed, and at the end. The \
same command with the same --state resumes there; at most 512 events are published twice. SIGTERM waits at most 20 seconds for what \
is in flight. An event that the broker refuses ends the replay, and the error names its stream and version: no event is left out.

Exit codes: 0 done, 1 failed or interrupted, 2 usage, 78 bad configuration.";

const HEALTH_HELP: &str = "\
Examples:
  streambox-relay health
  streambox-relay health --ready --http 127.0.0.1:9090

Asks /livez of a relay on the same host, or with --ready /readyz, and prints the answer: a health check for containers, whose \
image has no other HTTP client. It needs neither the table nor the broker.

Exit codes: 0 healthy, 1 not healthy, or no answer within 4 seconds, 2 usage, 78 bad configuration.";

const COMPLETIONS_HELP: &str = "\
Examples:
  streambox-relay completions bash > ~/.local/share/bash-completion/completions/streambox-relay
  streambox-relay completions zsh > ~/.zfunc/_streambox-relay       # a directory of $fpath
  streambox-relay completions fish > ~/.config/fish/completions/streambox-relay.fish";

const MAN_HELP: &str = "\
Examples:
  streambox-relay man ~/.local/share/man/man1
  man streambox-relay-run";

pub(super) const POLL_INTERVAL_MS: RangeInclusive<u64> = 10..=60_000;
pub(super) const DRAIN_TIMEOUT_MS: RangeInclusive<u64> = 0..=600_000;
pub(super) const PUBLISHERS: RangeInclusive<u64> = 1..=16;
pub(super) const HEARTBEAT_INTERVAL_MS: RangeInclusive<u64> = 100..=60_000;
pub(super) const WORKER_TIMEOUT_MS: RangeInclusive<u64> = 0..=600_000;

/// Flags that belong to one call only have no variable.
const THIS_CALL: &str = "This call";

const DEFAULT_EXCHANGE: &str = "streambox";

/// The longest age that can be asked for: longer than any table is old.
const MAX_AGE_MS: u64 = 100 * 365 * 86_400_000;

/// Publishes the outbox of a streambox event store to RabbitMQ: at least once, in stream order.
#[derive(Debug, Parser)]
#[command(name = "streambox-relay", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses a command line, the environment included. The unit of a duration may also stand in the name of its flag or variable,
    /// as it did once: `--poll-interval-ms 500` and `STREAMBOX_POLL_INTERVAL_MS=500` are `--poll-interval 500ms`.
    ///
    /// # Errors
    /// What is wrong, or help or version, which were asked for.
    pub fn parse_with(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, clap::Error> {
        let mut line: Vec<_> = arguments.into_iter().collect();
        with_units(&mut line, &Self::command(), variable);
        Self::try_parse_from(line)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish pending events, and new ones as they are appended, until stopped (SIGTERM, Ctrl-C).
    #[command(after_help = RUN_HELP)]
    Run(RunOptions),
    /// Publish until nothing is pending, then exit: 0 if all was published, 1 if a stream is halted.
    #[command(after_help = DRAIN_HELP)]
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
    /// Check the health of a running relay: exit with 0 if its loop runs, or with --ready if it can publish; else with 1.
    #[command(after_help = HEALTH_HELP)]
    Health(HealthOptions),
    /// Print the completions for a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsOptions),
    /// Write the man pages of this program and its commands.
    #[command(after_help = MAN_HELP)]
    Man(ManOptions),
}

impl Command {
    /// The table and the output, of every command that has them.
    #[must_use]
    pub fn common(&self) -> Option<&CommonOptions> {
        match self {
            Self::Run(RunOptions { relay: RelayOptions { common, .. }, .. })
            | Self::Drain(RelayOptions { common, .. })
            | Self::Status(StatusOptions { common, .. })
            | Self::Skip(SkipOptions { common, .. })
            | Self::Replay(ReplayOptions { common, .. }) => Some(common),
            Self::Health(_) | Self::Completions(_) | Self::Man(_) => None,
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
    /// The group that it shares the streams with.
    #[command(flatten)]
    pub group: GroupOptions,
    /// Where it serves health, metrics and the status page.
    #[command(flatten)]
    pub http: HttpOption,
    /// Metrics for CloudWatch.
    #[command(flatten)]
    pub emf: EmfOptions,
}

/// `run` and `drain`.
#[derive(Debug, Args)]
pub struct RelayOptions {
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
    /// What all commands have in common.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Repeat the output until Ctrl-C.
    #[arg(long, help_heading = THIS_CALL)]
    pub watch: bool,

    /// Time from one output to the next. Each costs read units for the part of the index that it reads.
    #[arg(long, help_heading = THIS_CALL, value_name = DURATION, default_value = "2s", value_parser = duration(200..=3_600_000))]
    pub watch_interval: Duration,

    /// Count at most this many pending entries; beyond that the output says "at least". About 13 read units for each 1,000.
    #[arg(long, help_heading = THIS_CALL, value_name = "ENTRIES", default_value_t = 100_000, value_parser = value_parser!(u32).range(1..))]
    pub max_entries: u32,

    /// Show this many of the latest skips.
    #[arg(long, help_heading = THIS_CALL, value_name = "COUNT", default_value_t = 5, value_parser = value_parser!(u16).range(0..=100))]
    pub skips: u16,

    /// Don't wait for a heartbeat: whether a worker is alive is then unknown.
    #[arg(long, help_heading = THIS_CALL)]
    pub no_wait: bool,

    /// Exit with 1 if something has been pending for longer than this.
    #[arg(long, help_heading = THIS_CALL, conflicts_with = "watch", value_name = DURATION, value_parser = duration(0..=MAX_AGE_MS))]
    pub fail_if_older_than: Option<Duration>,

    /// Exit with 1 if a stream is halted.
    #[arg(long, help_heading = THIS_CALL, conflicts_with = "watch")]
    pub fail_if_halted: bool,

    /// What all commands have in common.
    #[command(flatten)]
    pub common: CommonOptions,
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

    /// Give up the append before the entry, too, if it is missing: somebody has deleted it from the table, and it is unknown
    /// whether its events were published. Without this flag such an entry is not skipped.
    #[arg(long, help_heading = THIS_CALL)]
    pub give_up_previous: bool,

    /// The reason. It stays in the table for ever.
    #[arg(long, help_heading = THIS_CALL)]
    pub reason: String,

    /// Who does it. By default the user and the host.
    #[arg(long, help_heading = THIS_CALL, value_name = "NAME")]
    pub by: Option<String>,

    /// What all commands have in common.
    #[command(flatten)]
    pub common: CommonOptions,
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

    /// Publish to this queue only, not to the exchange. The queue has to exist and must not be bound to any exchange.
    #[arg(long, help_heading = THIS_CALL)]
    pub queue: Option<String>,

    /// Publish at most this many events a second.
    #[arg(long, help_heading = THIS_CALL, value_name = "EVENTS_PER_SECOND", default_value_t = 500, value_parser = value_parser!(u32).range(1..=100_000))]
    pub rate: u32,

    /// The replay's id, which stands in the header `x-streambox-replay`. By default a new one.
    #[arg(long, help_heading = THIS_CALL)]
    pub id: Option<String>,

    /// Where the position is kept: a file. If it exists, the replay resumes from it.
    #[arg(long, help_heading = THIS_CALL, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Where to publish.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// What all commands have in common.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// `health`.
#[derive(Clone, Debug, Args)]
pub struct HealthOptions {
    /// Check whether it can publish (/readyz), not only whether its loop runs (/livez).
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

/// The table and the output: of every command but `health`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct CommonOptions {
    /// The DynamoDB table.
    #[arg(long, help_heading = "Table", env = "STREAMBOX_TABLE", value_name = "NAME", default_value = "streambox", value_parser = table_name)]
    pub table: String,

    /// The form of what is printed on standard output.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,

    /// What is logged to standard error: a level, or tracing's directives. The AMQP library is never logged: it would show the
    /// password.
    #[arg(long, env = "STREAMBOX_LOG", default_value = "info,aws_config=error")]
    pub log: String,

    /// The form of the log.
    #[arg(long, env = "STREAMBOX_LOG_FORMAT", value_enum, default_value = "auto")]
    pub log_format: LogFormat,
}

/// The broker.
#[derive(Clone, Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerOptions {
    /// The broker, for example `amqps://user:password@host:5671/vhost`. Parameters: `heartbeat` (seconds, 1 to 3600),
    /// `auth_mechanism` (plain, external), `connection_timeout` (ms, 100 to 600000), `frame_max` (bytes, 32768 to 1048576),
    /// `channel_max` (8 or more).
    #[arg(long, env = "STREAMBOX_AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub amqp_url: String,

    /// The files of TLS.
    #[command(flatten)]
    pub tls: TlsFiles,

    /// The longest time to connect: name, TCP, TLS and AMQP's handshake; also to open the channel, which includes confirms and the
    /// exchange.
    #[arg(long, env = "STREAMBOX_CONNECT_TIMEOUT", value_name = DURATION, default_value = shown(Endpoint::DEFAULT_CONNECT_TIMEOUT), value_parser = duration(CONNECT_TIMEOUT_MS))]
    pub connect_timeout: Duration,

    /// The longest times for messages.
    #[command(flatten)]
    pub timeouts: Timeouts,

    /// The topic exchange. If it does not exist, the relay declares it as durable.
    #[arg(long, env = "STREAMBOX_EXCHANGE", value_name = "NAME", default_value = DEFAULT_EXCHANGE)]
    pub exchange: String,

    /// What to do with a message that no queue takes.
    #[arg(long, env = "STREAMBOX_UNROUTABLE", value_enum, default_value = "halt")]
    pub unroutable: Unroutable,

    /// The format of a message's body.
    #[arg(long, env = "STREAMBOX_MESSAGE_FORMAT", value_enum, default_value = "plain")]
    pub message_format: MessageFormat,

    /// The `source` of CloudEvents, a URI reference.
    #[arg(long, env = "STREAMBOX_CLOUDEVENTS_SOURCE", default_value = DEFAULT_CLOUDEVENTS_SOURCE)]
    pub cloudevents_source: String,
}

impl BrokerOptions {
    /// A broker, and the defaults of everything else.
    #[must_use]
    pub fn new(amqp_url: impl Into<String>) -> Self {
        Self {
            amqp_url: amqp_url.into(),
            tls: TlsFiles::default(),
            connect_timeout: Endpoint::DEFAULT_CONNECT_TIMEOUT,
            timeouts: Timeouts::default(),
            exchange: DEFAULT_EXCHANGE.to_owned(),
            unroutable: Unroutable::default(),
            message_format: MessageFormat::default(),
            cloudevents_source: DEFAULT_CLOUDEVENTS_SOURCE.to_owned(),
        }
    }
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
    /// The longest time from one scan of the index to the next, while there is nothing to do. An idle scan costs half a read unit
    /// for each partition of the index.
    #[arg(long, env = "STREAMBOX_POLL_INTERVAL", value_name = DURATION, default_value = shown(WorkOptions::default().poll_interval), value_parser = duration(POLL_INTERVAL_MS))]
    pub poll_interval: Duration,

    /// Time to the next scan after one that has found work. Each scan after it that finds none waits half as long again, up to
    /// --poll-interval; if that is shorter, it holds here, too. Each of more than eight live relays waits longer: twice as long if
    /// there are sixteen.
    #[arg(long, env = "STREAMBOX_BUSY_POLL_INTERVAL", value_name = DURATION, default_value = shown(WorkOptions::default().busy_poll_interval), value_parser = duration(POLL_INTERVAL_MS))]
    pub busy_poll_interval: Duration,

    /// The longest time to finish what is in flight when the relay is stopped.
    #[arg(long, env = "STREAMBOX_DRAIN_TIMEOUT", value_name = DURATION, default_value = shown(WorkOptions::default().drain_timeout), value_parser = duration(DRAIN_TIMEOUT_MS))]
    pub drain_timeout: Duration,

    /// Connections that publish at the same time, each with one channel.
    #[arg(long, env = "STREAMBOX_PUBLISHERS", value_name = "CONNECTIONS", default_value_t = WorkOptions::default().publishers, value_parser = count(PUBLISHERS))]
    pub publishers: usize,

    /// The core's bounds.
    #[command(flatten)]
    pub bounds: Bounds,
}

impl Default for WorkOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(500),
            busy_poll_interval: Duration::from_millis(25),
            drain_timeout: Duration::from_secs(20),
            publishers: 2,
            bounds: Bounds::default(),
        }
    }
}

/// The group of relays.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Group")]
pub struct GroupOptions {
    /// This worker's name in its group, which no other running worker may have. With a name that stays the same over restarts,
    /// a worker that was killed continues at once. By default host, process id and a random number.
    #[arg(long, env = "STREAMBOX_WORKER_ID")]
    pub worker_id: Option<String>,

    /// Time from one heartbeat to the next. A heartbeat costs one write unit and one read unit.
    #[arg(long, env = "STREAMBOX_HEARTBEAT_INTERVAL", value_name = DURATION, default_value = shown(DEFAULT_HEARTBEAT_INTERVAL), value_parser = duration(HEARTBEAT_INTERVAL_MS))]
    pub heartbeat_interval: Duration,

    /// After this time without a heartbeat, a worker's streams go to the others; at least twice the interval.
    #[arg(long, env = "STREAMBOX_WORKER_TIMEOUT", value_name = DURATION, default_value = shown(DEFAULT_WORKER_TIMEOUT), value_parser = duration(WORKER_TIMEOUT_MS))]
    pub worker_timeout: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        let (heartbeat_interval, worker_timeout) = (DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_WORKER_TIMEOUT);
        Self { worker_id: None, heartbeat_interval, worker_timeout }
    }
}
