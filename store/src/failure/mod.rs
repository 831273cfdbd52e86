//! What a failed request means for the caller: try again, or mend something first, told in one sentence.
//!
//! `unsent.rs`: what keeps a request from being sent. `denied.rs`: permissions.

mod denied;
mod unsent;

use std::error::Error as StdError;

use aws_sdk_dynamodb::{
    Client,
    config::Region,
    error::{ProvideErrorMetadata, SdkError},
    types::CancellationReason,
};

use crate::{
    error::Error,
    role::Role,
    schema::{ENTITY, OUTBOX_INDEX, STREAM_ID},
};

/// What to do after a failed request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may work later. Whether DynamoDB did it already is not known.
    Transient,
    /// It will fail again until this has been corrected.
    Permanent(String),
}

const WRONG_CLOCK: &str = "this machine's clock is wrong, and AWS refuses a request whose time is more than some minutes off: set it by NTP \
                           (on AWS: the Amazon Time Sync Service)";

/// The context of a request, which advice depends on: who sends it, to which table, in which Region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) role: Role,
    pub(crate) table: &'a str,
    pub(crate) region: Option<&'a str>,
}

impl<'a> RequestContext<'a> {
    pub(crate) fn new(client: &'a Client, table: &'a str, role: Role) -> Self {
        Self { role, table, region: client.config().region().map(Region::as_ref) }
    }

