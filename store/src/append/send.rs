//! Sends one and the same request, with one token, until DynamoDB has stored or refused it.

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata as _, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::ReturnConsumedCapacity,
};
use futures_util::FutureExt as _;
use tokio::time::timeout_at;
use uuid::Uuid;

use super::{
    Appended,
    call::Call,
    cancelled::{self, Cancelled, Existing},
    prepare::{Request, Slot},
};
use crate::{
    error::{Error, ItemRefused},
    failure::{Transactional, Verdict, own},
    misconfiguration::Misconfiguration,
    observe::count,
    read,
    stream::StreamPosition,
};

/// What DynamoDB has decided.
pub(super) enum Answer {
    Stored(Vec<Appended>),
    /// Items are there already.
    Exist(Vec<Existing>),
}

impl Call<'_> {
    pub(super) async fn send(&mut self, positions: &[StreamPosition]) -> Result<Answer, Error> {
        let request = Request::new(self.table, self.append_id, self.parts, self.own, positions);
        let token = Uuid::new_v4().to_string();
        let mut backoff = Self::backoff();
        loop {
            self.operation.attempts += 1;
            count::request();
            let sent = self
                .table
                .client()
                .transact_write_items()
                .set_transact_items(Some(request.items()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .boxed();
            let error = match timeout_at(self.deadline, sent).await {
                Err(elapsed) => return Err(self.operation.unavailable(true, elapsed)),
                Ok(Ok(output)) => {
                    let write_units = output.consumed_capacity().iter().filter_map(|used| used.capacity_units).sum();
                    count::written(write_units, self.parts.iter().map(|part| part.events.len()).sum());
                    return Ok(Answer::Stored(request.results(write_units)));
                }
                Ok(Err(error)) => error,
            };
            if let Some(reasons) = error.as_service_error().and_then(Transactional::reasons) {
                match cancelled::judge(reasons, request.slots()) {
                    Cancelled::Exist(existing) => return Ok(Answer::Exist(existing)),
                    Cancelled::ItemRefused { position, item } => return Err(ItemRefused { position, item }.into()),
                    Cancelled::Transient => {}
                    Cancelled::Refused { slot, code, message } => {
                        let problem = self.refused(slot, code, message);
                        return Err(self.operation.configuration(problem, error));
                    }
                }
            } else {
                match self.operation.judge(&error) {
                    Verdict::Transient => self.outcome_unknown |= !is_refusal(&error),
                    Verdict::Permanent(problem) => {
                        let problem = self.blamed_on_own(&error).await.unwrap_or(problem);
                        return Err(self.operation.configuration(problem, error));
                    }
                }
            }
            let (streams, attempt) = (self.operation.subject, self.operation.attempts);
            tracing::debug!(streams, attempt, error = ?error.code(), "append is tried again");
            if timeout_at(self.deadline, backoff.wait()).await.is_err() {
                return Err(self.operation.unavailable(self.outcome_unknown, error));
            }
        }
    }

    /// What is wrong with a transaction that was cancelled for good.
    fn refused(&self, slot: Slot, code: String, message: String) -> Misconfiguration {
        if let Slot::Own { position } = slot {
            let what = format!("item {position} of the caller's own, {}", own::described(&self.own[position]));
            return Misconfiguration::Refused { what, code, message };
        }
        self.operation.context.cancelled(slot.to_string(), code, message)
    }

    /// DynamoDB names no item if it refuses a request as a whole. If the store's table can be read, an item of the caller's
    /// own is at fault. One request more, of a transaction that will not be stored.
    async fn blamed_on_own(&self, error: &SdkError<TransactWriteItemsError>) -> Option<Misconfiguration> {
        let (code, message) = (error.code()?, error.message().unwrap_or_default());
        if code == "AccessDeniedException" {
            let items = own::of_table_in(message, self.own)?;
            return Some(Misconfiguration::MissingPermissionOnItems { items, message: message.to_owned() });
        }
        let is_of_items = ["ResourceNotFoundException", "ValidationException"].contains(&code) && !self.own.is_empty();
        if !is_of_items || self.in_time(read::exists(self.table, &self.parts[0].stream)).await.is_err() {
            return None;
        }
        let what = own::suspects(self.own, message);
        Some(Misconfiguration::Refused { what, code: code.to_owned(), message: message.to_owned() })
    }
}

/// Whether DynamoDB has answered that it did not do it.
fn is_refusal(error: &SdkError<TransactWriteItemsError>) -> bool {
    matches!(error, SdkError::ServiceError(answer) if answer.raw().status().as_u16() < 500)
}
