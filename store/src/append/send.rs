//! Sends one and the same request, with one token, until DynamoDB has stored or refused it.

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata as _, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ReturnConsumedCapacity},
};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::{
    Appended,
    call::Call,
    cancelled::{self, Cancelled, Existing},
    own,
    prepare::{Request, Slot},
};
use crate::{
    error::{Error, ItemRefused},
    failure::Verdict,
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
        let mut delays = self.delays();
        loop {
            self.operation.attempts += 1;
            let sent = self
                .table
                .client()
                .transact_write_items()
                .set_transact_items(Some(request.items()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            let error = match timeout_at(self.deadline, sent).await {
                Err(elapsed) => return Err(self.operation.unavailable(true, elapsed)),
                Ok(Ok(output)) => {
                    let write_units = output.consumed_capacity().iter().filter_map(|used| used.capacity_units).sum();
                    return Ok(Answer::Stored(request.results(write_units)));
                }
                Ok(Err(error)) => error,
            };
            if let Some(reasons) = cancellation_reasons(&error) {
                match cancelled::judge(reasons, request.slots()) {
                    Cancelled::Exist(existing) => return Ok(Answer::Exist(existing)),
                    Cancelled::ItemRefused { position, item } => return Err(ItemRefused { position, item }.into()),
                    Cancelled::Transient => {}
                    Cancelled::Refused { slot, code, message } => {
                        let advice = self.refused(slot, &code, &message);
                        return Err(self.operation.configuration(advice, error));
                    }
                }
            } else {
                match self.operation.judge(&error) {
                    Verdict::Transient => self.outcome_unknown |= !is_refusal(&error),
                    Verdict::Permanent(advice) => {
                        let advice = self.blamed_on_own(&error).await.unwrap_or(advice);
                        return Err(self.operation.configuration(advice, error));
                    }
                }
            }
            let (streams, attempt) = (self.operation.subject, self.operation.attempts);
            tracing::debug!(streams, attempt, error = ?error.code(), "append is tried again");
            if timeout_at(self.deadline, delays.wait()).await.is_err() {
                return Err(self.operation.unavailable(self.outcome_unknown, error));
            }
        }
    }

    /// What to do about a transaction that was cancelled for good.
    fn refused(&self, slot: Slot, code: &str, message: &str) -> String {
        if let Slot::Own { position } = slot {
            let what = own::described(&self.own[position]);
            return format!("DynamoDB refuses item {position} of the caller's own, {what}: {code}: {message}");
        }
        let advice = self.operation.context.cancelled(code, message);
        advice.unwrap_or_else(|| format!("DynamoDB refuses the transaction: {slot}: {code}: {message}"))
    }

    /// DynamoDB names no item where it refuses a request as a whole. If the store's table can be read, an item of the caller's
    /// own is at fault. One request more, of a transaction that will not be stored.
    async fn blamed_on_own(&self, error: &SdkError<TransactWriteItemsError>) -> Option<String> {
        let (code, message) = (error.code()?, error.message().unwrap_or_default());
        if code == "AccessDeniedException" {
            let denied = own::of_table_in(message, self.own)?;
            return Some(format!(
                "a permission is missing for {denied}: grant it to the program's role in a policy of your own, since those of \
                 infra/roles.yaml are for the store's table ({message})"
            ));
        }
        let is_of_items = ["ResourceNotFoundException", "ValidationException"].contains(&code) && !self.own.is_empty();
        if !is_of_items || self.in_time(read::exists(self.table, &self.parts[0].stream)).await.is_err() {
            return None;
        }
        Some(format!("DynamoDB refuses {}: {code}: {message}", own::suspects(self.own, message)))
    }
}

/// Whether DynamoDB has answered that it did not do it.
fn is_refusal(error: &SdkError<TransactWriteItemsError>) -> bool {
    matches!(error, SdkError::ServiceError(answer) if answer.raw().status().as_u16() < 500)
}

fn cancellation_reasons(error: &SdkError<TransactWriteItemsError>) -> Option<&[CancellationReason]> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            Some(cancelled.cancellation_reasons())
        }
        _ => None,
    }
}
