//! Writing a snapshot: one conditional put in a transaction of its own.

use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnConsumedCapacity, TransactWriteItem, builders::PutBuilder};
use futures_util::FutureExt as _;

use super::NewSnapshot;
use crate::{
    error::{Error, Invalid},
    failure::Cancelled,
    limits::MAX_ITEM_BYTES,
    observe::count,
    schema::{self, ENTITY, SCHEMA_VERSION, VERSION, item_bytes},
    stream::StreamId,
    table::Table,
};

/// How many events a snapshot of a newer schema may be behind before one of an older schema takes its place.
pub const SCHEMA_TAKEOVER_EVENTS: u64 = 1_000;

/// The outcome of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SnapshotWrite {
    /// It is stored.
    Stored {
        /// The capacity units that the write consumed.
        write_units: f64,
    },
    /// It is not: the one that is there stands.
    Superseded,
}

pub(crate) async fn write(table: &Table, stream: &StreamId, new: &NewSnapshot) -> Result<SnapshotWrite, Error> {
    let item = schema::snapshot_item(stream, new, table.now_ms());
    let bytes = item_bytes(&item);
    if bytes > MAX_ITEM_BYTES {
        return Err(Invalid::TooLong { what: "snapshot", limit_bytes: MAX_ITEM_BYTES, bytes }.into());
    }
    let operation = table.request("write the snapshot", stream.as_str());
    let put = condition(Put::builder().table_name(table.name()).set_item(Some(item)), new)
        .build()
        .expect("a put has a table and an item");
    count::request();
    let sent = table
        .client()
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .boxed()
        .await;
    match sent {
        Ok(output) => {
            let write_units = output.consumed_capacity().iter().filter_map(|used| used.capacity_units).sum();
            count::written(write_units, 0);
            Ok(SnapshotWrite::Stored { write_units })
        }
        Err(error) if Cancelled::of(&error) == Some(Cancelled::ConditionFailed) => Ok(SnapshotWrite::Superseded),
        Err(error) => Err(operation.not_done(error)),
    }
}

/// Nothing is there, or something that is not a snapshot, or one that is to be replaced by this one.
fn condition(put: PutBuilder, new: &NewSnapshot) -> PutBuilder {
    let unusable = new.replaces.map(|_| format!(" OR {VERSION} = :unusable")).unwrap_or_default();
    let condition = format!(
        "attribute_not_exists({ENTITY}) \
         OR NOT attribute_type({VERSION}, :number) OR NOT attribute_type({SCHEMA_VERSION}, :number) \
         OR ({SCHEMA_VERSION} = :schema AND {VERSION} < :version) \
         OR ({SCHEMA_VERSION} < :schema AND {VERSION} <= :version) \
         OR {VERSION} < :far_behind{unusable}"
    );
    let mut put = put
        .expression_attribute_values(":number", AttributeValue::S("N".to_owned()))
        .expression_attribute_values(":schema", schema::number(new.schema_version))
        .expression_attribute_values(":version", schema::number(new.version))
        .expression_attribute_values(":far_behind", schema::number(new.version.saturating_sub(SCHEMA_TAKEOVER_EVENTS)));
    if let Some(unusable) = new.replaces {
        put = put.expression_attribute_values(":unusable", schema::number(unusable));
    }
    put.condition_expression(condition)
}
