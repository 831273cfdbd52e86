//! Items as they stand in a table, in DynamoDB's own JSON: put there past the library, and looked at.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use serde_json::Value;

use crate::engine::TestTable;

/// An item.
pub type Item = HashMap<String, AttributeValue>;

/// An item of DynamoDB's JSON (`{"stream_id": {"S": "order-1"}, …}`).
///
/// # Panics
/// If it is none.
#[must_use]
pub fn item(json: &Value) -> Item {
    let attributes = json.as_object().expect("an item is an object");
    attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

/// The value of an attribute.
///
/// # Panics
/// If it is none, or of a type that streambox does not use.
#[must_use]
pub fn attribute(json: &Value) -> AttributeValue {
    let (kind, value) = json.as_object().and_then(|object| object.iter().next()).expect("a type and a value");
    let text = || value.as_str().expect("a text").to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "B" => AttributeValue::B(Blob::new(aws_smithy_types::base64::decode(text()).expect("base 64"))),
        "BOOL" => AttributeValue::Bool(value.as_bool().expect("true or false")),
        "L" => AttributeValue::L(value.as_array().expect("a list").iter().map(attribute).collect()),
        "M" => AttributeValue::M(item(value)),
        "SS" => AttributeValue::Ss(
            value.as_array().expect("a set").iter().map(|one| one.as_str().expect("a text").to_owned()).collect(),
        ),
        other => panic!("streambox has no attribute of type {other}"),
    }
}

/// The type of an attribute in DynamoDB's JSON: `S`, `N` …
///
/// # Panics
/// If it is not an attribute.
#[must_use]
pub fn kind(json: &Value) -> &str {
    json.as_object().and_then(|object| object.keys().next()).expect("a type and a value")
}

/// Puts an item into a table, past the library.
///
/// # Panics
/// If the engine does not take it.
pub async fn put(table: &TestTable, item: Item) {
    let put = table.client().put_item().table_name(&table.name).set_item(Some(item));
    put.send().await.expect("the engine takes the item");
}
