//! The command line: commands, flags, each flag with an environment variable.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, value_parser};
use streambox::{
    DEFAULT_SCAN_SEGMENTS, ExpectedVersion, MAX_SCAN_SEGMENTS, ScanOptions, Uuid, limits::MAX_EVENTS_PER_APPEND,
    table_name,
};
pub(crate) use streambox_programs::Format;
use streambox_programs::{CompletionsOptions, ManOptions};

const AFTER_HELP: &str = "\
Examples:
  streambox table create
  streambox append order-4711 --type OrderPlaced --data '{\"total_cents\":4990}'
  streambox read order-4711
  streambox help import

AWS's own settings work as in every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration.";

const APPEND_HELP: &str = "\
Examples:
  streambox append order-4711 --type OrderPlaced --data '{\"total_cents\":4990}'
  streambox append order-4711 --type OrderPaid --data @paid.json --expect 1
  jq -c .order order.json | streambox append order-4712 --type OrderPlaced --expect none

Prints what was stored: the version, the event's id, the append's id. An append that is repeated with the same --append-id and the \
same --expect (none or a number) is stored once: repeat it if the answer was lost.

Exits with 1 if the stream is not at the expected version; nothing is stored then.";

const IMPORT_HELP: &str = "\
Examples:
  streambox import events.ndjson.gz
  streambox import --table orders --concurrency 64 - < events.ndjson

One JSON object a line:
  stream         text, `category-id`, for example order-4711
  type           text, the event's type
  data           any JSON value, stored byte for byte
  data_text      instead of data: the same as a text, for JSON that contains line breaks
  metadata       optional, a JSON object without repeated names, stored byte for byte
  metadata_text  instead of metadata: the same as a text
  occurred_at    optional, RFC 3339; stored as the last of the metadata, under this name
  private        optional, true if the event is not to be published

The first line of a stream becomes its version 1, the second its version 2, and so on. Lines that the table already has are \
compared and not written again: after an interruption, or after the file was corrected, repeat the same command. Blank lines are \
skipped; a line has at most 2 MiB. If the table has another event in the place of a line, the rest of that stream is left out, \
all other streams are imported, and the exit code is 1.

A gzip file is unpacked twice: its checksums are verified before the first line is appended. Standard input can't be read twice: \
the lines before a damaged part are appended.";

const READ_HELP: &str = "\
Examples:
  streambox read order-4711
  streambox read order-4711 --backward --limit 1
  streambox read order-4711 --from 100 --format json | jq .data

If an event is damaged, the events before it are printed, then an error that names it; the exit code is 1. --from continues \
behind it.

On a terminal a line is cut to its width; --format json, or a pipe, shows all of it. The events are fetched page by page while \
they are printed; with --limit, no more events are read and paid for.";

const STREAMS_HELP: &str = "\
Examples:
  streambox streams
  streambox streams --category order --segments 16

Reads the whole table: one read unit for each 4 KB of it, other categories included. DynamoDB decides the order of the streams. \
`events` is the number of events and the newest version, which differ only if events are missing (`streambox verify`). A stream \
with an unreadable event is named on standard error instead; the exit code is 1 then.";

const EXPORT_HELP: &str = "\
Examples:
  streambox export -o events.ndjson.gz
  streambox export -o events.ndjson.gz --resume
  streambox export --category order | wc -l

One JSON object a line, as `streambox import` reads it; stream after stream, each whole and in order. DynamoDB decides the order \
of the streams; it is the same in each export with the same number of segments. If an export is imported into another table and \
exported from there, each stream's lines are the same, byte for byte.

