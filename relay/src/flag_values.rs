//! Values of flags: numbers within bounds, and durations as people write them.

use std::{ops::RangeInclusive, time::Duration};

use clap::builder::RangedU64ValueParser;

/// How help names a duration.
pub(crate) const DURATION: &str = "DURATION";

/// A count within bounds.
pub(crate) fn count(allowed: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(allowed)
}

/// A duration with its unit, within bounds in milliseconds.
pub(crate) fn duration(allowed_ms: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let (least, most) = (Duration::from_millis(*allowed_ms.start()), Duration::from_millis(*allowed_ms.end()));
    move |text| match humantime::parse_duration(text) {
        Ok(time) if (least..=most).contains(&time) => Ok(time),
        Ok(_) => Err(format!("allowed is {} to {}", shown(least), shown(most))),
        Err(error) => Err(format!("{error}; allowed is a number with its unit, for example 500ms, 30s or 5m")),
    }
}

/// A duration as its flag takes it.
pub(crate) fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
