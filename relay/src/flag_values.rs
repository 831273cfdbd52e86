//! Values of flags: numbers within bounds, and durations as people write them.

use std::{ffi::OsString, ops::RangeInclusive, time::Duration};

use clap::{Arg, Command, builder::RangedU64ValueParser};

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

/// Moves the unit of a duration from the name of its flag or variable to its value, in the command that a line has.
pub(crate) fn with_units(line: &mut Vec<OsString>, program: &Command, variable: impl Fn(&str) -> Option<String>) {
    let command = line.iter().zip(1..).find_map(|(word, behind)| Some((behind, program.find_subcommand(word)?)));
    let Some((behind_command, command)) = command else { return };
    let is_duration =
        |flag: &&Arg| flag.get_value_names().is_some_and(|names| names.iter().any(|name| *name == DURATION));
    let durations = command.get_arguments().filter(is_duration).filter_map(Arg::get_long);
    for (flag, unit) in durations.flat_map(|flag| [(flag, "ms"), (flag, "s")]) {
        let (new, old) = (format!("--{flag}"), format!("--{flag}-{unit}"));
        for place in 0..line.len() {
            let Some(word) = line[place].to_str() else { continue };
            if word == old {
                line[place] = new.clone().into();
                if let Some(value) = line.get_mut(place + 1) {
                    value.push(unit);
                }
            } else if let Some(value) = word.strip_prefix(&format!("{old}=")) {
                line[place] = format!("{new}={value}{unit}").into();
            }
        }
        let name = format!("STREAMBOX_{}", flag.replace('-', "_").to_uppercase());
        let is_set = variable(&name).is_some()
            || line.iter().filter_map(|word| word.to_str()).any(|word| word.split('=').next() == Some(&new));
        let old = variable(&format!("{name}_{}", unit.to_uppercase())).filter(|_| !is_set);
        if let Some(value) = old {
            line.insert(behind_command, format!("{new}={value}{unit}").into());
        }
    }
}
