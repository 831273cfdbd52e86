//! IAM policies: what DynamoDB asks IAM for a request, and what a policy answers.
//!
//! Only as much as the policies of `infra` use; what they would use beyond that is an error, so that nothing is judged by
//! half. Written after the IAM User Guide (evaluation logic, condition operators, multivalued keys) and the developer guide
//! of DynamoDB (fine-grained access control, transactions).

use std::collections::BTreeSet;

use serde_json::Value;

/// The account and region of all ARNs here.
const TABLES: &str = "arn:aws:dynamodb:us-east-1:111122223333:table/";

/// A table's ARN.
#[must_use]
pub fn table_arn(table: &str) -> String {
    format!("{TABLES}{table}")
}

/// What IAM is asked: may this be done?
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The action, `dynamodb:PutItem` for instance.
    pub action: String,
    /// What it is done to.
    pub resource: String,
    /// `dynamodb:LeadingKeys`: the partition keys that a request names.
    pub leading_keys: Vec<String>,
    /// `dynamodb:EnclosingOperation`: the transaction that it is a part of.
    pub enclosing_operation: Option<String>,
    /// `dynamodb:Attributes`: the attributes that a request names.
    pub attributes: BTreeSet<String>,
}

/// What DynamoDB asks IAM before it carries out a request. A transaction is not an action of its own: each part of it is
/// asked for as the operation on one item that it is. A batch write is one action, whatever is in it.
///
/// # Panics
/// If it is not a DynamoDB request that is known here.
#[must_use]
pub fn accesses(operation: &str, request: &Value) -> Vec<Access> {
    match operation {
        "TransactWriteItems" | "TransactGetItems" => {
            let parts = request["TransactItems"].as_array().expect("a transaction has items");
            let part = |part: &Value| {
                let (kind, item) = part.as_object().and_then(|part| part.iter().next()).expect("a part has a kind");
                let action = match kind.as_str() {
                    "ConditionCheck" => "ConditionCheckItem".to_owned(),
                    kind => format!("{kind}Item"),
                };
                Access { enclosing_operation: Some(operation.to_owned()), ..on_items(&action, item, &[item]) }
            };
            parts.iter().map(part).collect()
        }
        "BatchWriteItem" => {
            let tables = request["RequestItems"].as_object().expect("a batch has tables");
            let table = |(table, writes): (&String, &Value)| {
                let writes = writes.as_array().expect("a table has writes");
                let writes: Vec<_> = writes.iter().filter_map(|write| write.as_object()?.values().next()).collect();
                on_items(operation, &serde_json::json!({ "TableName": table }), &writes)
            };
            tables.iter().map(table).collect()
        }
        "BatchGetItem" => {
            let tables = request["RequestItems"].as_object().expect("a batch has tables");
            let table = |(table, read): (&String, &Value)| {
                let keys: Vec<_> = read["Keys"].as_array().expect("a table has keys").iter().collect();
                let keys: Vec<_> = keys.into_iter().map(|key| serde_json::json!({ "Key": key })).collect();
                on_items(operation, &serde_json::json!({ "TableName": table }), &keys.iter().collect::<Vec<_>>())
            };
            tables.iter().map(table).collect()
        }
        "Query" | "Scan" => {
            let index = request["IndexName"].as_str().map_or(String::new(), |index| format!("/index/{index}"));
            let access = on_items(operation, request, &[]);
            vec![Access { resource: access.resource + &index, ..access }]
        }
        "GetItem" | "PutItem" | "UpdateItem" | "DeleteItem" => vec![on_items(operation, request, &[request])],
        "DescribeTable" | "DescribeContinuousBackups" | "DescribeTimeToLive" => vec![on_items(operation, request, &[])],
        other => panic!("what IAM is asked for {other} is not known here"),
    }
}

