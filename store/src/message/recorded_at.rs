//! The time of a message: ISO 8601, UTC, milliseconds.

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};

use super::Unpublishable;

const MS_PER_SECOND: i64 = 1_000;

/// Milliseconds since the Unix epoch as a text of 24 characters.
pub(super) fn text(ms: i64) -> Result<String, Unpublishable> {
    // The SDK leaves zeros at the end of a fraction out, so it gets whole seconds only.
    let seconds = DateTime::from_secs(ms.div_euclid(MS_PER_SECOND));
    match seconds.fmt(DateTimeFormat::DateTime) {
        Ok(text) => Ok(format!("{}.{:03}Z", text.trim_end_matches('Z'), ms.rem_euclid(MS_PER_SECOND))),
        Err(_) => Err(Unpublishable::OutOfRange { what: "time", value: ms.into() }),
    }
}

/// Milliseconds since the Unix epoch, of a text with any fraction of a second.
pub(super) fn parse(text: &str) -> Option<i64> {
    DateTime::from_str(text, DateTimeFormat::DateTime).ok()?.to_millis().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_RECORDED_AT_MS;

    #[test]
    fn a_time_has_milliseconds_however_many_are_zero_and_is_read_back() {
        for (ms, expected) in [
            (1_700_000_000_042, "2023-11-14T22:13:20.042Z"),
            (1_780_000_060_000, "2026-05-28T20:27:40.000Z"),
            (1_780_000_060_100, "2026-05-28T20:27:40.100Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (MAX_RECORDED_AT_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text(ms).as_deref(), Ok(expected));
            assert_eq!(parse(expected), Some(ms));
        }
        for ms in [i64::MIN, MAX_RECORDED_AT_MS + 1, i64::MAX] {
            assert_eq!(text(ms), Err(Unpublishable::OutOfRange { what: "time", value: ms.into() }));
        }
        assert_eq!((parse("yesterday"), parse("2026-05-28T20:27:40Z")), (None, Some(1_780_000_060_000)));
    }
}
