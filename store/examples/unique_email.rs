//! A value that must be unique over all streams: an e-mail address is reserved in the transaction that registers the
//! customer. Either both are stored, or neither.
//!
//! `cargo run -p streambox --features testing-engine --example unique_email`

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put,
    ReturnValuesOnConditionCheckFailure::AllOld, ScalarAttributeType, TransactWriteItem,
};
use streambox::{Client, Error, EventStore, ExpectedVersion, NewEvent, StreamId, testing::EmbeddedDynamoDb};

/// The service's own table: one item for each address that is taken.
const RESERVATIONS: &str = "email-reservations";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = EmbeddedDynamoDb::start().await;
    create_reservations(&engine.client()).await?;
    let store = engine.event_store().await;

    for (id, email) in
        [("customer-1", "ann@example.org"), ("customer-2", "bob@example.org"), ("customer-3", "Ann@example.org")]
    {
        match register(&store, &StreamId::new(id)?, email).await? {
            Registration::Done => println!("{id} is registered as {email}"),
            Registration::Taken { by } => println!("{id} is not registered: {email} belongs to {by}"),
        }
    }
    let third = StreamId::new("customer-3")?;
    assert!(!store.exists(&third).await?, "a refused registration leaves no event");
    Ok(())
}

enum Registration {
    Done,
    Taken { by: String },
}

async fn register(
    store: &EventStore,
    customer: &StreamId,
    email: &str,
) -> Result<Registration, Box<dyn std::error::Error>> {
    let registered = NewEvent::json("CustomerRegistered", &serde_json::json!({ "email": email }))?;
    let committed = store
        .transaction()
        .append(customer, ExpectedVersion::NoStream, [registered])
        .item(reserve(email, customer)?)
        .commit()
        .await;
    match committed {
        Ok(_) => Ok(Registration::Done),
        Err(Error::ItemRefused(refused)) => {
            // The item that is there says who has the address.
            let by = refused.item.as_ref().and_then(|item| item.get("customer")?.as_s().ok().cloned());
            Ok(Registration::Taken { by: by.unwrap_or_default() })
        }
        Err(error) => Err(error.into()),
    }
}

fn reserve(email: &str, customer: &StreamId) -> Result<TransactWriteItem, aws_sdk_dynamodb::error::BuildError> {
    let reservation = Put::builder()
        .table_name(RESERVATIONS)
        // What counts as the same address is the service's decision.
        .item("email", AttributeValue::S(email.to_lowercase()))
        .item("customer", AttributeValue::S(customer.to_string()))
        .condition_expression("attribute_not_exists(email)")
        .return_values_on_condition_check_failure(AllOld)
        .build()?;
    Ok(TransactWriteItem::builder().put(reservation).build())
}

async fn create_reservations(client: &Client) -> Result<(), aws_sdk_dynamodb::Error> {
    client
        .create_table()
        .table_name(RESERVATIONS)
        .key_schema(KeySchemaElement::builder().attribute_name("email").key_type(KeyType::Hash).build()?)
        .attribute_definitions(
            AttributeDefinition::builder().attribute_name("email").attribute_type(ScalarAttributeType::S).build()?,
        )
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await?;
    Ok(())
}
