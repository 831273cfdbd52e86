//! The table for people.

use std::fmt;

use super::{
    TuneReport,
    recommend::{Dollars, Millis},
};

impl fmt::Display for TuneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Snapshots of `{}`", self.category)?;
        writeln!(f)?;
        writeln!(
            f,
            "{:>8}  {:>9}  {:>11}  {:>14}  {:>10}  {:>10}  {:>12}",
            "events", "interval", "state bytes", "WU a snapshot", "RU a load", "a load", "$/M events"
        )?;
        let mut length = self.rows.first().map(|row| row.events);
        for row in &self.rows {
            if length.replace(row.events) != Some(row.events) {
                writeln!(f)?;
            }
            let interval = row.interval.map_or_else(|| "none".to_owned(), |every| every.to_string());
            writeln!(
                f,
                "{:>8}  {interval:>9}  {:>11}  {:>14.0}  {:>10.1}  {:>10}  {:>12}",
                row.events,
                row.state_bytes,
                row.write_units_per_snapshot,
                row.read_units_per_load,
                Millis(row.load),
                Dollars(row.dollars_per_million_events)
            )?;
        }
        write!(f, "\n{}", self.recommendation)
    }
}
