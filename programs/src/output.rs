//! What a program prints: lines on standard output, notes on standard error.

use std::io::{self, ErrorKind, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::{Failure, text::one_line};

/// The format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts: JSON, one object a line.
    Json,
}

/// Whether anybody still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody may.
    Listens,
    /// `head`, for instance, has had enough.
    HasGone,
}

/// Prints lines to standard output.
///
/// # Errors
/// Standard output can't be written.
pub fn print(lines: &[String]) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    match lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::HasGone),
        Err(error) => Err(Failure::new(format!("standard output can't be written: {error}"))),
    }
}

/// Prints what was done: a value for scripts, or a sentence. If it can't be printed, the error says it: it is done all the same.
///
/// # Errors
/// Standard output can't be written.
///
/// # Panics
/// If the value is not plain data.
pub fn print_done(format: Format, value: &impl Serialize, done: &str) -> Result<(), Failure> {
    let line = match format {
        Format::Json => serde_json::to_string(value).expect("what is printed is plain data"),
        Format::Text => one_line(done),
    };
    print(&[line]).map(|_| ()).map_err(|failure| failure.preceded_by(&format!("{done}; but ")))
}

/// A number of things, for a sentence: "1 stream is", "2 streams are".
#[must_use]
pub fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Writes one line to standard error. An error of that is ignored.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", one_line(text));
}