    fn judge<E>(&self, error: &SdkError<E>) -> Verdict
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::ConstructionFailure(_) => Verdict::Permanent(unsent::advice(error)),
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Verdict::Transient,
            // The search for credentials, which may have failed for the moment only.
            SdkError::DispatchFailure(failure) => {
                let is_transient = failure.as_other().is_some();
                unsent::judge(failure.as_connector_error().map(|error| error as _), is_transient, self.region.is_some())
            }
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                self.answer(answer.err().code().unwrap_or_default(), answer.err().message().unwrap_or_default(), status)
            }
            _ => Verdict::Transient,
        }
    }

    fn answer(&self, code: &str, message: &str, status: u16) -> Verdict {
        let Self { table, role, .. } = *self;
        let permanent = |advice: &str| Verdict::Permanent(format!("{advice} ({code}: {message})"));
        match code {
            "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "ThrottlingException"
            | "InternalServerError"
            | "ReplicatedWriteConflictException"
            | "TransactionInProgressException" => Verdict::Transient,
            "ResourceNotFoundException" => Verdict::Permanent(self.no_table()),
            "AccessDeniedException" => Verdict::Permanent(denied::advice(message, role, table)),
            "RequestTimeTooSkewed" => permanent(WRONG_CLOCK),
            // Between the words stands the time by which the request was signed, behind them the one of AWS.
            "InvalidSignatureException"
                if ["Signature expired", "Signature not yet current"].iter().any(|words| message.contains(words)) =>
            {
                permanent(WRONG_CLOCK)
            }
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => {
                permanent("the credentials are not accepted: renew them, and see whether this machine's clock is right")
            }
            "ValidationException" => self.invalid(message),
            _ if status >= 500 => Verdict::Transient,
            _ => permanent("DynamoDB refuses the request"),
        }
    }

    fn no_table(&self) -> String {
        let region = self.region.map_or_else(String::new, |region| format!(" in Region {region}"));
        format!(
            "there is no table {}{region}: check its name and AWS_REGION, or create it by infra/table.yaml (for development, \
             `streambox table create`)",
            self.table
        )
    }

    /// What DynamoDB says where the request does not fit the table.
    fn invalid(&self, message: &str) -> Verdict {
        let table = self.table;
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        if says(&["backfilling"]) {
            // The index is being built.
            return Verdict::Transient;
        }
        if says(&["does not have the specified index"]) {
            return Verdict::Permanent(format!(
                "table {table} has no index `{OUTBOX_INDEX}`, and without it nothing is published: deploy infra/table.yaml, or \
                 add what `streambox table check` names"
            ));
        }
        if says(&["tableName", "TableName", "table/index name"]) {
            return Verdict::Permanent(format!(
                "DynamoDB does not take {table:?} for a table's name: check it ({message})"
            ));
        }
        let of_keys = [
            "key element does not match",
            "missed key schema element",
            "Missing the key",
            "Type mismatch for key",
            "Query key condition not supported",
            "required keys was not given a value",
        ];
        if says(&of_keys) {
            return Verdict::Permanent(format!(
                "table {table} has other keys than `{STREAM_ID}` and `{ENTITY}` (both S), which can't be changed (`streambox table \
                 check` shows them): name another table, or create one by infra/table.yaml ({message})"
            ));
        }
        Verdict::Permanent(format!(
            "DynamoDB refuses the request: compare the table with what is expected (`streambox table check`) \
             (ValidationException: {message})"
        ))
    }

    /// What to do about a transaction that was cancelled for good, by one of its reasons.
    pub(crate) fn cancelled(&self, code: &str, message: &str) -> Option<String> {
        let verdict = match code {
            "AccessDenied" | "AccessDeniedException" => self.answer("AccessDeniedException", message, 400),
            "ResourceNotFound" => Verdict::Permanent(self.no_table()),
            "ValidationError" if !message.is_empty() => self.invalid(message),
            _ => return None,
        };
        match verdict {
            Verdict::Permanent(advice) => Some(advice),
            Verdict::Transient => None,
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
    /// Another transaction is under way on one of the items.
    Conflict,
}

impl Cancelled {
    pub(crate) fn by(reasons: &[CancellationReason]) -> Self {
        const FOR_NOW: [&str; 4] = ["None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
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

/// One operation on one subject, and how many requests it has sent: what an error reports.
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

    pub(crate) fn unavailable(
        &self,
        outcome_unknown: bool,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
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

    pub(crate) fn configuration(&self, advice: String, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::Configuration { operation: self.name, subject: self.subject.to_owned(), advice, source: source.into() }
    }

    /// A transaction that was cancelled, for what it is. A condition that does not hold is the caller's to judge.
    pub(crate) fn cancelled(
        &self,
        reasons: &[CancellationReason],
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        match Cancelled::by(reasons) {
            Cancelled::Throttled => {
                let codes: Vec<_> = reasons.iter().map(|reason| reason.code().unwrap_or("None")).collect();
                self.unavailable(false, format!("the transaction was cancelled: {}", codes.join(", ")))
            }
            Cancelled::Conflict | Cancelled::ConditionFailed => self.busy(),
            Cancelled::Refused { code, message } => {
                let advice = self.context.cancelled(&code, &message);
                self.configuration(
                    advice.unwrap_or_else(|| format!("DynamoDB refuses the transaction: {code}: {message}")),
                    source,
                )
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
            Verdict::Permanent(advice) => self.configuration(advice, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: RequestContext<'_> =
        RequestContext { role: Role::Writer, table: "orders", region: Some("eu-west-1") };

    fn advice(code: &str, message: &str) -> String {
        match CONTEXT.answer(code, message, 400) {
            Verdict::Permanent(advice) => advice,
            Verdict::Transient => panic!("{code}: {message} is tried again"),
        }
    }

    #[test]
    fn throttling_and_server_errors_are_tried_again_all_else_is_mended() {
        for code in ["ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError"] {
            assert_eq!(CONTEXT.answer(code, "", 400), Verdict::Transient, "{code}");
        }
        assert_eq!(CONTEXT.answer("", "", 503), Verdict::Transient);
        let backfilling = "Cannot read from backfilling global secondary index: outbox";
        assert_eq!(CONTEXT.answer("ValidationException", backfilling, 400), Verdict::Transient);
        assert!(advice("ValidationException", "").contains("table check"));
        assert!(advice("SomethingNewException", "because").contains("(SomethingNewException: because)"));
        assert!(advice("ExpiredTokenException", "").contains("clock"));
        let early = "Signature not yet current: 20261126T050000Z is still later than 20261126T040500Z (20261126T040000Z + 5 min.)";
        for (code, message) in [
            (
                "InvalidSignatureException",
                "Signature expired: 20261126T030000Z is now earlier than 20261126T035500Z (…)",
            ),
            ("InvalidSignatureException", early),
            ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ] {
            let clock = advice(code, message);
            assert!(clock.contains("this machine's clock is wrong") && clock.contains(message), "{clock}");
            assert!(!clock.contains("credentials"), "{clock}");
        }
        let key = advice("InvalidSignatureException", "The request signature we calculated does not match");
        assert!(key.contains("credentials"), "{key}");
    }

    #[test]
    fn a_table_that_is_missing_or_another_one_is_named_with_its_region_and_what_to_do() {
        let missing = advice("ResourceNotFoundException", "Requested resource not found");
        assert!(
            missing.contains("no table orders in Region eu-west-1") && missing.contains("table create"),
            "{missing}"
        );
        let index = advice("ValidationException", "The table does not have the specified index: outbox");
        assert!(index.contains("no index `outbox`") && index.contains("infra/table.yaml"), "{index}");
        for message in [
            "The provided key element does not match the schema",
            "Query condition missed key schema element: id",
            "One or more parameter values were invalid: Missing the key id in the item",
        ] {
            let keys = advice("ValidationException", message);
            assert!(keys.contains("`stream_id` and `entity`") && keys.contains(message), "{keys}");
        }
    }

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

    #[test]
    fn the_reasons_of_a_cancelled_transaction_are_told_as_those_of_any_other_request() {
        let keys = CONTEXT
            .cancelled("ValidationError", "One or more parameter values were invalid: Missing the key id in the item");
        assert!(keys.is_some_and(|advice| advice.contains("other keys")));
        let denied =
            CONTEXT.cancelled("AccessDenied", "User: u is not authorized to perform: dynamodb:PutItem on resource: r");
        assert!(denied.is_some_and(|advice| advice.contains("WriterPolicy")));
        assert_eq!(CONTEXT.cancelled("ItemCollectionSizeLimitExceeded", ""), None);
    }
}
