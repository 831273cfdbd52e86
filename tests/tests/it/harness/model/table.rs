//! The table, item by item, against the model.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use proptest::{prop_assert, prop_assert_eq};
use streambox::{StreamId, Uuid};
use streambox_tests::engine::TestTable;

use super::{
    history::{Append, History, Stored},
    world::{EVENT_TYPE, Result},
};

type Item = HashMap<String, AttributeValue>;

/// Every event item that was ever there, by stream and sort key.
pub(crate) type Seen = BTreeMap<(String, String), Item>;

pub(crate) fn event_key(version: u64) -> String {
    format!("event#{version:020}")
}

/// Every item that has to be there is, as it has to be; nothing else is; and no event has changed since it was first seen.
pub(crate) async fn check(
    table: &TestTable,
    streams: impl Iterator<Item = (&StreamId, &History)>,
    seen: &mut Seen,
) -> Result {
    let mut items = scan(table, None).await;
    let mut in_index = scan(table, Some("outbox")).await;
    for (stream, history) in streams {
        for (event, version) in history.events.iter().zip(1..) {
            let key = (stream.to_string(), event_key(version));
            let item = items.remove(&key);
            prop_assert!(item.is_some(), "{key:?} is missing");
            let item = item.expect("it is there");
            check_event(&item, event, history.public_before(version))?;
            let before = seen.entry(key).or_insert_with(|| item.clone());
            prop_assert_eq!(&*before, &item, "an event has changed");
        }
        for &last in &history.pending {
            let key = (stream.to_string(), format!("pending#{last:020}"));
            let item = items.remove(&key);
            prop_assert!(item.is_some(), "{key:?} is missing");
            check_entry(&item.expect("it is there"), history, last)?;
            prop_assert!(in_index.remove(&key).is_some(), "{key:?} is not in the index");
        }
    }
    prop_assert!(items.is_empty(), "nobody has written {:?}", items.keys());
    prop_assert!(in_index.is_empty(), "nobody has written {:?}", in_index.keys());
    Ok(())
}

fn check_event(item: &Item, event: &Stored, before: Option<(u64, i64)>) -> Result {
    let Append { id, first, last, recorded_at_ms, .. } = event.append;
    prop_assert_eq!(uuid(item, "append_id"), Some(id));
    let range = if first < last { (Some(first), Some(last)) } else { (None, None) };
    prop_assert_eq!((number(item, "append_first"), number(item, "append_last")), range);
    prop_assert_eq!(number(item, "recorded_at"), u64::try_from(recorded_at_ms).ok());
    check_previous(item, before.filter(|_| event.is_private))?;
    check_copy(item, event)
}

fn check_previous(item: &Item, before: Option<(u64, i64)>) -> Result {
    prop_assert_eq!(number(item, "previous_version"), before.map(|(version, _)| version));
    prop_assert_eq!(number(item, "previous_at"), before.and_then(|(_, at)| u64::try_from(at).ok()));
    Ok(())
}

/// What an event and its copy in the pending entry have in common.
fn check_copy(item: &Item, event: &Stored) -> Result {
    let payload = match text(item, "payload_encoding") {
        "zstd" => {
            let compressed = item.get("payload").and_then(|payload| payload.as_b().ok()).expect("binary");
            zstd::decode_all(compressed.as_ref()).expect("a zstd frame")
        }
        _ => text(item, "payload").as_bytes().to_vec(),
    };
    prop_assert_eq!(String::from_utf8_lossy(&payload), event.payload.as_str());
    prop_assert_eq!(text(item, "event_type"), EVENT_TYPE);
    prop_assert_eq!(item.get("is_private").is_some(), event.is_private);
    Ok(())
}

fn check_entry(item: &Item, history: &History, last: u64) -> Result {
    let append = history.event(last).expect("an entry has its events").append;
    prop_assert_eq!(number(item, "pending_since"), u64::try_from(append.recorded_at_ms).ok());
    let public = history.public(append);
    let first = public[0].0;
    prop_assert_eq!(public[public.len() - 1].0, last);
    check_previous(item, history.public_before(first))?;
    prop_assert_eq!(number(item, "first_version"), (first < last).then_some(first));
    let versions = item.get("public_versions").map(numbers);
    let expected: Vec<_> = public.iter().map(|(version, _)| *version).collect();
    prop_assert_eq!(versions, (public.len() as u64 != last - first + 1).then_some(expected));
    prop_assert_eq!(uuid(item, "append_id"), item.get("events").map(|_| append.id));
    if let Some(copies) = item.get("events") {
        let copies = copies.as_l().expect("a list");
        prop_assert_eq!(copies.len(), public.len());
        for (copy, (_, event)) in copies.iter().zip(public) {
            check_copy(copy.as_m().expect("a map"), event)?;
        }
    }
    Ok(())
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

fn uuid(item: &Item, name: &str) -> Option<Uuid> {
    Uuid::from_slice(item.get(name)?.as_b().ok()?.as_ref()).ok()
}

fn number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn numbers(list: &AttributeValue) -> Vec<u64> {
    let values = list.as_l().expect("a list");
    values.iter().map(|value| value.as_n().expect("a number").parse().expect("a version")).collect()
}

/// Every item of the table, or of its index.
async fn scan(table: &TestTable, index: Option<&str>) -> Seen {
    let scan = table.client().scan().table_name(&table.name).set_index_name(index.map(str::to_owned));
    // An index is read as it is.
    let pages = scan.consistent_read(index.is_none()).into_paginator().items().send();
    let items = pages.collect::<std::result::Result<Vec<_>, _>>().await.expect("the engine answers");
    items
        .into_iter()
        .map(|item| ((text(&item, "stream_id").to_owned(), text(&item, "entity").to_owned()), item))
        .collect()
}
