//! The snapshot entity: how it is written and read.

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::{
    APPEND_ID, BODY, CHECKSUM, Item, SCHEMA_VERSION, SNAPSHOT, TAKEN_AT, VERSION, bytes, fields::Fields, key, number,
    text,
};
use crate::{
    error::Corrupt,
    snapshot::{NewSnapshot, Snapshot},
    stream::StreamId,
};

/// The snapshot entity.
pub(crate) fn snapshot_item(stream: &StreamId, new: &NewSnapshot, taken_at_ms: i64) -> Item {
    let mut item = key(stream.as_str(), SNAPSHOT.to_owned());
    item.extend([
        (VERSION.to_owned(), number(new.version)),
        (APPEND_ID.to_owned(), bytes(new.append_id)),
        (SCHEMA_VERSION.to_owned(), number(new.schema_version)),
        (BODY.to_owned(), text(&new.body)),
        (CHECKSUM.to_owned(), text(checksum(new.version, new.append_id, new.schema_version, &new.body))),
        (TAKEN_AT.to_owned(), number(taken_at_ms)),
    ]);
    item
}

/// Reads a snapshot entity.
pub(crate) fn read_snapshot(item: Item) -> Result<Snapshot, Corrupt> {
    let mut fields = Fields::new(item);
    let (version, append_id) = (fields.version(VERSION)?, fields.uuid(APPEND_ID)?);
    let (schema_version, body) = (fields.number(SCHEMA_VERSION)?, fields.text(BODY)?);
    if fields.text(CHECKSUM)? != checksum(version, append_id, schema_version, &body) {
        return Err(fields.wrong(format!("{CHECKSUM} is not that of its content: it was changed after it was written")));
    }
    let taken_at_ms = fields.number(TAKEN_AT)?;
    Ok(Snapshot { version, append_id, schema_version, body, taken_at_ms, stream_id: fields.stream })
}

/// Shows damage and a hand's changes. It is not a signature: a client that may write the item can write this, too.
fn checksum(version: u64, append_id: Uuid, schema_version: u32, body: &str) -> String {
    let mut hash = Xxh3::new();
    hash.update(format!("{version}\n{append_id}\n{schema_version}\n").as_bytes());
    hash.update(body.as_bytes());
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_it_was_written_and_not_where_anything_of_it_was_changed() {
        let new = NewSnapshot::new(3, Uuid::from_u128(7), 2, r#"{"items":1}"#);
        let item = snapshot_item(&StreamId::new("order-1").unwrap(), &new, 5);
        // The format is public, so this is what it always has to be.
        assert_eq!(item[CHECKSUM], text("4dbda55964b41019"));
        let read = read_snapshot(item.clone()).unwrap();
        assert_eq!((read.version, read.append_id, read.schema_version), (3, Uuid::from_u128(7), 2));
        assert_eq!((read.body.as_str(), read.taken_at_ms), (r#"{"items":1}"#, 5));
        for (name, value) in [
            (VERSION, number(4_u64)),
            (APPEND_ID, bytes(Uuid::from_u128(8))),
            (SCHEMA_VERSION, number(1_u64)),
            (BODY, text(r#"{"items":2}"#)),
            (CHECKSUM, text("0")),
        ] {
            let mut changed = item.clone();
            changed.insert(name.to_owned(), value);
            let error = read_snapshot(changed).expect_err(name).to_string();
            assert!(error.contains("checksum is not that of its content"), "{name}: {error}");
        }
    }
}
