//! Creates the table, for development and tests.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
        ScalarAttributeType, TableStatus,
    },
};

use crate::{
    error::Error,
    failure::{Operation, RequestContext},
    retry::Backoff,
    table_definition::{IndexDefinition, TableDefinition},
};

/// The longest to wait for a new table to become active.
pub const CREATE_TABLE_TIMEOUT: Duration = Duration::from_mins(1);

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Whether [`create_table`] has created the table.
///
/// Exhaustive: it has or it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableCreation {
    /// The table is new.
    Created,
    /// A table of this name was there. It was left as it is.
    Existed,
}

/// Creates the table, on-demand, with its index, and waits until both are active. For development and tests.
///
/// # Errors
/// [`Error::Configuration`] if DynamoDB refuses it, [`Error::Unavailable`] if it does not answer or the table is not active
/// within [`CREATE_TABLE_TIMEOUT`].
pub async fn create_table(client: &Client, table: &str) -> Result<TableCreation, Error> {
    create(&TableDefinition::EVENTS, client, table).await
}

async fn create(definition: &TableDefinition, client: &Client, table: &str) -> Result<TableCreation, Error> {
    let mut operation = Operation::one(RequestContext::of(client, table, definition), "create table", table);
    let ([partition, sort], index) = (definition.keys, definition.index);
    let created = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(key_schema(partition, sort)))
        .attribute_definitions(attribute(partition, ScalarAttributeType::S))
        .attribute_definitions(attribute(sort, ScalarAttributeType::S))
        .attribute_definitions(attribute(index.keys[1], ScalarAttributeType::N))
        .global_secondary_indexes(with_keys_only(index))
        .send()
        .await;
    let outcome = match created {
        Ok(_) => TableCreation::Created,
        Err(error) => match error.as_service_error() {
            Some(CreateTableError::ResourceInUseException(_)) => TableCreation::Existed,
            _ => return Err(operation.failed(error)),
        },
    };
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    let active = async {
        while !is_active(client, table, &mut operation).await? {
            backoff.wait().await;
        }
        Ok(outcome)
    };
    match tokio::time::timeout(CREATE_TABLE_TIMEOUT, active).await {
        Ok(outcome) => outcome,
        Err(elapsed) => Err(operation.unavailable(false, elapsed)),
    }
}

async fn is_active(client: &Client, table: &str, operation: &mut Operation<'_>) -> Result<bool, Error> {
    operation.attempts += 1;
    let output = client.describe_table().table_name(table).send().await.map_err(|error| operation.failed(error))?;
    Ok(output.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active))
}

fn key_schema(partition: &str, sort: &str) -> Vec<KeySchemaElement> {
    let element = |name: &str, role| {
        KeySchemaElement::builder().attribute_name(name).key_type(role).build().expect("a key has a name and a role")
    };
    vec![element(partition, KeyType::Hash), element(sort, KeyType::Range)]
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(kind)
        .build()
        .expect("an attribute has a name and a type")
}

fn with_keys_only(index: IndexDefinition) -> GlobalSecondaryIndex {
    GlobalSecondaryIndex::builder()
        .index_name(index.name)
        .set_key_schema(Some(key_schema(index.keys[0], index.keys[1])))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .expect("an index has a name and keys")
}

impl TableDefinition {
    /// Creates the table, on-demand, with its index, and waits until both are active. For development and tests.
    ///
    /// # Errors
    /// As [`create_table`].
    pub async fn create(&self, client: &Client, table: &str) -> Result<TableCreation, Error> {
        create(self, client, table).await
    }
}
