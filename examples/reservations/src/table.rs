//! The service's own table: which addresses have a reservation, and how many seats are free. One item for each.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, Delete, KeySchemaElement, KeyType, Put, ScalarAttributeType,
    TransactWriteItem, Update,
};
use streambox::{Client, StreamId};

const KEY: &str = "key";

/// The addresses. Their items are written in the transactions of the concerts, never alone.
#[derive(Clone, Debug)]
pub(crate) struct Emails {
    table: String,
}

impl Emails {
    pub(crate) fn new(table: impl Into<String>) -> Self {
        Self { table: table.into() }
    }

    /// Refused if the address has a reservation, for whatever concert.
    pub(crate) fn claim(&self, email: &str) -> TransactWriteItem {
        let claim = Put::builder()
            .table_name(&self.table)
            .item(KEY, email_key(email))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", KEY);
        TransactWriteItem::builder().put(claim.build().expect("it has a table and an item")).build()
    }

    pub(crate) fn release(&self, email: &str) -> TransactWriteItem {
        let release = Delete::builder().table_name(&self.table).key(KEY, email_key(email));
        TransactWriteItem::builder().delete(release.build().expect("it has a table and a key")).build()
    }
}

/// The read model, an item for each concert.
#[derive(Clone, Debug)]
pub(crate) struct FreeSeats {
    client: Client,
    table: String,
}

impl FreeSeats {
    pub(crate) fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Changes the number of free seats.
    pub(crate) fn add(&self, concert: &StreamId, change: i64) -> TransactWriteItem {
        let add = Update::builder()
            .table_name(&self.table)
            .key(KEY, free_key(concert))
            .update_expression("ADD free_seats :change")
            .expression_attribute_values(":change", AttributeValue::N(change.to_string()));
        TransactWriteItem::builder().update(add.build().expect("it has a table, a key and an expression")).build()
    }

    /// How many seats are free, as far as events have come. None if none has.
    pub(crate) async fn of(&self, concert: &StreamId) -> Result<Option<u64>, aws_sdk_dynamodb::Error> {
        let row = self.client.get_item().table_name(&self.table).key(KEY, free_key(concert)).send().await?.item;
        Ok(row.and_then(|row| row.get("free_seats")?.as_n().ok()?.parse().ok()))
    }
}

/// For local use; in the cloud a template does it.
pub(crate) async fn create(client: &Client, table: &str) -> Result<(), aws_sdk_dynamodb::Error> {
    let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder().attribute_name(KEY).attribute_type(ScalarAttributeType::S);
    let created = client
        .create_table()
        .table_name(table)
        .key_schema(key.build()?)
        .attribute_definitions(attribute.build()?)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await;
    match created.map_err(aws_sdk_dynamodb::Error::from) {
        Ok(_) | Err(aws_sdk_dynamodb::Error::ResourceInUseException(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn email_key(email: &str) -> AttributeValue {
    AttributeValue::S(format!("email#{email}"))
}

fn free_key(concert: &StreamId) -> AttributeValue {
    AttributeValue::S(format!("free#{concert}"))
}
