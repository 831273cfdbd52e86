//! A read model that is never behind: a customer's open orders and their sum, updated in the transaction that appends the
//! event. For queries that must see what was just written; all other read models are better fed from the queue.
//!
//! `cargo run -p streambox --features testing-engine --example read_model`

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TransactWriteItem, Update,
};
use streambox::{Client, EventStore, ExpectedVersion, NewEvent, StreamId, testing::EmbeddedDynamoDb};

/// The service's own table: one item for each customer.
const OPEN_ORDERS: &str = "open-orders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = EmbeddedDynamoDb::start().await;
    let client = engine.client();
    create_open_orders(&client).await?;
    let store = engine.event_store().await;

    for (order, total_cents) in [("order-1", 4990), ("order-2", 1250), ("order-3", 800)] {
        place(&store, &StreamId::new(order)?, "customer-7", total_cents).await?;
    }
    cancel(&store, &StreamId::new("order-2")?, "customer-7", 1250).await?;

    let (orders, cents) = open_orders(&client, "customer-7").await?;
    println!("customer-7 has {orders} open orders of {cents} cents");
    Ok(())
}

async fn place(
    store: &EventStore,
    order: &StreamId,
    customer: &str,
    total_cents: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    let data = serde_json::json!({ "customer": customer, "total_cents": total_cents });
    let placed = NewEvent::json("OrderPlaced", &data)?;
    let row = count_order(customer, 1, total_cents)?;
    store.transaction().append(order, ExpectedVersion::NoStream, [placed]).item(row).commit().await?;
    Ok(())
}

async fn cancel(
    store: &EventStore,
    order: &StreamId,
    customer: &str,
    total_cents: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    let position = store.position(order).await?;
    let cancelled = NewEvent::json("OrderCancelled", &())?;
    let row = count_order(customer, -1, -total_cents)?;
    store.transaction().append(order, ExpectedVersion::At(position), [cancelled]).item(row).commit().await?;
    Ok(())
}

/// Because the row changes with the event or not at all, adding is enough: nothing is counted twice, however often the
/// transaction is sent.
fn count_order(
    customer: &str,
    orders: i64,
    cents: i64,
) -> Result<TransactWriteItem, aws_sdk_dynamodb::error::BuildError> {
    let update = Update::builder()
        .table_name(OPEN_ORDERS)
        .key("customer", AttributeValue::S(customer.to_owned()))
        .update_expression("ADD orders :orders, cents :cents")
        .expression_attribute_values(":orders", AttributeValue::N(orders.to_string()))
        .expression_attribute_values(":cents", AttributeValue::N(cents.to_string()))
        .build()?;
    Ok(TransactWriteItem::builder().update(update).build())
}

async fn open_orders(client: &Client, customer: &str) -> Result<(i64, i64), Box<dyn std::error::Error>> {
    let row = client
        .get_item()
        .table_name(OPEN_ORDERS)
        .key("customer", AttributeValue::S(customer.to_owned()))
        .consistent_read(true)
        .send()
        .await?
        .item
        .unwrap_or_default();
    let number = |name: &str| row.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default();
    Ok((number("orders"), number("cents")))
}

async fn create_open_orders(client: &Client) -> Result<(), aws_sdk_dynamodb::Error> {
    client
        .create_table()
        .table_name(OPEN_ORDERS)
        .key_schema(KeySchemaElement::builder().attribute_name("customer").key_type(KeyType::Hash).build()?)
        .attribute_definitions(
            AttributeDefinition::builder().attribute_name("customer").attribute_type(ScalarAttributeType::S).build()?,
        )
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await?;
    Ok(())
}
