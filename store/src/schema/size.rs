//! How DynamoDB counts the bytes of an item. Source: "DynamoDB item sizes and formats" (AWS).

use aws_sdk_dynamodb::types::AttributeValue;

use super::Item;

/// The bytes that DynamoDB counts for an item: names and values.
pub(crate) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    // Lists and maps cost three bytes, and one more for each element.
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => number_bytes(digits),
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + value_bytes(value)).sum::<usize>(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() + value_bytes(value)).sum::<usize>()
        }
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|digits| number_bytes(digits)).sum(),
        AttributeValue::Bs(blobs) => blobs.iter().map(|blob| blob.as_ref().len()).sum(),
        _ => 1,
    }
}

/// The most that a 64-bit number takes.
pub(crate) const WIDEST_NUMBER_BYTES: usize = 11;

/// One byte for two digits, one more for the exponent, one for a sign.
fn number_bytes(digits: &str) -> usize {
    let sign = usize::from(digits.starts_with('-'));
    let digits = digits.len() - sign;
    digits.div_ceil(2) + 1 + sign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_counts_names_and_values() {
        let item = Item::from([
            ("stream_id".to_owned(), AttributeValue::S("order-1".to_owned())), // 9 + 7
            ("last_version".to_owned(), AttributeValue::N("123".to_owned())),  // 12 + 3
        ]);
        assert_eq!(item_bytes(&item), 31);
    }

    #[test]
    fn lists_and_maps_count_their_overhead() {
        let map = AttributeValue::M([("a".to_owned(), AttributeValue::S("xy".to_owned()))].into());
        assert_eq!(value_bytes(&map), 3 + 1 + 1 + 2);
        assert_eq!(value_bytes(&AttributeValue::L(vec![map])), 3 + 1 + 7);
    }

    #[test]
    fn text_counts_bytes_not_characters() {
        assert_eq!(value_bytes(&AttributeValue::S("Straße".to_owned())), 7);
    }
}
