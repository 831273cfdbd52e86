//! What a failed request means for the caller: try again, or correct the configuration first.
//!
//! - `operation.rs`: one operation, and the errors that it ends with.
//! - `request.rs`: the same for the tables of other crates.
//! - `denied.rs` reads IAM's messages, `unsent.rs` the errors of requests that were not sent; `own.rs` says which item of the
//!   caller's own DynamoDB means.

mod denied;
mod operation;
pub(crate) mod own;
mod request;
mod unsent;

use std::error::Error as StdError;

use aws_sdk_dynamodb::{
    Client,
    config::Region,
    error::{ProvideErrorMetadata, SdkError},
};

pub(crate) use self::operation::{Cancelled, FOR_NOW, Operation, Transactional};
pub use self::request::TableRequest;
use crate::{misconfiguration::Misconfiguration, table_definition::TableDefinition};

/// What to do after a failed request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may work later. Whether DynamoDB did it already is not known.
    Transient,
    /// It will fail again until this has been corrected.
    Permanent(Misconfiguration),
}

/// The context of a request: to which table, in which Region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) table: &'a str,
    pub(crate) region: Option<&'a str>,
    pub(crate) definition: TableDefinition,
}

impl<'a> RequestContext<'a> {
    /// Of a request to the store's table.
    pub(crate) fn new(client: &'a Client, table: &'a str) -> Self {
        Self::of(client, table, &TableDefinition::EVENTS)
    }

    pub(crate) fn of(client: &'a Client, table: &'a str, definition: &TableDefinition) -> Self {
        Self { table, region: client.config().region().map(Region::as_ref), definition: *definition }
    }

