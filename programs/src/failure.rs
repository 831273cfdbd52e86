//! How a command fails: with an exit code and a sentence.

use std::error::Error as StdError;

use streambox::{Error, StreamIdError};

use crate::{
    role::Role,
    sentence::{Chain, sentence},
};

/// The exit code of a command that has failed.
pub const FAILED: u8 = 1;
/// The exit code of a command line that can't be understood.
pub const USAGE: u8 = 2;
/// `EX_SOFTWARE` of sysexits.h: a part of the program ended that should not have. The supervisor restarts the program.
pub const SOFTWARE: u8 = 70;
/// `EX_CONFIG` of sysexits.h.
pub const BAD_CONFIGURATION: u8 = 78;

/// How a command fails.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    before: String,
    error: Option<Box<Error>>,
    after: String,
}

impl Failure {
    /// A command that has failed, with [`FAILED`].
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(FAILED, message)
    }

    /// A command that has failed with this exit code.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self { code, before: message.into(), error: None, after: String::new() }
    }

    /// A setting that can't be used: the error with its causes.
    #[must_use]
    pub fn configuration(error: &dyn StdError) -> Self {
        Self::with_code(BAD_CONFIGURATION, Chain(error).to_string())
    }

    /// The same failure with a text before its message.
    #[must_use]
    pub fn preceded_by(self, text: &str) -> Self {
        Self { before: text.to_owned() + &self.before, ..self }
    }

    /// The same failure with a text behind its message.
    #[must_use]
    pub fn followed_by(self, text: &str) -> Self {
        Self { after: self.after + text, ..self }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The sentence that a program in this role prints.
    #[must_use]
    pub fn message(&self, role: Role) -> String {
        let error = self.error.as_ref().map_or_else(String::new, |error| sentence(error, role));
        [self.before.as_str(), &error, &self.after].concat()
    }
}

impl From<StreamIdError> for Failure {
    fn from(error: StreamIdError) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = if matches!(error, Error::Configuration { .. }) { BAD_CONFIGURATION } else { FAILED };
        Self { error: Some(Box::new(error)), ..Self::with_code(code, "") }
    }
}
