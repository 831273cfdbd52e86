//! Which interval follows from the measurements, and why.

use std::{fmt, time::Duration};

use super::{TuneRow, TuneSettings};

/// Intervals that cost so little more than the cheapest are as good as it; of those the one whose loads are quickest is
/// chosen.
const AS_CHEAP: f64 = 1.05;

/// The interval that is recommended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recommendation {
    /// The events between two snapshots; `None`: no snapshots.
    pub interval: Option<u64>,
    /// The reasons, a sentence each.
    pub reasons: Vec<String>,
}

/// Decides by the longest stream: there it matters most. `None` if nothing was measured.
pub(super) fn recommend(rows: &[TuneRow], settings: &TuneSettings) -> Option<Recommendation> {
    let longest = rows.iter().map(|row| row.events).max()?;
    let rows: Vec<_> = rows.iter().filter(|row| row.events == longest).collect();
    let without = rows.iter().find(|row| row.interval.is_none())?;
    let is_quick = |row: &TuneRow| settings.longest_load.is_none_or(|longest| row.load <= longest);
    let quick: Vec<_> = rows.iter().copied().filter(|row| is_quick(row)).collect();
    let chosen = match cheapest(&quick) {
        Some(chosen) => chosen,
        // None is quick enough: the quickest there is.
        None => rows.iter().copied().min_by_key(|row| row.load)?,
    };
    Some(Recommendation {
        interval: chosen.interval,
        reasons: reasons(chosen, without, &rows, settings, !quick.is_empty()),
    })
}

fn cheapest<'a>(rows: &[&'a TuneRow]) -> Option<&'a TuneRow> {
    let dollars = |row: &TuneRow| row.dollars_per_million_events;
    let least = rows.iter().map(|row| dollars(row)).min_by(f64::total_cmp)?;
    let as_cheap = rows.iter().copied().filter(|row| dollars(row) <= least * AS_CHEAP);
    // Read units, not times, which differ from run to run. Without snapshots, if that is as good.
    as_cheap.min_by(|a, b| {
        a.read_units_per_load.total_cmp(&b.read_units_per_load).then_with(|| a.interval.cmp(&b.interval))
    })
}

fn reasons(
    chosen: &TuneRow,
    without: &TuneRow,
    rows: &[&TuneRow],
    settings: &TuneSettings,
    is_quick: bool,
) -> Vec<String> {
    let mut reasons = vec![format!(
        "{} events, a state of {} bytes, {} cold loads for each event, ${} a million write units and ${} a million read units.",
        chosen.events,
        chosen.state_bytes,
        settings.cold_loads_per_event,
        settings.prices.write_units,
        settings.prices.read_units
    )];
    if let (false, Some(longest)) = (is_quick, settings.longest_load) {
        reasons.push(format!("No interval loads within {}: this is the quickest.", Millis(longest)));
    }
    match chosen.interval {
        None => reasons.push(format!(
            "Without snapshots a load takes {:.1} read units and {}: they would cost more than they save.",
            without.read_units_per_load,
            Millis(without.load)
        )),
        Some(every) => {
            reasons.push(format!(
                "A snapshot costs {:.0} write units every {every} events; a load then takes {:.1} read units and {}, without \
                 snapshots {:.1} and {}.",
                chosen.write_units_per_snapshot,
                chosen.read_units_per_load,
                Millis(chosen.load),
                without.read_units_per_load,
                Millis(without.load)
            ));
            reasons.push(format!(
                "Snapshots and loads of a million events: ${}, without snapshots ${}.",
                Dollars(chosen.dollars_per_million_events),
                Dollars(without.dollars_per_million_events)
            ));
        }
    }
    reasons.extend(neighbours(chosen, rows));
    reasons
}

/// What the next shorter and the next longer interval would change.
fn neighbours(chosen: &TuneRow, rows: &[&TuneRow]) -> Vec<String> {
    let place = rows.iter().position(|row| row.interval == chosen.interval);
    let others = place.map(|place| [place.checked_sub(1), place.checked_add(1)]).into_iter().flatten().flatten();
    let compare = |row: &&TuneRow| {
        let every = row.interval?;
        let difference = row.dollars_per_million_events - chosen.dollars_per_million_events;
        let more_or_less = if difference < 0.0 { "less" } else { "more" };
        Some(format!(
            "Every {every} events: ${} {more_or_less}, a load {:.1} read units and {}.",
            Dollars(difference.abs()),
            row.read_units_per_load,
            Millis(row.load)
        ))
    };
    others.filter_map(|place| rows.get(place)).filter_map(compare).collect()
}

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interval {
            Some(every) => write!(f, "Recommended: a snapshot every {every} events.")?,
            None => f.write_str("Recommended: no snapshots.")?,
        }
        self.reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

/// A time in milliseconds, with one digit behind the point.
pub(super) struct Millis(pub(super) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} ms", self.0.as_secs_f64() * 1_000.0))
    }
}

/// An amount with cents, or with hundredths of them if it is small.
pub(super) struct Dollars(pub(super) f64);

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 < 0.1 { 4 } else { 2 };
        f.pad(&format!("{:.digits$}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as the measurement gives them: 300 bytes an event, a state of 1 KB.
    fn rows(loads_per_event: f64) -> (Vec<TuneRow>, TuneSettings) {
        let settings = TuneSettings::new().cold_loads_per_event(loads_per_event);
        let row = |interval: Option<u32>| {
            let events = interval.map_or(10_000, |every| every / 2);
            let read_units = f64::from((events * 300).div_ceil(4096).max(2));
            let write_units = if interval.is_some() { 4.0 } else { 0.0 };
            let writes = interval.map_or(0.0, |every| write_units / f64::from(every)) * settings.prices.write_units;
            TuneRow {
                events: 10_000,
                interval: interval.map(u64::from),
                state_bytes: 1_000,
                write_units_per_snapshot: write_units,
                read_units_per_load: read_units,
                load: Duration::from_micros(u64::from(1_000 + 10 * events)),
                dollars_per_million_events: writes + loads_per_event * read_units * settings.prices.read_units,
            }
        };
        let rows = [None, Some(10), Some(25), Some(50), Some(100), Some(1_000)].map(row).to_vec();
        (rows, settings)
    }

    fn recommended(loads_per_event: f64) -> Option<u64> {
        let (rows, settings) = rows(loads_per_event);
        recommend(&rows, &settings).unwrap().interval
    }

    #[test]
    fn the_more_often_it_is_loaded_the_shorter_the_interval() {
        assert_eq!(recommended(0.0), None);
        let intervals = [0.000_01, 0.000_1, 0.01, 1.0, 10.0].map(recommended);
        assert_eq!(intervals, [None, Some(1_000), Some(100), Some(50), Some(25)]);
    }

    #[test]
    fn an_interval_whose_loads_take_too_long_is_not_recommended_however_cheap() {
        let (rows, settings) = rows(0.01);
        let within = |millis| recommend(&rows, &settings.clone().longest_load(Duration::from_micros(millis))).unwrap();
        assert_eq!(within(1_600).interval, Some(100));
        let none_is_quick = within(10);
        assert_eq!(none_is_quick.interval, Some(10));
        assert!(none_is_quick.to_string().contains("No interval loads within 0.0 ms"), "{none_is_quick}");
    }

    #[test]
    fn the_reasons_carry_the_figures() {
        let (rows, settings) = rows(1.0);
        let text = recommend(&rows, &settings).unwrap().to_string();
        for part in ["a snapshot every 50 events", "4 write units every 50", "733.0", "$91.62", "Every 25", "Every 100"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(recommend(&[], &settings), None);
    }
}
