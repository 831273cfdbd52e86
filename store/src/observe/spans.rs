//! The names and fields of spans and events. The module's documentation has them as tables.

use std::fmt::Display;

use tracing::{Span, field::Empty};

use super::{Operation, Outcome, count, count::Counts};

/// What their names begin with, and their target.
macro_rules! streambox {
    () => {
        "streambox"
    };
}

/// A span for each operation, all with the same fields.
macro_rules! spans {
    ($($operation:ident = $name:literal),* $(,)?) => {
        /// The span of an operation, which begins.
        pub(super) fn begin(operation: Operation, stream: &str) -> Span {
            match operation {
                $(Operation::$operation => tracing::debug_span!(
                    target: streambox!(),
                    concat!(streambox!(), ".", $name),
                    stream,
                    outcome = Empty,
                    requests = Empty,
                    attempts = Empty,
                    conflicts = Empty,
                    read_units = Empty,
                    write_units = Empty,
                    events_read = Empty,
                    events_written = Empty,
                ),)*
            }
        }

        #[cfg(test)]
        pub(super) fn name(operation: Operation) -> &'static str {
            match operation {
                $(Operation::$operation => concat!(streambox!(), ".", $name),)*
            }
        }
    };
}

spans! {
    Append = "append",
    Transaction = "transaction",
    Read = "read",
    Page = "page",
    Position = "position",
    Exists = "exists",
    Event = "event",
    LoadSnapshot = "load_snapshot",
    WriteSnapshot = "write_snapshot",
    Load = "load",
    Save = "save",
    Execute = "execute",
    Snapshot = "snapshot",
    Scan = "scan",
}

/// What is known at the operation's end.
pub(super) fn end(span: &Span, outcome: Outcome, counts: &Counts) {
    span.record("outcome", outcome.as_str())
        .record("requests", counts.requests)
        .record("attempts", counts.attempts)
        .record("conflicts", counts.conflicts)
        .record("read_units", counts.read_units)
        .record("write_units", counts.write_units)
        .record("events_read", counts.events_read)
        .record("events_written", counts.events_written);
}

/// Another writer was first: the stream is at this version, at least.
pub(crate) fn conflict(stream: &str, expected: impl Display, version: u64) {
    count::conflict();
    tracing::event!(
        name: concat!(streambox!(), ".conflict"),
        target: streambox!(),
        tracing::Level::DEBUG,
        stream,
        %expected,
        version,
        "another writer was first"
    );
}
