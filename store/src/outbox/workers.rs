//! The rows of a relay group: one for each worker, which it alone writes, in a partition of their own.
//!
//! A row is a heartbeat, and what `status` shows of the worker. It is put without a condition and has at most 1 KB, one write
//! unit, or 4 KB while streams are halted; no write of a group is ever refused. Who is alive is decided by the readers of the rows.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::{Outbox, WorkerId, WorkerRow};
use crate::{
    error::Error,
    schema::{self, RELAY_PARTITION, WORKER_PREFIX},
    table::SortKeys,
};

impl Outbox {
    /// Writes a worker's row, whatever stood there before: one write unit.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn put_worker(&self, row: &WorkerRow) -> Result<(), Error> {
        let operation = self.table.request("write the heartbeat", row.id.as_str());
        self.table
            .client()
            .put_item()
            .table_name(self.table.name())
            .set_item(Some(schema::worker_item(row)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        Ok(())
    }

    /// The rows of all workers, strongly consistent, by their ids: one read unit for each 4 KB, at least one.
    ///
    /// A row says what its worker has written last, not that it is alive. What can't be read of a row (a newer version
    /// may write it otherwise) is empty or 0.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, Error> {
        let operation = self.table.request("read the workers", self.table.name());
        let query = self.table.query(RELAY_PARTITION, SortKeys::BeginWith(WORKER_PREFIX));
        let (mut rows, mut from) = (Vec::new(), None);
        loop {
            let page = match query.clone().set_exclusive_start_key(from).send().await {
                Ok(page) => page,
                Err(error) => return Err(self.unless_being_built(&operation, error).await),
            };
            rows.extend(page.items.unwrap_or_default().into_iter().filter_map(schema::read_worker));
            match page.last_evaluated_key {
                Some(key) if !key.is_empty() => from = Some(key),
                _ => return Ok(rows),
            }
        }
    }

    /// Removes a worker's row. A row that no longer exists is not an error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers; the row may be removed all the same.
    pub async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error> {
        let operation = self.table.request("remove the worker", id.as_str());
        self.table
            .client()
            .delete_item()
            .table_name(self.table.name())
            .set_key(Some(schema::key(RELAY_PARTITION, schema::worker_key(id.as_str()))))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| operation.failed(error))?;
        Ok(())
    }
}
