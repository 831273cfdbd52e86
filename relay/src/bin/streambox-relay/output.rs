//! Standard output.

use std::io::Write as _;

use serde::Serialize;

/// Prints one line to standard output. If the reader has closed it, nothing is lost.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints one JSON object a line.
pub(crate) fn print_json(value: &impl Serialize) {
    print_line(&json(value));
}

/// One JSON object, as scripts read it.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is printed is plain data")
}
