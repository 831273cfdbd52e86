//! The caller's own items: what can be refused before they are sent, and which it is if DynamoDB refuses one of them without saying
//! so.

use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update};

use crate::{
    error::Invalid,
    limits::{MAX_ITEM_BYTES, MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ITEMS},
    schema::item_bytes,
};

/// What DynamoDB says if two operations of a transaction are on one item.
const SAME_ITEM: &str = "multiple operations on one item";

/// Stands before a table's name in its ARN.
const TABLE_OF_ARN: &str = ":table/";

/// The caller's own items in one transaction with `ours` items of `our_bytes` in `table`.
pub(crate) fn check(table: &str, own: &[TransactWriteItem], ours: usize, our_bytes: usize) -> Result<(), Invalid> {
    let items = ours + own.len();
    if items > MAX_TRANSACTION_ITEMS {
        return Err(Invalid::TooManyItems { limit: MAX_TRANSACTION_ITEMS, items });
    }
    let mut bytes = our_bytes;
    for (position, item) in own.iter().enumerate() {
        bytes += check_own(table, position, item)?;
    }
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(Invalid::AppendTooLarge { limit_bytes: MAX_TRANSACTION_BYTES, bytes });
    }
    Ok(())
}

/// One of the caller's own items. Returns the bytes of what it puts; of any other DynamoDB alone knows what it reads.
fn check_own(table: &str, position: usize, item: &TransactWriteItem) -> Result<usize, Invalid> {
    let refuse = |why| Err(Invalid::OwnItem { position, why });
    let tables = [
        item.put().map(Put::table_name),
        item.update().map(Update::table_name),
        item.delete().map(Delete::table_name),
        item.condition_check().map(ConditionCheck::table_name),
    ];
    let tables: Vec<_> = tables.into_iter().flatten().collect();
    let [name] = tables[..] else {
        return refuse("it must be exactly one of put, update, delete and condition check");
    };
    // A table may be named by its ARN.
    if name == table || name.rsplit_once(":table/").is_some_and(|(_, name)| name == table) {
        return refuse("it is in the table of streambox itself, which is for streambox's items alone; use another");
    }
    match item.put().map(|put| item_bytes(put.item())) {
        Some(bytes) if bytes > MAX_ITEM_BYTES => refuse("it has more than the 400 KB of an item"),
        bytes => Ok(bytes.unwrap_or_default()),
    }
}

/// What an own item does: operation and table.
pub(crate) fn described(item: &TransactWriteItem) -> String {
    let (operation, table) = operation(item);
    format!("{operation} in table {table}")
}

/// Which own items a refusal may mean, each by its position, operation and table.
pub(crate) fn suspects(own: &[TransactWriteItem], message: &str) -> String {
    let all: Vec<_> = own.iter().enumerate().collect();
    let suspects = if message.contains(SAME_ITEM) {
        let twice = |item: &TransactWriteItem| own.iter().filter(|other| is_same_item(item, other)).count() > 1;
        all.iter().copied().filter(|(_, item)| twice(item)).collect()
    } else {
        by_words(&all, message)
    };
    listed(if suspects.is_empty() { &all } else { &suspects })
}

/// The own items in the table whose ARN a message has, if there are any. The whole name counts: that of one table may be how another's
/// begins.
pub(crate) fn of_table_in(message: &str, own: &[TransactWriteItem]) -> Option<String> {
    let (_, behind) = message.split_once(TABLE_OF_ARN)?;
    let table = behind.split(|char: char| !(char.is_ascii_alphanumeric() || "_-.".contains(char))).next()?;
    // An item may name its table by ARN, too.
    let name = |item| operation(item).1.rsplit(TABLE_OF_ARN).next();
    let items: Vec<_> = own.iter().enumerate().filter(|(_, item)| name(item) == Some(table)).collect();
    (!items.is_empty()).then(|| listed(&items))
}

fn listed(items: &[(usize, &TransactWriteItem)]) -> String {
    let texts: Vec<_> = items.iter().map(|(position, item)| format!("item {position} ({})", described(item))).collect();
    match texts.as_slice() {
        [one] => format!("{one} of the caller's own"),
        several => format!("one of the caller's own: {}", several.join(", ")),
    }
}

/// Those whose expressions, attributes or table have a word of the message that not all have.
fn by_words<'a>(all: &[(usize, &'a TransactWriteItem)], message: &str) -> Vec<(usize, &'a TransactWriteItem)> {
    let words = message.split(|char: char| char.is_whitespace() || ",;()[]{}'\"".contains(char));
    let words = words.map(|word| word.trim_matches(['.', ':'].as_slice())).filter(|word| !word.is_empty());
    let with = |word: &str| -> Vec<_> {
        let has = |text: &str| {
            text.split(|char: char| char.is_whitespace() || "(),=<>.".contains(char))
                .any(|part| part == word || part.strip_prefix(':').is_some_and(|part| part == word))
        };
        all.iter().copied().filter(|(_, item)| texts(item).iter().any(|text| has(text))).collect()
    };
    // The last words are the names that it is about.
    let mut words: Vec<_> = words.collect();
    words.reverse();
    words.into_iter().map(with).find(|found| !found.is_empty() && found.len() < all.len()).unwrap_or_default()
}