Not in the lines: the ids of events and appends, which events were appended together, when they were recorded (an event's time is \
its `occurred_at`), what is not yet published, snapshots. An import of an export appends new events: it publishes all of them \
except private ones.

With -o, an interrupted export leaves FILE.resume beside the file, and the same command with --resume resumes it: from the same \
table, with the same options, into the unchanged file; anything else is refused. An export to standard output can't be resumed.

A damaged stream does not stop the export: it is named on standard error, its lines end before the first damaged event, and the \
exit code is 1. With --leave-out-damaged, damaged streams are left out as a whole and named, and the exit code is 0: every stream \
in the file is whole. The table is read twice then. A stream is damaged if events are unreadable, missing, or such that `import` \
would refuse them; `streambox verify` reports more.

Reads the whole table: one read unit for each 4 KB of it, other categories included; with --stream only that stream.";

const VERIFY_HELP: &str = "\
Examples:
  streambox verify
  streambox verify --stream order-4711

Checks every rule of writing: missing events (gaps, parts of appends); unreadable events, pending entries and snapshots; events that \
no append accepts (type, payload, metadata, sizes); events whose id or append does not belong to their place; pending entries that \
do not match their events; private events and entries that name a wrong previous entry; snapshots ahead of their stream; unknown \
keys. The rules: docs/stored-format.md. Writes nothing; the table may be in use.

What is missing is re-read for about two seconds before it is reported. Reads the whole table: one read unit for each 4 KB of it, \
other categories included, and the events of pending entries a second time; with --stream only that stream.

Exits with 1 if there is a finding, else with 0 and the numbers of what was verified.";

const CHECK_HELP: &str = "\
Examples:
  streambox table check
  streambox table check --table orders --format json

Compares keys, types, the index and its projection with the expected definition, and says how to correct each difference. Notes \
are not differences: they are the operator's choice. Needs dynamodb:DescribeTable; dynamodb:DescribeContinuousBackups and \
dynamodb:DescribeTimeToLive add notes.

Exits with 1 if there is a difference, with 78 if there is no such table.";

const COMPLETIONS_HELP: &str = "\
Examples:
  streambox completions bash > ~/.local/share/bash-completion/completions/streambox
  streambox completions zsh > ~/.zfunc/_streambox       # a directory of $fpath
  streambox completions fish > ~/.config/fish/completions/streambox.fish";

const MAN_HELP: &str = "\
Examples:
  streambox man ~/.local/share/man/man1
  man streambox-import";

/// An event store on DynamoDB: append and read events, import, export and verify streams, create and check the table.
#[derive(Debug, Parser)]
#[command(name = "streambox", version, after_help = AFTER_HELP)]
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
    /// The DynamoDB table.
    #[arg(long, global = true, help_heading = ANY_COMMAND, env = "STREAMBOX_TABLE", value_name = "NAME", default_value = "streambox", value_parser = table_name)]
    pub(crate) table: String,

    /// The time limit of a request to DynamoDB with all its attempts, in seconds. Raise it on a slow link; a connection that is
    /// silent for 5 seconds is closed in any case.
    #[arg(long, global = true, help_heading = ANY_COMMAND, env = "STREAMBOX_REQUEST_TIMEOUT_S", value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u16).range(1..=600))]
    pub(crate) request_timeout_s: u16,

    /// The format of standard output.
    #[arg(long, global = true, help_heading = ANY_COMMAND, value_enum, default_value = "text")]
    pub(crate) format: Format,

    /// What is logged to standard error: a level, or directives of tracing.
    #[arg(long, global = true, help_heading = ANY_COMMAND, env = "STREAMBOX_LOG", value_name = "LEVEL", default_value = "warn,aws_config=error")]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnTable(OnTable),
    /// Print the completions for a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsOptions),
    /// Write the man pages of this program and its commands.
    #[command(after_help = MAN_HELP)]
    Man(ManOptions),
}

/// What needs a table.
#[derive(Debug, Subcommand)]
pub(crate) enum OnTable {
    /// Create the table, or compare it with the expected definition.
    Table {
        #[command(subcommand)]
        command: TableCommand,
    },
    /// Append the events of a file, each stream's lines in order.
    #[command(after_help = IMPORT_HELP)]
    Import(ImportOptions),
    /// Append one event to a stream.
    #[command(after_help = APPEND_HELP)]
    Append(AppendOptions),
    /// Print a stream's events in order.
    #[command(after_help = READ_HELP)]
    Read(ReadOptions),
    /// List the streams with the number of their events.
    #[command(after_help = STREAMS_HELP)]
    Streams(ScanArgs),
    /// Write events to a file that `import` reads.
    #[command(after_help = EXPORT_HELP)]
    Export(ExportOptions),
    /// Report what is wrong with the stored events.
    #[command(after_help = VERIFY_HELP)]
    Verify(Selection),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// Create the table, on-demand, for development. In the cloud, infra/table.yaml creates it.
    Create,
    /// Compare the table with the expected definition.
    #[command(after_help = CHECK_HELP)]
    Check,
}

