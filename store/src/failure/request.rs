//! The errors of requests to tables beside the store's.

use std::error::Error as StdError;

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::TransactWriteItem,
};

use super::{Cancelled, FOR_NOW, Operation, RequestContext, Transactional, Verdict, own};
use crate::{
    error::{Error, Source},
    misconfiguration::Misconfiguration,
    table_definition::TableDefinition,
};

/// One operation on a table beside the store's, and what its errors mean: for crates that keep items of their own in such a table, as
/// the inbox of `streambox-consumer` is one. They judge the SDK's errors as the store does, and return them as [`Error`]s. It sends
/// nothing.
#[derive(Clone, Copy, Debug)]
pub struct TableRequest<'a>(Operation<'a>);

impl<'a> TableRequest<'a> {
    /// An operation that has sent nothing yet. `operation` and `subject` stand before each error: `park of order-1: …`.
    #[must_use]
    pub fn new(
        definition: &TableDefinition,
        client: &'a Client,
        table: &'a str,
        operation: &'static str,
        subject: &'a str,
    ) -> Self {
        Self(Operation::new(RequestContext::of(client, table, definition), operation, subject))
    }

    /// A request is sent.
    pub fn count_attempt(&mut self) {
        self.0.attempts += 1;
    }

    /// Whether the same request may succeed later: DynamoDB did not answer, had no capacity, or another transaction was in progress on one
    /// of the items. A condition that does not hold is not that.
    pub fn is_transient<E>(&self, error: &SdkError<E>) -> bool
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        self.0.judge(error) == Verdict::Transient
    }

    /// As [`is_transient`](Self::is_transient), of a transaction: whether all its reasons are. A condition that does not hold
    /// beside another transaction in progress says nothing: that one is being committed item by item, and it may be this very one, sent before.
    #[must_use]
    pub fn is_transaction_transient(&self, error: &SdkError<TransactWriteItemsError>) -> bool {
        let Some(reasons) = error.as_service_error().and_then(Transactional::reasons) else {
            return self.is_transient(error);
        };
        let codes = || reasons.iter().map(|reason| reason.code().unwrap_or(FOR_NOW[0]));
        let is_in_conflict = codes().any(|code| code == "TransactionConflict");
        codes().all(|code| FOR_NOW.contains(&code) || (is_in_conflict && code == "ConditionalCheckFailed"))
    }

    /// Whether a transaction was cancelled since a condition does not hold, and no item of it is refused for good.
    #[must_use]
    pub fn is_refused_by_condition(&self, error: &SdkError<TransactWriteItemsError>) -> bool {
        Cancelled::of(error) == Some(Cancelled::ConditionFailed)
    }

    /// The error of a request that is not sent again.
    #[must_use]
    pub fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        self.0.failed(error)
    }

    /// The error of a transaction that is not sent again, one of whose items is to blame that the caller's user has added (`own`, which
    /// stand behind `ours` others), or all of it. `is_table_there` is asked if DynamoDB refuses the request and does not say of
    /// which table it speaks.
    pub async fn transaction_failed(
        &self,
        error: SdkError<TransactWriteItemsError>,
        ours: usize,
        own: &[TransactWriteItem],
        is_table_there: impl Future<Output = bool>,
    ) -> Error {
        if let Some(reasons) = error.as_service_error().and_then(Transactional::reasons) {
            let code = |at: usize| reasons[at].code().unwrap_or(FOR_NOW[0]);
            let to_blame =
                (0..reasons.len()).find(|&at| !FOR_NOW.contains(&code(at)) && code(at) != "ConditionalCheckFailed");
            let Some(at) = to_blame else { return self.0.not_done(error) };
            let message = reasons[at].message().unwrap_or_default().to_owned();
            let code = code(at).to_owned();
            let problem = match at.checked_sub(ours).and_then(|position| own.get(position).map(|item| (position, item)))
            {
                Some((position, item)) => {
                    let what = format!("item {position} of the caller's own, {}", own::described(item));
                    Misconfiguration::Refused { what, code, message }
                }
                None => self.0.context.cancelled("the transaction".to_owned(), code, message),
            };
            return self.0.configuration(problem, error);
        }
        let code = error.code().unwrap_or_default().to_owned();
        let message = error.message().unwrap_or_default().to_owned();
        if code == "AccessDeniedException"
            && let Some(items) = own::of_table_in(&message, own)
        {
            return self.0.configuration(Misconfiguration::MissingPermissionOnItems { items, message }, error);
        }
        let is_of_items =
            ["ResourceNotFoundException", "ValidationException"].contains(&code.as_str()) && !own.is_empty();
        if is_of_items && is_table_there.await {
            let what = own::suspects(own, &message);
            return self.0.configuration(Misconfiguration::Refused { what, code, message }, error);
        }
        self.0.failed(error)
    }

    /// DynamoDB has not answered in time, or what it answered can't be used. `outcome_unknown`: a write may have been carried out.
    #[must_use]
    pub fn unavailable(&self, outcome_unknown: bool, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let source: Source = source.into();
        self.0.unavailable(outcome_unknown, source)
    }

    /// At each attempt the item was another one.
    #[must_use]
    pub fn busy(&self) -> Error {
        self.0.busy()
    }

    /// Checks items of the caller's user before they are sent in one transaction with `ours` items of `our_bytes` in this table: how many
    /// they are, what they put, and that none is in this table itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the limit, or the item.
    pub fn check_items(&self, own: &[TransactWriteItem], ours: usize, our_bytes: usize) -> Result<(), Error> {
        Ok(own::check(self.0.context.table, own, ours, our_bytes)?)
    }
}
