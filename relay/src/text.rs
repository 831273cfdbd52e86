//! How values look to people.

use std::time::Duration;

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const ISO_8601_MS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Milliseconds since the Unix epoch as ISO 8601, UTC.
#[must_use]
pub fn iso_8601(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(ISO_8601_MS).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}

/// The same text without what moves the cursor of a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// About how long, in its two largest units.
#[must_use]
pub fn how_long(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_and_never_a_panic() {
        assert_eq!(iso_8601(1_700_000_000_042), "2023-11-14T22:13:20.042Z");
        assert_eq!(iso_8601(i64::MAX), format!("{} ms", i64::MAX));
        let long = |seconds| how_long(Duration::from_secs(seconds));
        assert_eq!([long(0), long(59), long(60), long(3_661)], ["0 ms", "59 s", "1 min 0 s", "1 h 1 min"]);
        assert_eq!(long(90_000), "1 d 1 h");
        assert_eq!(one_line("a\u{1b}[2Jb\n"), "a [2Jb ");
    }
}