/// What of an item a message may quote. Kinds of expressions stand by their names.
fn texts(item: &TransactWriteItem) -> Vec<String> {
    let mut texts = vec![operation(item).1.to_owned()];
    let expressions = [
        ("UpdateExpression", item.update().map(Update::update_expression)),
        ("ConditionExpression", item.put().and_then(Put::condition_expression)),
        ("ConditionExpression", item.update().and_then(Update::condition_expression)),
        ("ConditionExpression", item.delete().and_then(Delete::condition_expression)),
        ("ConditionExpression", item.condition_check().map(ConditionCheck::condition_expression)),
    ];
    for (kind, expression) in expressions {
        if let Some(expression) = expression {
            texts.extend([kind.to_owned(), expression.to_owned()]);
        }
    }
    texts
}

fn operation(item: &TransactWriteItem) -> (&'static str, &str) {
    if let Some(put) = item.put() {
        ("a put", put.table_name())
    } else if let Some(update) = item.update() {
        ("an update", update.table_name())
    } else if let Some(delete) = item.delete() {
        ("a delete", delete.table_name())
    } else if let Some(check) = item.condition_check() {
        ("a condition check", check.table_name())
    } else {
        // It is refused before anything is sent.
        ("nothing", "")
    }
}

/// Whether two operations are on one item, as far as that can be known without the table's keys: they are equal, or what one
/// puts has the other's key.
fn is_same_item(one: &TransactWriteItem, other: &TransactWriteItem) -> bool {
    let has = |item: &TransactWriteItem, name: &String, value: &AttributeValue| {
        attributes(item).is_some_and(|attributes| attributes.get(name) == Some(value))
    };
    let covers = |item: &TransactWriteItem, other: &TransactWriteItem| {
        attributes(other).is_some_and(|key| key.iter().all(|(name, value)| has(item, name, value)))
    };
    operation(one).1 == operation(other).1 && (covers(one, other) || covers(other, one))
}

type Attributes = std::collections::HashMap<String, AttributeValue>;

/// The key of an item, or, of a put, all of it.
fn attributes(item: &TransactWriteItem) -> Option<&Attributes> {
    None.or_else(|| item.put().map(Put::item))
        .or_else(|| item.update().map(Update::key))
        .or_else(|| item.delete().map(Delete::key))
        .or_else(|| item.condition_check().map(ConditionCheck::key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: &str, email: &str) -> TransactWriteItem {
        let put = Put::builder()
            .table_name(table)
            .item("email", AttributeValue::S(email.to_owned()))
            .item("customer", AttributeValue::S("customer-7".to_owned()))
            .condition_expression("attribute_not_exists(email)");
        TransactWriteItem::builder().put(put.build().unwrap()).build()
    }

    fn update(table: &str, email: &str, expression: &str) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(table)
            .key("email", AttributeValue::S(email.to_owned()))
            .update_expression(expression);
        TransactWriteItem::builder().update(update.build().unwrap()).build()
    }

    #[test]
    fn the_item_that_a_refusal_is_about_is_named_by_position_operation_and_table() {
        let own = [
            put("emails", "a@example.org"),
            update("counts", "b@example.org", "SET name = :name"),
            update("counts", "c@example.org", "SET total = :total, #broken"),
            update("emails", "a@example.org", "SET total = :total"),
        ];
        for (message, expected) in [
            (
                "Invalid UpdateExpression: Attribute name is a reserved keyword; reserved keyword: name",
                "item 1 (an update in table counts) of the caller's own",
            ),
            (
                "Invalid ConditionExpression: Syntax error; token: \"x\", near: \"y\"",
                "item 0 (a put in table emails) of the caller's own",
            ),
            (
                "An expression attribute name used in the document path is not defined; attribute name: #broken",
                "item 2 (an update in table counts) of the caller's own",
            ),
            (
                "Requested resource not found: Table: counts not found",
                "one of the caller's own: item 1 (an update in table counts), item 2 (an update in table counts)",
            ),
            (
                "Transaction request cannot include multiple operations on one item",
                "one of the caller's own: item 0 (a put in table emails), item 3 (an update in table emails)",
            ),
        ] {
            assert_eq!(suspects(&own, message), expected, "{message}");
        }
        assert!(suspects(&own, "Requested resource not found").contains("item 0 (a put in table emails), item 1"));
        assert_eq!(suspects(&own[..1], "a riddle"), "item 0 (a put in table emails) of the caller's own");
    }

    #[test]
    fn a_permission_is_missing_for_the_own_items_in_that_very_table() {
        const ARN: &str = "arn:aws:dynamodb:eu-central-1:111122223333:table/counts";
        let own = [put("count", "a"), put("counts", "b"), put("emails", "c"), put(ARN, "d")];
        let denied = |resource: &str| {
            let message = format!(
                "not authorized to perform: dynamodb:PutItem on resource: {resource} because no policy allows it"
            );
            of_table_in(&message, &own)
        };
        let expected =
            format!("one of the caller's own: item 1 (a put in table counts), item 3 (a put in table {ARN})");
        assert_eq!(denied(ARN), Some(expected));
        // The store's own tables, whose names begin as those of own items do.
        for store in ["counts-store", "counts.eu", "counts2", "coun"] {
            assert_eq!(denied(&ARN.replace("counts", store)), None, "{store}");
        }
        assert_eq!(of_table_in("not authorized", &own), None);
    }
}
