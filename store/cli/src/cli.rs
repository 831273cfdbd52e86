//! The command line: commands, flags, each flag with an environment variable.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use streambox::{
    DEFAULT_SCAN_SEGMENTS, ExpectedVersion, MAX_SCAN_SEGMENTS, ScanOptions, Uuid, limits::MAX_EVENTS_PER_APPEND,
    table_name,
};

const AFTER_HELP: &str = "\
AWS's own settings are found as by every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration.";

const APPEND_HELP: &str = "\
Prints what was stored: the version, the event's id, the append's id. A repeat with the same --append-id and the same \
--expect (none or a number) is stored once, however often it is sent: do so where the answer was lost.

Exits with 1 where the stream is not as expected; nothing is stored then.";

const IMPORT_HELP: &str = "\
One JSON object a line:
  stream         text, `category-id`, for example order-4711
  type           text, the event's type
  data           any JSON value, stored byte for byte
  data_text      instead of data: the same as a text, for what does not fit into a line as it is (line breaks)
  metadata       optional, a JSON object in which each name stands once, stored byte for byte
  metadata_text  instead of metadata: the same as a text
  occurred_at    optional, RFC 3339; kept as the last of the metadata, under this name
  private        optional, true where the event is not for publication

The first line of a stream becomes its version 1, the second its version 2, and so on. What the table has already is \
compared and not written again, so the same command can be repeated after an interruption or a repair of the file. \
Blank lines are skipped; a line has at most 2 MiB. If the table has another event where a line belongs, the rest of that \
stream is left out, all other streams are imported, and the exit code is 1.

A gzip file is unpacked twice: its checksums are verified before the first line is appended. Standard input can't be read twice: \
the lines before the damage are appended.";

const READ_HELP: &str = "\
Where an event is damaged, those before it are printed; then it is named, and the exit code is 1. --from goes on behind it.

On a terminal a line is cut to its width; --format json, or a pipe, shows all of it. The events are fetched page by page, as \
they are printed; with --limit no more than these are read and paid for.";

const STREAMS_HELP: &str = "\
Reads the whole table: one read unit for each 4 KB of it, other categories included. The order of the streams is \
DynamoDB's; `events` is their number and the newest version, which is the same unless some are missing (`streambox verify`). A \
stream with an event that can't be read is named on standard error instead; the exit code is 1 then.";

const EXPORT_HELP: &str = "\
One JSON object a line, as `streambox import` takes it; stream after stream, each whole and in order. The order of the \
streams is DynamoDB's, the same in each export with the same number of segments. Exported, imported into another table and \
exported again from there, each stream's lines are the same, byte for byte.

