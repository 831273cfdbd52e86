//! How a command fails: with an exit code and a sentence.

use std::io::Write as _;

use serde::Serialize;
use streambox::Error;
use streambox_relay::{Chain, RelayError, config::BadConfiguration, sentence};

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
/// `EX_SOFTWARE` of sysexits.h: a part of the program ended that should not have. Whatever runs it starts it again.
pub(crate) const SOFTWARE: u8 = 70;
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

    /// A part of the program ended that should not have.
    pub(crate) fn software(ended: &Result<(), tokio::task::JoinError>) -> Self {
        let how = ended.as_ref().err().map_or_else(|| "it ended".to_owned(), ToString::to_string);
        Self { code: SOFTWARE, message: format!("what shows the relay (--http, --emf-namespace) can't go on: {how}") }
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

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Store(error) => error.into(),
            RelayError::Broker(refusal) => Self::configuration(&refusal),
            error => Self { code: SOFTWARE, message: Chain(&error).to_string() },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Configuration { .. } => Self { code: BAD_CONFIGURATION, message: sentence(&error) },
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
