//! The write units that DynamoDB reports for what a client writes.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::AfterDeserializationInterceptorContextRef},
    error::BoxError,
    operation::{transact_write_items::TransactWriteItemsOutput, update_item::UpdateItemOutput},
    types::ConsumedCapacity,
};
use streambox::Client;

/// A sum. A clone is the same sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteUnits(Arc<Mutex<f64>>);

impl WriteUnits {
    /// The same client, whose writes are counted from now on.
    pub(crate) fn of(&self, client: &Client) -> Client {
        Client::from_conf(client.config().to_builder().interceptor(self.clone()).build())
    }

    /// What was counted so far.
    pub(crate) fn sum(&self) -> f64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for WriteUnits {
    fn name(&self) -> &'static str {
        "streambox_demo::WriteUnits"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else { return Ok(()) };
        let used = if let Some(output) = output.downcast_ref::<TransactWriteItemsOutput>() {
            output.consumed_capacity()
        } else if let Some(output) = output.downcast_ref::<UpdateItemOutput>() {
            output.consumed_capacity().map(std::slice::from_ref).unwrap_or_default()
        } else {
            return Ok(());
        };
        let units: f64 = used.iter().filter_map(ConsumedCapacity::capacity_units).sum();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += units;
        Ok(())
    }
}