Not in the lines: the ids of events and appends, which events were appended together, when they were recorded (an event's \
time is its `occurred_at`), what is still to be published, snapshots. An import of an export is an append of new events: it \
publishes all of them, but the private ones.

With -o, an interrupted export leaves FILE.resume beside the file, and the same command with --resume resumes it: from the same \
table, with the same options, into the file as it was left; anything else is refused. What is written to standard output can't \
be resumed.

A damaged stream does not keep the others from being exported: it is named on standard error, its lines end before the first \
damaged event, and the exit code is 1. With --leave-out-damaged, damaged streams are left out as a whole and named, and the exit \
code is 0: every stream in the file is whole. The table is read twice then. Damaged is what can't be read, what is missing, and \
what `import` would refuse; `streambox verify` lists more.

Reads the whole table: one read unit for each 4 KB of it, other categories included; with --stream that stream alone.";

const VERIFY_HELP: &str = "\
Checks every rule of writing: missing events (gaps, parts of appends), events, pending entries and snapshots that can't be read, \
events that no append takes (type, payload, metadata, sizes), events whose id or append is not that of their place, pending entries \
whose events are missing or say other things, private events and entries that name another append before them than they should, \
snapshots ahead of their stream, keys that are none. The README lists the rules. Writes nothing; the table may be in use.

What is missing is read again for about two seconds before it is a finding. Reads the whole table: one read unit for each \
4 KB of it, other categories included, and the events of pending entries a second time; with --stream that stream alone.

Exits with 1 where there is a finding, with 0 and the numbers of what was verified where there is none.";

const CHECK_HELP: &str = "\
Compares keys, types, the index and its projection with what streambox expects, and says what to do about each difference. \
Notes are no differences: they are the operator's choice. Needs dynamodb:DescribeTable; with \
dynamodb:DescribeContinuousBackups and dynamodb:DescribeTimeToLive it knows more.

Exits with 1 where there is a difference, with 78 where there is no such table.";

/// An event store on DynamoDB: append and read events, import, export and verify streams, create and check the table.
#[derive(Debug, Parser)]
#[command(name = "streambox", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The table.
    #[arg(long, global = true, env = "STREAMBOX_TABLE", default_value = "streambox", value_parser = table_name)]
    pub(crate) table: String,

    /// The longest that a request to DynamoDB may take, with all its attempts, in seconds. Over a slow link, more; a connection
    /// that is silent for 5 seconds is given up in any case.
    #[arg(long, global = true, env = "STREAMBOX_REQUEST_TIMEOUT_S", value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u16).range(1..=600))]
    pub(crate) request_timeout_s: u16,

    /// The form of what is printed on standard output.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) format: Format,

    /// What is logged to standard error: a level, or tracing's directives.
    #[arg(long, global = true, env = "STREAMBOX_LOG", default_value = "warn,aws_config=error")]
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For scripts: JSON, one object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The table itself.
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
    /// Write events to a file that `import` takes back.
    #[command(after_help = EXPORT_HELP)]
    Export(ExportOptions),
    /// Look for what is wrong with the stored events.
    #[command(after_help = VERIFY_HELP)]
    Verify(Selection),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// Create the table, on-demand, for development. In the cloud, a template creates it.
    Create,
    /// Compare the table with what streambox expects.
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

    /// The payload, JSON, stored byte for byte without the white space around it; @FILE for a file's content, - for standard
    /// input.
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "-", allow_hyphen_values = true)]
    pub(crate) data: String,

    /// The metadata, a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,

    /// Where the stream must be: any (the event goes to its end), none (it has no event yet), or its version.
    #[arg(long, value_name = "any|none|VERSION", default_value = "any", value_parser = expected_version)]
    pub(crate) expect: ExpectedVersion,

    /// The append's id: a repeat with the same one is stored once. A random one by default.
    #[arg(long, value_name = "UUID")]
    pub(crate) append_id: Option<Uuid>,

    /// The event is not for publication.
    #[arg(long)]
    pub(crate) private: bool,
}

fn expected_version(text: &str) -> Result<ExpectedVersion, String> {
    match text {
        "any" => Ok(ExpectedVersion::Any),
        // With a read of the end, so that a stream that has lost its first event is noticed.
        "none" => Ok(ExpectedVersion::Exact(0)),
        number => match number.parse() {
            Ok(version) => Ok(ExpectedVersion::Exact(version)),
            Err(_) => Err("allowed is any, none, or a version such as 7".to_owned()),
        },
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReadOptions {
    /// The stream, for example order-4711.
    pub(crate) stream: String,

    /// The version to begin with, whichever the direction.
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Option<u64>,

    /// Most events.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) limit: Option<u64>,

    /// From newer to older events.
    #[arg(long)]
    pub(crate) backward: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Only streams of this category: what stands before the first `-` of their ids.
    #[arg(long)]
    pub(crate) category: Option<String>,

    /// Parts of the table that are read at the same time: faster, and consuming its capacity faster.
    #[arg(long, env = "STREAMBOX_SEGMENTS", default_value_t = DEFAULT_SCAN_SEGMENTS, value_parser = value_parser!(u16).range(1..=i64::from(MAX_SCAN_SEGMENTS)))]
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

    /// Pack with gzip, as is done where FILE ends with .gz.
    #[arg(long)]
    pub(crate) gzip: bool,

    /// Resume an export to FILE that was interrupted.
    #[arg(long, requires = "output")]
    pub(crate) resume: bool,

    /// Leave out streams that are damaged. Reads everything twice.
    #[arg(long)]
    pub(crate) leave_out_damaged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// NDJSON, plain or gzipped; `-` for standard input.
    pub(crate) file: PathBuf,

    /// Most streams that are imported at the same time.
    #[arg(long, env = "STREAMBOX_IMPORT_CONCURRENCY", default_value_t = 32, value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// Most events in one append (fewer where they would not fit into a transaction). An append costs 2 write units for
    /// each KB of an event and 3 units more.
    #[arg(long, env = "STREAMBOX_IMPORT_EVENTS_PER_APPEND", default_value_t = 25, value_parser = value_parser!(u16).range(1..=MAX_EVENTS_PER_APPEND as i64))]
    pub(crate) events_per_append: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
