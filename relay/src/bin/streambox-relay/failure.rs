//! How a command fails: with an exit code and a sentence.

use std::io::Write as _;

use serde::Serialize;
use streambox::Error;
use streambox_relay::{Chain, StartError, config::BadConfiguration, sentence};

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
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

    pub(crate) fn configuration(error: &dyn std::error::Error) -> Self {
        Self { code: BAD_CONFIGURATION, message: Chain(error).to_string() }
    }
}

impl From<BadConfiguration> for Failure {
    fn from(error: BadConfiguration) -> Self {
        Self::configuration(&error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            StartError::Broker(refusal) => Self::configuration(&refusal),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Setup { .. } => Self { code: BAD_CONFIGURATION, message: sentence(&error) },
            error => Self::new(sentence(&error)),
        }
    }
}

/// Prints one line to standard output. Whoever has closed it does not want to know.
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
