//! How the program fails when it is configured wrongly or the relay can't go on.

use streambox_programs::{Chain, Failure, SOFTWARE};

use crate::{config::BadConfiguration, relay::RelayError};

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
            error => Self::with_code(SOFTWARE, Chain(&error).to_string()),
        }
    }
}
