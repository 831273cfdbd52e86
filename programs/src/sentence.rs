//! Errors as people read them.

use std::{error::Error as StdError, fmt, iter};

use streambox::Error;

/// An error of the store, with its causes, unless it says already what to fix.
#[must_use]
pub fn sentence(error: &Error) -> String {
    match error {
        Error::Configuration { .. } => error.to_string(),
        error => Chain(error).to_string(),
    }
}

/// Shows an error with its causes, each behind a colon. A cause that the text before contains is left out.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn StdError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        for cause in iter::successors(self.0.source(), |&error| error.source()).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = text + ": " + &cause;
            }
        }
        f.write_str(&text)
    }
}
