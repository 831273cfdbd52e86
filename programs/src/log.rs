//! Lines of a log.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use crate::text::escaped_but;

/// What colors begin with.
const ESCAPE: char = '\u{1b}';

/// Whether a stream gets colors: it is a terminal, and `NO_COLOR` is empty or not set (<https://no-color.org>).
#[must_use]
pub fn has_colors(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The character to keep for the formatter's own colors; in values, the formatter escapes it itself.
#[must_use]
pub fn colors(are_on: bool) -> Option<char> {
    are_on.then_some(ESCAPE)
}

/// Takes one event of the log, which the formatter writes in one piece, and passes it on as one line, without its line break: what
/// can't be seen is escaped, so that no value forges a line.
pub struct LogLine<F> {
    /// See [`colors`].
    pub kept: Option<char>,
    /// Takes the line.
    pub write: F,
}

impl<F: FnMut(String) -> io::Result<()>> Write for LogLine<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        (self.write)(escaped_but(text.trim_end_matches('\n'), self.kept).into_owned())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
