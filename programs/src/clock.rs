//! Times of the stored format: milliseconds since the Unix epoch.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const ISO_8601_MS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Milliseconds since the Unix epoch as ISO 8601 (and RFC 3339), UTC, always with milliseconds. A time that the calendar does not
/// have is shown as the number.
#[must_use]
pub fn iso_8601(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(ISO_8601_MS).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}

/// This machine's time, in milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_are_never_a_panic() {
        assert_eq!(iso_8601(1_700_000_000_042), "2023-11-14T22:13:20.042Z");
        assert_eq!(iso_8601(1_780_000_060_000), "2026-05-28T20:27:40.000Z");
        assert_eq!(iso_8601(i64::MAX), format!("{} ms", i64::MAX));
    }
}