fn on_items(action: &str, request: &Value, items: &[&Value]) -> Access {
    let item = |item: &&Value| item.get("Item").or_else(|| item.get("Key")).and_then(Value::as_object).cloned();
    let items: Vec<_> = items.iter().map(|named| item(named).expect("an item or a key")).collect();
    let key = |item: &serde_json::Map<String, Value>| item["stream_id"]["S"].as_str().expect("a stream id").to_owned();
    Access {
        action: format!("dynamodb:{action}"),
        resource: table_arn(request["TableName"].as_str().expect("a table")),
        leading_keys: items.iter().map(key).collect(),
        enclosing_operation: None,
        attributes: items.iter().flat_map(|item| item.keys().cloned()).collect(),
    }
}

/// A policy's statements.
#[derive(Clone, Debug)]
pub struct Policy(Vec<Statement>);

#[derive(Clone, Debug)]
struct Statement {
    id: String,
    actions: Vec<String>,
    resources: Vec<String>,
    /// Operator, key, values.
    conditions: Vec<(String, String, Vec<String>)>,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// # Panics
    /// If it has something that this does not know, a denial for instance.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        assert_eq!(document["Version"], "2012-10-17", "another language of policies");
        Self(texts_or_one(&document["Statement"]).iter().map(Statement::of).collect())
    }

    /// The statement that allows something, by its id; `None` where none does.
    #[must_use]
    pub fn allows(&self, access: &Access) -> Option<&str> {
        self.0.iter().find(|statement| statement.allows(access)).map(|statement| statement.id.as_str())
    }

    /// All that is granted: statement and action.
    #[must_use]
    pub fn grants(&self) -> BTreeSet<(String, String)> {
        let grants = |statement: &Statement| {
            let id = statement.id.clone();
            statement.actions.clone().into_iter().map(move |action| (id.clone(), action))
        };
        self.0.iter().flat_map(grants).collect()
    }
}

impl Statement {
    fn of(statement: &Value) -> Self {
        let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
        let fields = statement.as_object().expect("a statement is a map");
        assert!(fields.keys().all(|field| known.contains(&field.as_str())), "{statement} has what is not known here");
        assert_eq!(statement["Effect"], "Allow", "{statement}");
        let conditions = statement["Condition"].as_object().into_iter().flatten();
        let conditions = conditions.flat_map(|(operator, keys)| {
            let keys = keys.as_object().expect("an operator has keys");
            keys.iter().map(|(key, values)| (operator.clone(), key.clone(), texts(values)))
        });
        Self {
            id: statement["Sid"].as_str().expect("a statement has an id").to_owned(),
            actions: texts(&statement["Action"]),
            resources: texts(&statement["Resource"]),
            conditions: conditions.collect(),
        }
    }

    fn allows(&self, access: &Access) -> bool {
        self.actions.iter().any(|action| is_like(action, &access.action))
            && self.resources.iter().any(|resource| is_like(resource, &access.resource))
            && self.conditions.iter().all(|(operator, key, values)| {
                let found = access.values(key);
                match operator.as_str() {
                    "ForAnyValue:StringEquals" => found.iter().any(|found| values.contains(found)),
                    // Also true if the request has no such key, which is why `Null` stands beside it.
                    "ForAllValues:StringEquals" => found.iter().all(|found| values.contains(found)),
                    "ForAllValues:StringNotLike" => {
                        found.iter().all(|found| !values.iter().any(|pattern| is_like(pattern, found)))
                    }
                    "Null" => values.iter().any(|value| value == &found.is_empty().to_string()),
                    other => panic!("the condition operator {other} is not known here"),
                }
            })
    }
}

impl Access {
    fn values(&self, key: &str) -> Vec<String> {
        match key {
            "dynamodb:LeadingKeys" => self.leading_keys.clone(),
            "dynamodb:EnclosingOperation" => self.enclosing_operation.iter().cloned().collect(),
            "dynamodb:Attributes" => self.attributes.iter().cloned().collect(),
            other => panic!("the condition key {other} is not known here"),
        }
    }
}

/// What a policy says as one text or as a list.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    texts_or_one(value).iter().map(text).collect()
}

