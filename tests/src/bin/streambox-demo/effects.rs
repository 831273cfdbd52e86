//! What has taken effect, compared with the log.

use std::collections::{BTreeMap, BTreeSet};

use streambox::StreamId;

use crate::log::Log;

/// The differences between the log and the effects of its events.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Compared {
    /// Effects that are stored.
    pub(crate) effects: u64,
    /// Events without an effect.
    pub(crate) missing: u64,
    /// Effects beyond the first one of an event.
    pub(crate) repeated: u64,
    /// Effects behind that of a later version.
    pub(crate) out_of_order: u64,
    /// The first stream with a difference.
    pub(crate) first: Option<StreamId>,
}

impl Compared {
    /// Compares the versions of each stream, in the order in which they took effect, with those of the log.
    pub(crate) fn of(log: &Log, effects: &BTreeMap<StreamId, Vec<u64>>) -> Self {
        let mut all = Self::default();
        for (stream, expected) in log.streams() {
            let found = effects.get(stream).map(Vec::as_slice).unwrap_or_default();
            let one = Self::of_stream(expected, found);
            let differs = one != Self { effects: one.effects, ..Self::default() };
            all.effects += one.effects;
            all.missing += one.missing;
            all.repeated += one.repeated;
            all.out_of_order += one.out_of_order;
            all.first = all.first.or_else(|| differs.then(|| stream.clone()));
        }
        all
    }

    fn of_stream(expected: &[u64], found: &[u64]) -> Self {
        let (mut seen, mut last, mut compared) = (BTreeSet::new(), 0, Self::default());
        for version in found {
            if !seen.insert(version) {
                compared.repeated += 1;
            } else if *version < last {
                compared.out_of_order += 1;
            }
            last = last.max(*version);
        }
        compared.effects = found.len() as u64;
        compared.missing = expected.iter().filter(|version| !seen.contains(version)).count() as u64;
        compared
    }

    /// What is not as promised.
    pub(crate) fn problems(&self) -> Vec<String> {
        let of = |count, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let counts = [
            of(self.missing, "events have not taken effect"),
            of(self.repeated, "effects were stored again"),
            of(self.out_of_order, "effects came after that of a later version"),
        ];
        let mut problems: Vec<_> = counts.into_iter().flatten().collect();
        if let Some(stream) = &self.first {
            problems.push(format!("the first of such streams is {stream}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(found: &[u64]) -> (u64, u64, u64, u64) {
        let Compared { effects, missing, repeated, out_of_order, .. } = Compared::of_stream(&[1, 2, 4], found);
        (effects, missing, repeated, out_of_order)
    }

    #[test]
    fn each_difference_is_counted_as_what_it_is() {
        assert_eq!(compared(&[1, 2, 4]), (3, 0, 0, 0));
        assert_eq!(compared(&[]), (0, 3, 0, 0));
        assert_eq!(compared(&[1, 4]), (2, 1, 0, 0));
        assert_eq!(compared(&[1, 2, 2, 4]), (4, 0, 1, 0));
        assert_eq!(compared(&[1, 4, 2]), (3, 0, 0, 1));
        assert_eq!(compared(&[1, 4, 1]), (3, 1, 1, 0), "what comes again is not out of order as well");
    }
}
