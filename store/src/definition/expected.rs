//! What a table has to be.

use aws_sdk_dynamodb::Client;

use super::{TableCheck, TableCreation, check, create};
use crate::{
    error::Error,
    schema::{ENTITY, OUTBOX_INDEX, PENDING_SINCE, RECORDED_AT, STREAM_ID, TAKEN_AT},
};

/// What a table has to be: two keys, and one sparse index that has keys alone.
///
/// Exhaustive: who defines a table says all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    /// Partition key and sort key, both S.
    pub keys: [&'static str; 2],
    /// Its index.
    pub index: IndexDefinition,
    /// Attributes that are times, by which DynamoDB must not delete items.
    pub times: &'static [&'static str],
}

/// What the index of a table has to be. It copies nothing but keys.
///
/// Exhaustive: who defines a table says all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexDefinition {
    /// Its name.
    pub name: &'static str,
    /// Its name in a sentence: ``the index `outbox` ``.
    pub title: &'static str,
    /// Its partition key (S) and its sort key (N). One of the table's own keys may be the partition key.
    pub keys: [&'static str; 2],
    /// What does not work without it, as a clause: `nothing is published`.
    pub without: &'static str,
}

impl TableDefinition {
    /// The table of an [`EventStore`](crate::EventStore).
    pub const EVENTS: Self = Self {
        keys: [STREAM_ID, ENTITY],
        index: IndexDefinition {
            name: OUTBOX_INDEX,
            title: "the index `outbox`",
            keys: [STREAM_ID, PENDING_SINCE],
            without: "nothing is published",
        },
        times: &[RECORDED_AT, PENDING_SINCE, TAKEN_AT],
    };

    /// Creates the table, on-demand, with its index, and waits until both are active. For development and tests.
    ///
    /// # Errors
    /// As [`create_table`](crate::create_table).
    pub async fn create(&self, client: &Client, table: &str) -> Result<TableCreation, Error> {
        create::create(self, client, table).await
    }

    /// Compares a table with this definition. Reads only.
    ///
    /// # Errors
    /// As [`check_table`](crate::check_table).
    pub async fn check(&self, client: &Client, table: &str) -> Result<TableCheck, Error> {
        check::check(self, client, table).await
    }
}
