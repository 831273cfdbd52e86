//! Sends a conditional write until DynamoDB has done or refused it.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata as _, SdkError},
    operation::{
        transact_write_items::{TransactWriteItemsError, builders::TransactWriteItemsFluentBuilder},
        update_item::{UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder},
    },
};
use futures_util::FutureExt as _;
use streambox::{Error, TableRequest};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Inbox, schema::Item};
use crate::retry::Backoff;

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Exponentially growing, jittered waiting times.
pub(super) struct Delays(Backoff);

impl Delays {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self(Backoff::new(first, longest))
    }

    pub(super) fn of_writes() -> Self {
        Self::new(FIRST_DELAY, LONGEST_DELAY)
    }

    /// Waits for the next, longer time.
    pub(super) async fn wait(&mut self) {
        sleep(self.0.next(fastrand::f64())).await;
    }
}

/// What DynamoDB has decided about a conditional update.
#[expect(clippy::large_enum_variant, reason = "it is looked at once and dropped")]
pub(super) enum Updated {
    Done(UpdateItemOutput),
    /// The condition does not hold for this item; none if there is none, or DynamoDB was not asked to return it.
    Refused(Option<Item>),
}

impl Inbox {
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.operation_timeout
    }

    /// A repeat after a lost answer may meet the condition that its first attempt has changed: then it is refused.
    pub(super) async fn update(
        &self,
        mut request: TableRequest<'_>,
        update: UpdateItemFluentBuilder,
    ) -> Result<Updated, Error> {
        let (deadline, mut delays) = (self.deadline(), Delays::of_writes());
        loop {
            request.count_attempt();
            let error = match timeout_at(deadline, update.clone().send().boxed()).await {
                Err(elapsed) => return Err(request.unavailable(true, elapsed)),
                Ok(Ok(output)) => return Ok(Updated::Done(output)),
                Ok(Err(error)) => error,
            };
            if let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = error.as_service_error() {
                return Ok(Updated::Refused(refused.item().filter(|item| !item.is_empty()).cloned()));
            }
            if !request.is_transient(&error) {
                return Err(request.failed(error));
            }
            tracing::debug!(attempt_error = ?error.code(), "write to the inbox is tried again");
            if timeout_at(deadline, delays.wait()).await.is_err() {
                return Err(request.failed(error));
            }
        }
    }

    /// Sends one and the same transaction, with one token, until it is done, or refused for another reason than another transaction or
    /// missing capacity. `token`: given by the caller, so that a repeat of DynamoDB's first answer is one.
    pub(super) async fn transact(
        &self,
        request: &mut TableRequest<'_>,
        transaction: &TransactWriteItemsFluentBuilder,
    ) -> Result<Result<(), SdkError<TransactWriteItemsError>>, Error> {
        let (deadline, mut delays) = (self.deadline(), Delays::of_writes());
        loop {
            request.count_attempt();
            let error = match timeout_at(deadline, transaction.clone().send().boxed()).await {
                Err(elapsed) => return Err(request.unavailable(true, elapsed)),
                Ok(Ok(_)) => return Ok(Ok(())),
                Ok(Err(error)) => error,
            };
            if !request.is_transaction_transient(&error) {
                return Ok(Err(error));
            }
            tracing::debug!(attempt_error = ?error.code(), "transaction of the inbox is tried again");
            if timeout_at(deadline, delays.wait()).await.is_err() {
                return Ok(Err(error));
            }
        }
    }
}
