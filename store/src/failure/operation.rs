//! One operation, and the errors that it ends with.

use std::error::Error as StdError;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{transact_get_items::TransactGetItemsError, transact_write_items::TransactWriteItemsError},
    types::CancellationReason,
};

use super::{RequestContext, Verdict};
use crate::{
    error::{Error, Source},
    misconfiguration::Misconfiguration,
};

/// One operation on one subject, and how many requests it has sent: what an error reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) name: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) attempts: u32,
    pub(crate) context: RequestContext<'a>,
}

impl<'a> Operation<'a> {
    /// No request has been sent yet.
    pub(crate) fn new(context: RequestContext<'a>, name: &'static str, subject: &'a str) -> Self {
        Self { name, subject, attempts: 0, context }
    }

    /// An operation of one request.
    pub(crate) fn one(context: RequestContext<'a>, name: &'static str, subject: &'a str) -> Self {
        Self { attempts: 1, ..Self::new(context, name, subject) }
    }

    pub(crate) fn judge<E>(&self, error: &SdkError<E>) -> Verdict
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        self.context.judge(error)
    }

    pub(crate) fn unavailable(&self, outcome_unknown: bool, source: impl Into<Source>) -> Error {
        Error::Unavailable {
            operation: self.name,
            subject: self.subject.to_owned(),
            attempts: self.attempts,
            outcome_unknown,
            source: source.into(),
        }
    }

    pub(crate) fn busy(&self) -> Error {
        Error::Busy { operation: self.name, subject: self.subject.to_owned(), attempts: self.attempts }
    }

    pub(crate) fn configuration(&self, problem: Misconfiguration, source: impl Into<Source>) -> Error {
        Error::Configuration {
            operation: self.name,
            subject: self.subject.to_owned(),
            problem: Box::new(problem),
            source: source.into(),
        }
    }

    /// A transaction that failed, or was cancelled. A condition that does not hold is the caller's to judge.
    pub(crate) fn not_done<E>(&self, error: SdkError<E>) -> Error
    where
        E: Transactional + ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let Some(reasons) = error.as_service_error().and_then(E::reasons) else { return self.failed(error) };
        match Cancelled::by(reasons) {
            Cancelled::Throttled => {
                let codes: Vec<_> = reasons.iter().map(|reason| reason.code().unwrap_or("None")).collect();
                self.unavailable(false, format!("the transaction was cancelled: {}", codes.join(", ")))
            }
            Cancelled::Conflict | Cancelled::ConditionFailed => self.busy(),
            Cancelled::Refused { code, message } => {
                self.configuration(self.context.cancelled("the transaction".to_owned(), code, message), error)
            }
        }
    }

    /// A read or an idempotent delete that failed: its outcome does not matter.
    pub(crate) fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match self.judge(&error) {
            Verdict::Transient => self.unavailable(false, error),
            Verdict::Permanent(problem) => self.configuration(problem, error),
        }
    }
}

/// Why DynamoDB has cancelled a transaction, by all its reasons.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// A condition does not hold.
    ConditionFailed,
    /// For good.
    Refused { code: String, message: String },
    /// There is no capacity for the moment.
    Throttled,
    /// Another transaction is in progress on one of the items.
    Conflict,
}

/// An error of a transaction.
pub(crate) trait Transactional {
    /// Why DynamoDB has cancelled it, if it has: a reason for each item.
    fn reasons(&self) -> Option<&[CancellationReason]>;
}

impl Transactional for TransactWriteItemsError {
    fn reasons(&self) -> Option<&[CancellationReason]> {
        let Self::TransactionCanceledException(cancelled) = self else { return None };
        Some(cancelled.cancellation_reasons())
    }
}

impl Transactional for TransactGetItemsError {
    fn reasons(&self) -> Option<&[CancellationReason]> {
        let Self::TransactionCanceledException(cancelled) = self else { return None };
        Some(cancelled.cancellation_reasons())
    }
}

/// Codes of reasons that do not last: another transaction was under way, or capacity was short.
pub(crate) const FOR_NOW: [&str; 4] =
    ["None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

impl Cancelled {
    /// None if it failed in another way.
    pub(crate) fn of<E: Transactional>(error: &SdkError<E>) -> Option<Self> {
        error.as_service_error()?.reasons().map(Self::by)
    }

    fn by(reasons: &[CancellationReason]) -> Self {
        let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
        let has = |wanted: &str| reasons.iter().any(|reason| reason.code() == Some(wanted));
        if has("ConditionalCheckFailed") {
            return Self::ConditionFailed;
        }
        if let Some(reason) = reasons.iter().find(|reason| !FOR_NOW.contains(&code(reason).as_str())) {
            return Self::Refused { code: code(reason), message: reason.message().unwrap_or_default().to_owned() };
        }
        // Throttled beside a conflict is throttled: nothing is concluded from it.
        if has("TransactionConflict") && !has(FOR_NOW[2]) && !has(FOR_NOW[3]) {
            Self::Conflict
        } else {
            Self::Throttled
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_transaction_is_what_all_its_reasons_say() {
        let by = |codes: &[&str]| {
            let reason = |code: &&str| CancellationReason::builder().code(*code).build();
            Cancelled::by(&codes.iter().map(reason).collect::<Vec<_>>())
        };
        assert_eq!(by(&["None", "TransactionConflict"]), Cancelled::Conflict);
        for throttled in ["ThrottlingError", "ProvisionedThroughputExceeded"] {
            assert_eq!(by(&["None", throttled]), Cancelled::Throttled);
            assert_eq!(by(&["TransactionConflict", throttled]), Cancelled::Throttled, "nothing is concluded from it");
        }
        assert_eq!(by(&["TransactionConflict", "ConditionalCheckFailed"]), Cancelled::ConditionFailed);
        let refused = Cancelled::Refused { code: "ValidationError".to_owned(), message: String::new() };
        assert_eq!(by(&["ThrottlingError", "ValidationError"]), refused);
    }
}