fn texts_or_one(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// Whether a text is like a pattern, in which `*` stands for any text and `?` for any character.
fn is_like(pattern: &str, text: &str) -> bool {
    let (Some(first), rest) = (pattern.chars().next(), pattern.chars().skip(1).collect::<String>()) else {
        return text.is_empty();
    };
    let mut tail = text.chars();
    match first {
        '*' => is_like(&rest, text) || (tail.next().is_some() && is_like(pattern, tail.as_str())),
        '?' => tail.next().is_some() && is_like(&rest, tail.as_str()),
        first => tail.next() == Some(first) && is_like(&rest, tail.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_are_matched() {
        for (pattern, text, matches) in [
            ("$*", "$relay", true),
            ("$*", "order-$", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
        ] {
            assert_eq!(is_like(pattern, text), matches, "{pattern} {text}");
        }
    }

    fn allows(condition: &Value, access: &Access) -> bool {
        let statement = json!({
            "Sid": "S", "Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": "t", "Condition": condition,
        });
        let policy = Policy::of(&json!({ "Version": "2012-10-17", "Statement": [statement] }));
        let access = Access { action: "dynamodb:PutItem".to_owned(), resource: "t".to_owned(), ..access.clone() };
        policy.allows(&access).is_some()
    }

    #[test]
    fn a_key_that_a_request_does_not_have_satisfies_for_all_values_and_not_for_any_value() {
        let none = Access::default();
        assert!(allows(&json!({ "ForAllValues:StringEquals": { "dynamodb:LeadingKeys": ["a"] } }), &none));
        assert!(!allows(&json!({ "Null": { "dynamodb:LeadingKeys": "false" } }), &none));
        assert!(!allows(&json!({ "ForAnyValue:StringEquals": { "dynamodb:EnclosingOperation": ["T"] } }), &none));
    }

    #[test]
    fn all_of_several_values_have_to_satisfy_for_all_values() {
        let keys = |keys: &[&str]| Access {
            leading_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..Access::default()
        };
        let equals = json!({ "ForAllValues:StringEquals": { "dynamodb:LeadingKeys": ["a", "b"] } });
        let not_like = json!({ "ForAllValues:StringNotLike": { "dynamodb:LeadingKeys": "$*" } });
        assert!(allows(&equals, &keys(&["a", "b"])) && !allows(&equals, &keys(&["a", "c"])));
        assert!(allows(&not_like, &keys(&["a", "b"])) && !allows(&not_like, &keys(&["a", "$b"])));
    }

    #[test]
    fn a_transaction_is_asked_for_part_by_part_and_a_batch_as_a_whole() {
        let key = |stream: &str| json!({ "stream_id": { "S": stream }, "entity": { "S": "e" } });
        let parts = json!([
            { "Put": { "TableName": "t", "Item": key("a") } },
            { "ConditionCheck": { "TableName": "u", "Key": key("b") } },
        ]);
        let asked = accesses("TransactWriteItems", &json!({ "TransactItems": parts }));
        let short: Vec<_> = asked.iter().map(|access| (access.action.as_str(), access.resource.as_str())).collect();
        let (t, u) = (table_arn("t"), table_arn("u"));
        assert_eq!(short, [("dynamodb:PutItem", t.as_str()), ("dynamodb:ConditionCheckItem", u.as_str())]);
        assert!(asked.iter().all(|access| access.enclosing_operation.as_deref() == Some("TransactWriteItems")));

        let put = json!({ "stream_id": { "S": "b" }, "entity": { "S": "e" }, "payload": { "S": "p" } });
        let writes = json!([{ "DeleteRequest": { "Key": key("a") } }, { "PutRequest": { "Item": put } }]);
        let asked = accesses("BatchWriteItem", &json!({ "RequestItems": { "t": writes } }));
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].leading_keys, ["a", "b"]);
        assert!(asked[0].attributes.contains("payload"));
    }
}
