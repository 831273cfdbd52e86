//! How a payload stands in an item: as JSON text, or compressed if that saves a capacity unit.
//!
//! DynamoDB bills a write by the kilobyte begun, and a transactional one twice. So compression is worth its processor time
//! only if an item then takes fewer units; everything else stays text that anybody can read in the console.

use std::borrow::Cow;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};

use super::{ENCODING_ZSTD, PAYLOAD_ENCODING};
use crate::limits::{MAX_ITEM_BYTES, WRITE_UNIT_BYTES};

/// Payloads below this are stored as they are, unless set otherwise.
pub const DEFAULT_COMPRESSION_THRESHOLD_BYTES: usize = 512;

/// zstd's own default: at this level a payload of some kilobytes takes some ten microseconds.
pub const DEFAULT_COMPRESSION_LEVEL: i32 = 3;

/// What a store does with large payloads when it writes them. Reading understands both forms, whatever is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Payloads are stored as they are.
    Off,
    /// Payloads are compressed with zstd (RFC 8878) if the item then takes at least one write unit less.
    Zstd {
        /// Payloads of fewer bytes are not tried.
        threshold_bytes: usize,
        /// zstd's level, from 1 (fast) to 22 (small).
        level: i32,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd { threshold_bytes: DEFAULT_COMPRESSION_THRESHOLD_BYTES, level: DEFAULT_COMPRESSION_LEVEL }
    }
}

impl Compression {
    /// The form in which a payload is stored, in an item that has `item_bytes` with the payload as text.
    pub(crate) fn store(self, payload: &str, item_bytes: usize) -> StoredPayload<'_> {
        let text = StoredPayload::Text(payload);
        let Self::Zstd { threshold_bytes, level } = self else { return text };
        if payload.len() < threshold_bytes || item_bytes <= WRITE_UNIT_BYTES {
            return text;
        }
        // It fails only if memory is short; then the text does as well.
        let Ok(compressed) = zstd::bulk::compress(payload.as_bytes(), level) else { return text };
        let mark_bytes = PAYLOAD_ENCODING.len() + ENCODING_ZSTD.len();
        let bytes = item_bytes - payload.len() + compressed.len() + mark_bytes;
        if bytes.div_ceil(WRITE_UNIT_BYTES) < item_bytes.div_ceil(WRITE_UNIT_BYTES) {
            StoredPayload::Zstd(compressed)
        } else {
            text
        }
    }
}

/// A payload on its way into an item.
#[derive(Debug)]
pub(crate) enum StoredPayload<'a> {
    Text(&'a str),
    Zstd(Vec<u8>),
}

impl StoredPayload<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Zstd(bytes) => bytes.len(),
        }
    }

    pub(crate) fn value(&self) -> AttributeValue {
        match self {
            Self::Text(text) => AttributeValue::S((*text).to_owned()),
            Self::Zstd(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        }
    }

    /// What the item says of the form; nothing of text.
    pub(crate) fn encoding(&self) -> Option<&'static str> {
        match self {
            Self::Text(_) => None,
            Self::Zstd(_) => Some(ENCODING_ZSTD),
        }
    }
}

/// Reads a payload as it was appended. The error says what is wrong with it.
pub(crate) fn read(value: AttributeValue, encoding: Option<&str>) -> Result<String, Cow<'static, str>> {
    match (encoding, value) {
        (None, AttributeValue::S(text)) => Ok(text),
        (None, _) => Err("is not a text".into()),
        (Some(ENCODING_ZSTD), AttributeValue::B(bytes)) => decompress(bytes.as_ref()),
        (Some(ENCODING_ZSTD), _) => Err("is not binary".into()),
        (Some(other), _) => {
            Err(format!("has the unknown encoding {other:?}: a newer version may have written it").into())
        }
    }
}

/// The bytes of a payload when it is unpacked: what its frame claims if it is compressed. A frame that claims nothing is
/// never unpacked.
pub(crate) fn claimed_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => frame_bytes(bytes.as_ref()).unwrap_or(0),
        _ => 0,
    }
}

fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten().and_then(|bytes| usize::try_from(bytes).ok())
}

fn decompress(bytes: &[u8]) -> Result<String, Cow<'static, str>> {
    // What was appended had to fit into an item uncompressed, so nothing larger is ever unpacked.
    let Some(length @ 0..=MAX_ITEM_BYTES) = frame_bytes(bytes) else {
        return Err("is not a zstd frame with a size that an item may have".into());
    };
    let unpacked = zstd::bulk::decompress(bytes, length).map_err(|error| format!("does not decompress: {error}"))?;
    String::from_utf8(unpacked).map_err(|_| "is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// JSON with about as much repetition as real events have.
    fn payload(bytes: usize) -> String {
        let mut text = "[".to_owned();
        for number in 0.. {
            let price = number * 7919 % 10_007;
            write!(text, "{{\"item\":{number},\"price_cents\":{price}}},").unwrap();
            if text.len() >= bytes {
                break;
            }
        }
        text
    }

    #[test]
    fn a_payload_is_compressed_where_that_saves_a_unit_and_not_elsewhere() {
        let zstd = Compression::default();
        let is_compressed = |payload: &str, item_bytes| zstd.store(payload, item_bytes).encoding().is_some();
        let large = payload(4_000);
        assert!(is_compressed(&large, large.len() + 300));
        assert!(!is_compressed(&payload(700), 1_024), "an item of one unit has none to save");
        assert!(is_compressed(&payload(900), 1_100));
        let noise: String = (0..2_000).map(|_| char::from(fastrand::alphanumeric() as u8)).collect();
        assert!(!is_compressed(&noise, 2_040), "what hardly shrinks stays text");
        assert!(matches!(Compression::Off.store(&large, 5_000), StoredPayload::Text(_)));
        let threshold = Compression::Zstd { threshold_bytes: 5_000, level: 3 };
        assert!(matches!(threshold.store(&large, 5_000), StoredPayload::Text(_)));
    }

    #[test]
    fn a_compressed_payload_is_read_byte_for_byte() {
        let text = payload(300_000);
        let stored = Compression::default().store(&text, text.len() + 300);
        assert!(stored.len() < text.len() / 2);
        assert_eq!(read(stored.value(), stored.encoding()).unwrap(), text);
    }

    #[test]
    fn what_is_damaged_or_unknown_is_an_error_and_never_unpacked_beyond_an_item() {
        let packed = |text: &str| zstd::bulk::compress(text.as_bytes(), 3).unwrap();
        let binary = |bytes: Vec<u8>| AttributeValue::B(Blob::new(bytes));
        let mut damaged = packed(&payload(2_000));
        let end = damaged.len() - 20;
        damaged.truncate(end);
        for (value, encoding, fault) in [
            (binary(damaged), Some(ENCODING_ZSTD), "does not decompress"),
            (binary(b"{}".to_vec()), Some(ENCODING_ZSTD), "not a zstd frame"),
            (binary(packed(&"x".repeat(MAX_ITEM_BYTES + 1))), Some(ENCODING_ZSTD), "not a zstd frame with a size"),
            (AttributeValue::S("{}".to_owned()), Some(ENCODING_ZSTD), "not binary"),
            (binary(packed("{}")), Some("brotli"), "\"brotli\""),
            (binary(packed("{}")), None, "not a text"),
        ] {
            let error = read(value, encoding).expect_err(fault);
            assert!(error.contains(fault), "{error}");
        }
    }
}
