//! Items as another client may have written them: any key, any attribute, any value. For property tests.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    APPEND_FIRST, APPEND_ID, APPEND_LAST, BEAT, BODY, CHECKSUM, EVENT_TYPE, EVENTS, FIRST_VERSION, HALTED, IS_PRIVATE,
    Item, METADATA, PAYLOAD, PAYLOAD_ENCODING, PENDING_SINCE, PREVIOUS_AT, PREVIOUS_VERSION, PUBLIC_VERSIONS,
    RECORDED_AT, SCHEMA_VERSION, SKIPPED_AT, SKIPPED_FIRST, SKIPPED_KEY, SKIPPED_LAST, TAKEN_AT, VERSION, key,
};

const NAMES: [&str; 26] = [
    APPEND_FIRST,
    APPEND_ID,
    APPEND_LAST,
    BEAT,
    BODY,
    CHECKSUM,
    EVENT_TYPE,
    EVENTS,
    FIRST_VERSION,
    HALTED,
    IS_PRIVATE,
    METADATA,
    PAYLOAD,
    PAYLOAD_ENCODING,
    PENDING_SINCE,
    PREVIOUS_AT,
    PREVIOUS_VERSION,
    PUBLIC_VERSIONS,
    RECORDED_AT,
    SCHEMA_VERSION,
    SKIPPED_AT,
    SKIPPED_FIRST,
    SKIPPED_KEY,
    SKIPPED_LAST,
    TAKEN_AT,
    VERSION,
];

/// What is read as a number: around every limit, and what only looks like one.
fn digits() -> impl Strategy<Value = String> {
    let near = |number: i128| (-2..=2_i128).prop_map(move |off| (number + off).to_string());
    prop_oneof![
        near(1),
        near(99),
        near(1_000_000_000),
        near(i64::MAX.into()),
        near(u64::MAX.into()),
        near(i64::MIN.into()),
        select(vec!["+1", "1.5", "1E5", "99999999999999999999999999999999999999", "-0", ""]).prop_map(str::to_owned),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        select(vec!["{}", "[]", "{\"correlation_id\":1}", "zstd", "00000000-0000-0000-0000-000000000001"])
            .prop_map(str::to_owned),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let frame = |length| zstd::bulk::compress(&vec![b'0'; length], 1).expect("it compresses");
    prop_oneof![
        vec(any::<u8>(), 0..24),
        vec(any::<u8>(), 16),
        select(vec![frame(0), frame(100), frame(409_600), frame(10_000_000)])
    ]
}

pub(crate) fn value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        digits().prop_map(AttributeValue::N),
        texts().prop_map(AttributeValue::S),
        bytes().prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
        vec(texts(), 1..3).prop_map(AttributeValue::Ss),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(AttributeValue::L),
            vec((select(NAMES.to_vec()).prop_map(str::to_owned), inner), 0..6)
                .prop_map(|attributes| AttributeValue::M(attributes.into_iter().collect())),
        ]
    })
}

/// A sort key that begins with `prefix`: sound, nearly sound, or anything.
pub(crate) fn entity(prefix: &'static str) -> impl Strategy<Value = String> {
    let number = prop_oneof![1..4_u64, 98..102_u64, i64::MAX.unsigned_abs() - 1..=u64::MAX, Just(0)];
    let behind = prop_oneof![
        4 => number.clone().prop_map(|number| format!("{number:020}")),
        1 => number.clone().prop_map(|number| format!("+{number:019}")),
        1 => number.prop_map(|number| number.to_string()),
        1 => ".{0,24}",
    ];
    behind.prop_map(move |behind| format!("{prefix}{behind}"))
}

/// What `sound` gives, with some attributes altered, taken away or added, under another sort key now and then.
pub(crate) fn damaged(sound: Item, prefix: &'static str) -> impl Strategy<Value = Item> {
    let changes = vec((select(NAMES.to_vec()), option::weighted(0.8, value())), 0..5);
    (option::of(entity(prefix)), changes).prop_map(move |(entity, changes)| {
        let mut item = sound.clone();
        item.extend(entity.map(|entity| key("order-1", entity)).unwrap_or_default());
        for (name, value) in changes {
            match value {
                Some(value) => _ = item.insert(name.to_owned(), value),
                None => _ = item.remove(name),
            }
        }
        item
    })
}
