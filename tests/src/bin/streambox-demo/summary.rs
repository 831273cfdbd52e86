//! What the demo prints at its end.

use std::time::Duration;

use indicatif::HumanCount;
use streambox_consumer::ConsumerStatus;

use crate::{
    effects::Compared,
    programs::{Imported, Relayed},
};

/// How the demo has ended.
pub(crate) struct Summary {
    pub(crate) imported: Imported,
    /// None if the relay is another one.
    pub(crate) relayed: Option<Relayed>,
    /// What the consumer says of itself.
    pub(crate) status: ConsumerStatus,
    /// Messages that a purge has deleted, if there was one.
    pub(crate) purged: Option<u64>,
    /// From the relay's start to the last effect, if nothing was held meanwhile.
    pub(crate) elapsed: Option<Duration>,
    /// What all effects have cost, if the engine says so.
    pub(crate) write_units: f64,
    pub(crate) compared: Compared,
    /// Streams whose last public event is not applied.
    pub(crate) streams_behind: u64,
    pub(crate) parked: u64,
    pub(crate) pending: u64,
}

impl Summary {
    /// The figures, a line each.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![("events appended", self.imported.events, self.appended())];
        if let Some(relayed) = &self.relayed {
            let (entries, per_second) =
                (HumanCount(relayed.entries_deleted), HumanCount(rounded(relayed.events_per_second)));
            let rate = format!("of {entries} pending entries; {:.1} s, {per_second}/s until the last", relayed.seconds);
            lines.push(("events published", relayed.published, rate));
        }
        let status = &self.status;
        if let Some(purged) = self.purged {
            // What was lost is read from the table, and then what came of it is not told from what did not.
            lines.push(("messages purged", purged, String::new()));
        } else {
            let received = status.applied - status.applied_from_store + status.duplicates;
            let duplicates = format!("of which {} were duplicates", HumanCount(status.duplicates));
            lines.push(("messages received", received, duplicates));
        }
        lines.extend([
            ("effects stored", self.compared.effects, self.cost()),
            ("effects missing", self.compared.missing, String::new()),
            ("effects repeated", self.compared.repeated, String::new()),
            ("order violations", self.compared.out_of_order, String::new()),
            ("streams behind", self.streams_behind, String::new()),
            ("streams parked", self.parked, String::new()),
            ("entries pending", self.pending, String::new()),
        ]);
        lines.into_iter().fold("\n".to_owned(), |text, (what, count, rest)| {
            let count = HumanCount(count).to_string();
            text + format!("  {what:<18} {count:>9}  {rest}").trim_end() + "\n"
        })
    }

    fn appended(&self) -> String {
        let Imported { events, streams, appends, seconds, write_units, .. } = &self.imported;
        format!(
            "of {} streams, in {} appends; {}, {} write units",
            HumanCount(*streams),
            HumanCount(*appends),
            rate(*events, *seconds),
            HumanCount(rounded(*write_units)),
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
    fn cost(&self) -> String {
        let effects = self.compared.effects;
        let rate = self.elapsed.map(|elapsed| rate(effects, elapsed.as_secs_f64()));
        let each = self.write_units / effects.max(1) as f64;
        let units = HumanCount(rounded(self.write_units));
        let cost = (self.write_units > 0.0).then(|| format!("{units} write units, {each:.1} an event"));
        rate.into_iter().chain(cost).collect::<Vec<_>>().join("; ")
    }

    /// What is not as promised. Duplicates are.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.compared.problems();
        for (count, what) in [
            (self.streams_behind, "streams are behind"),
            (self.parked, "streams are parked"),
            (self.pending, "entries are still pending"),
        ] {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        }
        problems
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is for reading")]
fn rate(count: u64, seconds: f64) -> String {
    format!("{seconds:.1} s, {}/s", HumanCount(rounded(count as f64 / seconds.max(0.001))))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure for reading")]
fn rounded(figure: f64) -> u64 {
    figure.round() as u64
}
