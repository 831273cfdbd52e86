//! The visibility check: what is known about the append before a pending entry.

use aws_sdk_dynamodb::types::{Get, ReturnConsumedCapacity, TransactGetItem};
use futures_util::FutureExt as _;

use super::Outbox;
use crate::{
    error::Error,
    failure::Cancelled,
    schema::{self, ENTITY, Item},
    stream::StreamId,
};

/// What is known about the entry before a pending entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Predecessor {
    /// Its last event is there and it is not: everything of it has been published.
    Published,
    /// It is there, though the Query before did not show it.
    Pending,
    /// Neither its last event nor itself is there: it is not visible yet, or somebody has erased it.
    Missing,
    /// Another transaction is under way on them. Ask again later.
    Unsettled,
}

impl Outbox {
    /// Verifies the entry before another one, which ends with version `last`, by a serializable read of that event and of the entry.
    ///
    /// A consistent `Query` sees a transaction item by item, so that an append's pending entry may stay invisible for a
    /// moment in which the next append's is there. This read is serialized with the transactions themselves.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Configuration`] as DynamoDB answers.
    pub async fn predecessor(&self, stream: &StreamId, last: u64) -> Result<Predecessor, Error> {
        let operation = self.table.request("read the append before", stream.as_str());
        let get = |entity| transact_get(self.table.name(), schema::key(stream.as_str(), entity));
        let answer = self
            .table
            .client()
            .transact_get_items()
            .transact_items(get(schema::event_key(last)))
            .transact_items(get(schema::pending_key(last)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .boxed()
            .await;
        let output = match answer {
            Ok(output) => output,
            // A read that was throttled says nothing about the append: it is repeated like any other.
            Err(error) if Cancelled::of(&error) == Some(Cancelled::Conflict) => return Ok(Predecessor::Unsettled),
            Err(error) => return Err(operation.not_done(error)),
        };
        let there = |place: usize| {
            output.responses().get(place).and_then(|response| response.item()).is_some_and(|item| !item.is_empty())
        };
        Ok(match (there(0), there(1)) {
            (_, true) => Predecessor::Pending,
            (true, false) => Predecessor::Published,
            (false, false) => Predecessor::Missing,
        })
    }
}

fn transact_get(table: &str, key: Item) -> TransactGetItem {
    let get = Get::builder()
        .table_name(table)
        .set_key(Some(key))
        .projection_expression(ENTITY)
        .build()
        .expect("a get has a table and a key");
    TransactGetItem::builder().get(get).build()
}
