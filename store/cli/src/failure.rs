//! How a command fails: with an exit code and a sentence.

use std::{error::Error as _, fmt::Write as _, iter};

use streambox::Error;

pub(crate) const FAILED: u8 = 1;
/// `EX_CONFIG` of sysexits.h.
pub(crate) const BAD_CONFIGURATION: u8 = 78;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: exit_code(&error), message: sentence(&error) }
    }
}

pub(crate) fn exit_code(error: &Error) -> u8 {
    if matches!(error, Error::Configuration { .. }) { BAD_CONFIGURATION } else { FAILED }
}

/// An error as people read it: its causes behind it, unless it says already what to mend.
pub(crate) fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    if matches!(error, Error::Configuration { .. }) {
        return text;
    }
    for cause in iter::successors(error.source(), |&error| error.source()).map(ToString::to_string) {
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}