#[derive(Debug, Args)]
pub(crate) struct AppendOptions {
    /// The stream, for example order-4711.
    pub(crate) stream: String,

    /// The event's type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: String,

    /// The payload, JSON, stored byte for byte without the white space around it; @FILE reads a file, - standard input.
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "-", allow_hyphen_values = true)]
    pub(crate) data: String,

    /// The metadata, a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,

    /// The expected version: any (the event goes to the end), exists (the same, if the stream has an event), none (it has no event
    /// yet), or the number of the newest event.
    #[arg(long, value_name = "any|exists|none|VERSION", default_value = "any", value_parser = expected_version)]
    pub(crate) expect: ExpectedVersion,

    /// The append's id: an append that is repeated with the same id is stored once. Random by default.
    #[arg(long, value_name = "UUID")]
    pub(crate) append_id: Option<Uuid>,

    /// The event is not to be published.
    #[arg(long)]
    pub(crate) private: bool,
}

fn expected_version(text: &str) -> Result<ExpectedVersion, String> {
    match text {
        "any" => Ok(ExpectedVersion::Any),
        "exists" => Ok(ExpectedVersion::StreamExists),
        // Reads the end, so that a stream that has lost its first event is noticed.
        "none" => Ok(ExpectedVersion::Exact(0)),
        version => version
            .parse()
            .map(ExpectedVersion::Exact)
            .map_err(|_| "allowed is any, exists, none, or a version such as 7".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReadOptions {
    /// The stream, for example order-4711.
    pub(crate) stream: String,

    /// The version to begin with, in either direction.
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Option<u64>,

    /// The maximum number of events.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) limit: Option<u64>,

    /// From newer to older events.
    #[arg(long)]
    pub(crate) backward: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Only streams of this category: the part of their ids before the first `-`.
    #[arg(long)]
    pub(crate) category: Option<String>,

    /// The number of parts of the table that are read at the same time: more are faster, and consume its capacity faster.
    #[arg(long, env = "STREAMBOX_SEGMENTS", value_name = "PARTS", default_value_t = DEFAULT_SCAN_SEGMENTS, value_parser = value_parser!(u16).range(1..=i64::from(MAX_SCAN_SEGMENTS)))]
    pub(crate) segments: u16,
}

impl ScanArgs {
    pub(crate) fn options(&self) -> ScanOptions {
        let options = ScanOptions::new().segments(self.segments);
        match &self.category {
            Some(category) => options.category(category),
            None => options,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) scan: ScanArgs,

    /// Only this stream.
    #[arg(long, conflicts_with = "category")]
    pub(crate) stream: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    #[command(flatten)]
    pub(crate) selection: Selection,

    /// The file to write; it must not exist. Standard output by default.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Compress with gzip; the default if FILE ends with .gz.
    #[arg(long)]
    pub(crate) gzip: bool,

    /// Resume an interrupted export to FILE.
    #[arg(long, requires = "output")]
    pub(crate) resume: bool,

    /// Leave out damaged streams. Reads everything twice.
    #[arg(long)]
    pub(crate) leave_out_damaged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// NDJSON, plain or gzipped; `-` for standard input.
    pub(crate) file: PathBuf,

    /// The maximum number of streams that are imported at the same time.
    #[arg(long, env = "STREAMBOX_IMPORT_CONCURRENCY", value_name = "STREAMS", default_value_t = 32, value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// The maximum number of events in one append (fewer if they do not fit into a transaction). An append costs 2 write units
    /// for each KB of an event and 3 more.
    #[arg(long, env = "STREAMBOX_IMPORT_EVENTS_PER_APPEND", value_name = "EVENTS", default_value_t = 25, value_parser = value_parser!(u16).range(1..=MAX_EVENTS_PER_APPEND as i64))]
    pub(crate) events_per_append: u16,
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
