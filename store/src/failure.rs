//! What a failed request means for the caller: try again, or mend something first.

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
        SdkError::ConstructionFailure(_) => Verdict::Mend(
            "the request could not be built: set a region (AWS_REGION) and credentials (AWS_PROFILE, a role, \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
                .to_owned(),
        ),
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Verdict::Again,
        SdkError::DispatchFailure(failure) if failure.is_user() => Verdict::Mend(
            "the request could not be sent: check the credentials (AWS_PROFILE, a role, AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY) and the end point (AWS_ENDPOINT_URL_DYNAMODB)"
                .to_owned(),
        ),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            judge_answer(answer.err().code().unwrap_or_default(), answer.err().message().unwrap_or_default(), status)
        }
        _ => Verdict::Again,
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
