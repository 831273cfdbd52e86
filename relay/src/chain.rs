//! Errors as people read them.

use streambox::Error;

/// An error of the store, with its causes, unless it says already what to mend.
#[must_use]
pub fn sentence(error: &Error) -> String {
    match error {
        Error::Configuration { .. } => error.to_string(),
        error => Chain(error).to_string(),
    }
}

/// Shows an error with its causes, each behind a colon.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
