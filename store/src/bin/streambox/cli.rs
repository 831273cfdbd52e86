//! The command line: commands, flags, each flag with an environment variable.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use streambox::limits::MAX_EVENTS_PER_APPEND;

const AFTER_HELP: &str = "\
AWS's own settings are found as by every AWS program: AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_DYNAMODB, roles …

Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration.";

const IMPORT_HELP: &str = "\
One JSON object a line:
  stream       text, `category-id`, for example order-4711
  type         text, the event's type
  data         any JSON value, stored byte for byte
  metadata     optional, a JSON object
  occurred_at  optional, RFC 3339; kept in the metadata under this name

The first line of a stream becomes its version 1, the second its version 2, and so on. What the table has already is
compared and not written again, so the same command can be repeated after an interruption or a repair of the file.
Blank lines are skipped; a line has at most 1 MiB.";

/// An event store on DynamoDB: create its table, import events, read streams.
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
    #[arg(long, global = true, env = "STREAMBOX_TABLE", default_value = "streambox")]
    pub(crate) table: String,

    /// The form of what is printed on standard output.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) format: Format,

    /// What is logged to standard error: a level, or tracing's directives.
    #[arg(long, global = true, env = "STREAMBOX_LOG", default_value = "warn")]
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
    /// Print a stream's events in order.
    Read {
        /// The stream, for example order-4711.
        stream: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// Create the table, on-demand, for development. In the cloud, a template creates it.
    Create,
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
