//! What a failed request means for the caller: try again, or mend something first.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::error::Error;

/// What to do after a failed request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may work later. Whether DynamoDB did it already is not known.
    Again,
    /// It will fail again until this has been mended.
    Mend(String),
}

pub(crate) fn judge<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Verdict {
    match error {
        SdkError::ConstructionFailure(_) => Verdict::Mend(NOT_CONFIGURED.to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Verdict::Again,
        // A connection that was closed in the middle of an answer, for instance. The HTTP client says that it is transient.
        SdkError::DispatchFailure(failure) if failure.as_other().is_some() => Verdict::Again,
        SdkError::DispatchFailure(failure) => judge_unsent(failure.as_connector_error().map(|error| error as _)),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            judge_answer(answer.err().code().unwrap_or_default(), answer.err().message().unwrap_or_default(), status)
        }
        _ => Verdict::Again,
    }
}

const NOT_CONFIGURED: &str = "the request could not be sent: check region (AWS_REGION), credentials (AWS_PROFILE, a role, \
                              AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and end point (AWS_ENDPOINT_URL_DYNAMODB, \
                              a URL with its scheme)";

/// A request that never came as far as the network: for lack of a setting, or because a service that gives out credentials
/// was away for the moment.
fn judge_unsent(error: Option<&(dyn StdError + 'static)>) -> Verdict {
    let mut causes = std::iter::successors(error, |&error| error.source());
    let credentials = causes.find_map(|cause| cause.downcast_ref::<CredentialsError>());
    match credentials {
        Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) | None => {
            Verdict::Mend(NOT_CONFIGURED.to_owned())
        }
        Some(_) => Verdict::Again,
    }
}

fn judge_answer(code: &str, message: &str, status: u16) -> Verdict {
    let mend = |advice: &str| Verdict::Mend(format!("{advice} ({code}: {message})"));
    match code {
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "InternalServerError"
        | "ReplicatedWriteConflictException"
        | "TransactionInProgressException" => Verdict::Again,
        "ResourceNotFoundException" => mend(
            "the table or its index does not exist: create it (`streambox table create`), or check name and region",
        ),
        "AccessDeniedException" => mend("a permission is missing: grant it to the role"),
        "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException" => {
            mend("the credentials are not accepted: renew them")
        }
        "ValidationException" => {
            mend("DynamoDB refuses the request: compare the table with what is expected (`streambox table check`)")
        }
        _ if status >= 500 => Verdict::Again,
        _ => mend("DynamoDB refuses the request"),
    }
}

/// One operation on one subject, and how often it was tried: what an error tells the caller.
pub(crate) struct Attempts<'a> {
    pub(crate) operation: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) made: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn of(operation: &'static str, subject: &'a str) -> Self {
        Self { operation, subject, made: 0 }
    }

    pub(crate) fn unavailable(
        &self,
        outcome_unknown: bool,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Unavailable {
            operation: self.operation,
            subject: self.subject.to_owned(),
            attempts: self.made,
            outcome_unknown,
            source: source.into(),
        }
    }

    pub(crate) fn setup(&self, advice: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Setup { operation: self.operation, subject: self.subject.to_owned(), advice, source: source.into() }
    }

    /// A read or an idempotent delete that failed: its outcome does not matter.
    pub(crate) fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match judge(&error) {
            Verdict::Again => self.unavailable(false, error),
            Verdict::Mend(advice) => self.setup(advice, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_is_mended_a_service_that_is_away_is_tried_again() {
        let missing = CredentialsError::not_loaded("no credentials found");
        let Verdict::Mend(advice) = judge_unsent(Some(&missing)) else { panic!() };
        assert!(advice.contains("AWS_ACCESS_KEY_ID") && advice.contains("AWS_REGION"), "{advice}");
        assert!(matches!(judge_unsent(None), Verdict::Mend(_)));
        let away = CredentialsError::provider_timed_out(std::time::Duration::from_secs(1));
        assert_eq!(judge_unsent(Some(&away)), Verdict::Again);
    }

    #[test]
    fn throttling_and_server_errors_are_tried_again_all_else_is_mended() {
        for code in ["ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError"] {
            assert_eq!(judge_answer(code, "", 400), Verdict::Again, "{code}");
        }
        assert_eq!(judge_answer("", "", 503), Verdict::Again);
        let Verdict::Mend(advice) = judge_answer("ResourceNotFoundException", "x", 400) else { panic!() };
        assert!(advice.contains("table create"), "{advice}");
        assert!(matches!(judge_answer("ValidationException", "", 400), Verdict::Mend(_)));
        assert!(matches!(judge_answer("AccessDeniedException", "", 400), Verdict::Mend(_)));
    }
}