    fn judge<E>(&self, error: &SdkError<E>) -> Verdict
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::ConstructionFailure(_) => Verdict::Permanent(unsent::not_sent(error)),
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
        let said = (code.to_owned(), message.to_owned());
        let is_of_clock =
            ["Signature expired", "Signature not yet current"].iter().any(|words| message.contains(words));
        Verdict::Permanent(match code {
            "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "ThrottlingException"
            | "InternalServerError"
            | "ReplicatedWriteConflictException"
            | "TransactionConflictException"
            | "TransactionInProgressException" => return Verdict::Transient,
            "ResourceNotFoundException" => {
                Misconfiguration::MissingTable { table: self.table.to_owned(), region: self.region.map(str::to_owned) }
            }
            "AccessDeniedException" => denied::permission(message, self.table),
            "RequestTimeTooSkewed" | "InvalidSignatureException" if is_of_clock || code == "RequestTimeTooSkewed" => {
                Misconfiguration::WrongClock { code: said.0, message: said.1 }
            }
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => {
                Misconfiguration::RejectedCredentials { code: said.0, message: said.1 }
            }
            // The index is being built.
            "ValidationException" if message.contains("backfilling") => return Verdict::Transient,
            "ValidationException" => self.invalid("the request".to_owned(), code, message),
            _ if status >= 500 => return Verdict::Transient,
            _ => Misconfiguration::Refused { what: "the request".to_owned(), code: said.0, message: said.1 },
        })
    }

    /// What DynamoDB says if the request does not fit the table.
    fn invalid(&self, what: String, code: &str, message: &str) -> Misconfiguration {
        const OF_KEYS: [&str; 6] = [
            "key element does not match",
            "missed key schema element",
            "Missing the key",
            "Type mismatch for key",
            "Query key condition not supported",
            "required keys was not given a value",
        ];
        let (table, says) = (self.table.to_owned(), |words: &[&str]| words.iter().any(|words| message.contains(words)));
        let message = message.to_owned();
        if says(&["does not have the specified index"]) {
            Misconfiguration::MissingIndex { table, index: self.definition.index }
        } else if says(&["tableName", "TableName", "table/index name"]) {
            Misconfiguration::InvalidTableName { table, message }
        } else if says(&OF_KEYS) {
            Misconfiguration::WrongKeySchema { table, keys: self.definition.keys, message }
        } else {
            Misconfiguration::Refused { what, code: code.to_owned(), message }
        }
    }

    /// What is wrong if a transaction, or `what` of it, was cancelled for good for this reason.
    pub(crate) fn cancelled(&self, what: String, code: String, message: String) -> Misconfiguration {
        let verdict = match code.as_str() {
            "AccessDenied" | "AccessDeniedException" => self.answer("AccessDeniedException", &message, 400),
            "ResourceNotFound" => self.answer("ResourceNotFoundException", &message, 400),
            "ValidationError" if !message.is_empty() => Verdict::Permanent(self.invalid(what.clone(), &code, &message)),
            _ => Verdict::Transient,
        };
        match verdict {
            Verdict::Permanent(problem) => problem,
            Verdict::Transient => Misconfiguration::Refused { what, code, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: TableDefinition = TableDefinition::EVENTS;
    const CONTEXT: RequestContext<'_> =
        RequestContext { table: "orders", region: Some("eu-west-1"), definition: EVENTS };

    fn problem(code: &str, message: &str) -> Misconfiguration {
        match CONTEXT.answer(code, message, 400) {
            Verdict::Permanent(problem) => problem,
            Verdict::Transient => panic!("{code}: {message} is tried again"),
        }
    }

    #[test]
    fn throttling_and_server_errors_are_transient_all_else_is_a_wrong_configuration() {
        for code in ["ThrottlingException", "TransactionConflictException", "InternalServerError"] {
            assert_eq!(CONTEXT.answer(code, "", 400), Verdict::Transient, "{code}");
        }
        assert_eq!(CONTEXT.answer("", "", 503), Verdict::Transient);
        let backfilling = "Cannot read from backfilling global secondary index: outbox";
        assert_eq!(CONTEXT.answer("ValidationException", backfilling, 400), Verdict::Transient);
        for code in ["ValidationException", "SomethingNewException"] {
            let refused = problem(code, "because");
            assert!(matches!(refused, Misconfiguration::Refused { .. }), "{refused:?}");
            assert_eq!(refused.to_string(), format!("DynamoDB refuses the request ({code}: because)"));
        }
        let expired = problem("ExpiredTokenException", "");
        assert!(matches!(expired, Misconfiguration::RejectedCredentials { .. }), "{expired:?}");
        let early = "Signature not yet current: 20261126T050000Z is still later than 20261126T040500Z (20261126T040000Z + 5 min.)";
        for (code, message) in [
            (
                "InvalidSignatureException",
                "Signature expired: 20261126T030000Z is now earlier than 20261126T035500Z (…)",
            ),
            ("InvalidSignatureException", early),
            ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ] {
            let clock = problem(code, message);
            assert_eq!(clock, Misconfiguration::WrongClock { code: code.to_owned(), message: message.to_owned() });
            let clock = clock.to_string();
            assert!(clock.contains("this machine's clock is wrong") && clock.contains(message), "{clock}");
        }
        let key = problem("InvalidSignatureException", "The request signature we calculated does not match");
        assert!(matches!(key, Misconfiguration::RejectedCredentials { .. }), "{key:?}");
    }

    #[test]
    fn a_table_that_is_missing_or_another_one_is_named_with_its_region() {
        let missing = problem("ResourceNotFoundException", "Requested resource not found");
        let (table, region) = ("orders".to_owned(), Some("eu-west-1".to_owned()));
        assert_eq!(missing, Misconfiguration::MissingTable { table: table.clone(), region });
        assert!(missing.to_string().contains("no table orders in Region eu-west-1"), "{missing}");
        let index = problem("ValidationException", "The table does not have the specified index: outbox");
        assert_eq!(index, Misconfiguration::MissingIndex { table: table.clone(), index: EVENTS.index });
        for message in [
            "The provided key element does not match the schema",
            "Query condition missed key schema element: id",
            "One or more parameter values were invalid: Missing the key id in the item",
        ] {
            let keys = problem("ValidationException", message);
            assert_eq!(
                keys,
                Misconfiguration::WrongKeySchema {
                    table: table.clone(),
                    keys: EVENTS.keys,
                    message: message.to_owned()
                }
            );
            assert!(keys.to_string().contains("`stream_id` and `entity`"), "{keys}");
        }
    }

    #[test]
    fn the_reasons_of_a_cancelled_transaction_mean_what_they_mean_of_any_other_request() {
        let cancelled = |code: &str, message: &str| {
            CONTEXT.cancelled("the transaction".to_owned(), code.to_owned(), message.to_owned())
        };
        let keys =
            cancelled("ValidationError", "One or more parameter values were invalid: Missing the key id in the item");
        assert!(matches!(keys, Misconfiguration::WrongKeySchema { .. }), "{keys:?}");
        let denied = cancelled("AccessDenied", "User: u is not authorized to perform: dynamodb:PutItem on resource: r");
        assert!(matches!(denied, Misconfiguration::MissingPermission { .. }), "{denied:?}");
        assert!(matches!(cancelled("ResourceNotFound", ""), Misconfiguration::MissingTable { .. }));
        let size = cancelled("ItemCollectionSizeLimitExceeded", "");
        assert!(size.to_string().contains("the transaction (ItemCollectionSizeLimitExceeded"), "{size}");
    }
}
