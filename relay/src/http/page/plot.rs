//! A line over the last minutes, as inline SVG. Colours come from the style sheet.

use std::{fmt::Write as _, time::Duration};

use maud::{Markup, html};

use crate::{
    http::{HISTORY, SAMPLE_INTERVAL},
    text::how_long,
};

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 80.0;

/// A gap in the samples that is longer than this many of their intervals is shown as one: the machine slept.
const GAP_INTERVALS: i64 = 3;

/// A count as a label.
pub(super) fn count(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0}k", value / 1_000.0) } else { format!("{value:.0}") }
}

/// Seconds as a label.
pub(super) fn seconds(value: f64) -> String {
    how_long(Duration::from_secs_f64(value.max(0.0)))
}

/// The plot of `values` at `times_ms`, from 0 to a round number above the greatest.
#[expect(clippy::cast_precision_loss, reason = "places in a plot")]
pub(super) fn svg(what: &str, times_ms: &[i64], values: &[f64], label: fn(f64) -> String) -> Markup {
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let top = round_up(greatest);
    let end = times_ms.last().copied().unwrap_or(0);
    let span = HISTORY.as_millis() as f64;
    let x = |at: i64| WIDTH * (1.0 - (end.saturating_sub(at) as f64 / span)).clamp(0.0, 1.0);
    let y = |value: f64| HEIGHT * (1.0 - value / top);

    let mut line = String::new();
    let gap = GAP_INTERVALS * i64::try_from(SAMPLE_INTERVAL.as_millis()).unwrap_or(i64::MAX);
    let mut before = None;
    let mut runs: Vec<(f64, f64)> = Vec::new();
    for (&at, &value) in times_ms.iter().zip(values) {
        let goes_on = before.is_some_and(|before: i64| at.saturating_sub(before) <= gap);
        let _ = write!(line, "{}{:.1} {:.1}", if goes_on { 'L' } else { 'M' }, x(at), y(value));
        match runs.last_mut() {
            Some(run) if goes_on => run.1 = x(at),
            _ => runs.push((x(at), x(at))),
        }
        before = Some(at);
    }
    // The area is closed along the ground for each run of the line.
    let mut area = String::new();
    for (piece, (from, to)) in line.split('M').skip(1).zip(runs) {
        let _ = write!(area, "M{from:.1} {HEIGHT}L{piece}L{to:.1} {HEIGHT}Z");
    }
    let now = values.last().map_or_else(|| "nothing yet".to_owned(), |value| label(*value));
    let minutes = HISTORY.as_secs() / 60;
    let summary = format!("{what} over the last {minutes} minutes: now {now}, at most {}", label(greatest));
    html! {
        figure {
            svg .plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(summary) {
                path .grid d={ "M0 0H" (WIDTH) "M0 " (HEIGHT / 2.0) "H" (WIDTH) } {}
                path .ground d={ "M0 " (HEIGHT) "H" (WIDTH) } {}
                path .area d=(area) {}
                path .line d=(line) {}
            }
            span .top { (label(top)) }
            figcaption { span { (minutes) " min ago" } span { "now" } }
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least 1.
fn round_up(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_a_round_number_above_the_greatest() {
        let tops = [0.0, 1.0, 3.0, 51.0, 200.0, 201.0].map(round_up).map(count);
        assert_eq!(tops, ["1", "1", "5", "100", "200", "500"]);
    }

    #[test]
    fn the_newest_sample_is_at_the_right_and_the_greatest_at_the_top() {
        let plot = svg("entries", &[0, 5_000], &[50.0, 100.0], count).into_string();
        assert!(plot.contains("L320.0 0.0\""), "{plot}");
        assert!(plot.contains("now 100, at most 100"), "{plot}");
        assert!(plot.contains("<span class=\"top\">100</span>"), "{plot}");
    }

    #[test]
    fn a_gap_in_the_samples_is_no_line() {
        let plot = svg("entries", &[0, 5_000, 60_000, 65_000], &[1.0; 4], count).into_string();
        assert_eq!(plot.matches("class=\"line\" d=\"M").count(), 1);
        let line = plot.split("class=\"line\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(svg("entries", &[], &[], count).into_string().contains("nothing yet"));
    }
}
