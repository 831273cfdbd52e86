//! What is printed on standard output beside lines: tables for people.

use std::time::Duration;

use console::{Alignment, Term, measure_text_width, pad_str, truncate_str};
use indicatif::{ProgressBar, ProgressStyle};
pub(crate) use streambox_programs::{Reader, count, note, print, print_done, text::one_line as visible};

/// Rows in aligned columns, printed a part at a time. A column is as wide as its widest cell so far; the last one is as wide
/// as it likes, but cut to the width of a terminal.
pub(crate) struct Table {
    /// The columns but the last.
    widths: Vec<usize>,
    terminal_width: Option<usize>,
    heading: Option<Vec<String>>,
    /// Whether a line was cut.
    pub(crate) is_cut: bool,
}

const GAP: &str = "  ";

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        let terminal = Term::stdout();
        let terminal_width = terminal.is_term().then(|| usize::from(terminal.size().1));
        let heading = heading.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        Self { widths: vec![0; heading.len() - 1], terminal_width, heading: Some(heading), is_cut: false }
    }

    /// The lines of some rows; above the first of all, the heading.
    pub(crate) fn lines(&mut self, rows: Vec<Vec<String>>) -> Vec<String> {
        let rows: Vec<_> = self.heading.take_if(|_| !rows.is_empty()).into_iter().chain(rows).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&mut self, row: &[String]) -> String {
        let cells = row.iter().enumerate().map(|(column, cell)| match self.widths.get(column) {
            Some(width) => pad_str(cell, *width, Alignment::Left, None),
            None => cell.into(),
        });
        let line = cells.collect::<Vec<_>>().join(GAP);
        let Some(width) = self.terminal_width.filter(|width| measure_text_width(&line) > *width) else {
            return line.trim_end().to_owned();
        };
        self.is_cut = true;
        truncate_str(&line, width, "…").into_owned()
    }
}

/// From one look of a spinner to the next.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Shown on a terminal only, on standard error: how long, and what the command says about it.
pub(crate) fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}").expect("a valid template");
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(TICK);
    spinner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_a_later_part_is_no_narrower() {
        let mut table = Table { terminal_width: None, ..Table::new(&["N", "TYPE", "DATA"]) };
        let first = table.lines(vec![row(&["1", "Straße", "{}"]), row(&["10", "A", "1"])]);
        assert_eq!(first, ["N   TYPE    DATA", "1   Straße  {}", "10  A       1"]);
        assert_eq!(table.lines(vec![row(&["2", "B", "x"])]), ["2   B       x"]);
        assert_eq!(table.lines(vec![]), [""; 0]);
        assert!(!table.is_cut);
    }

    #[test]
    fn a_terminal_is_as_wide_as_it_is() {
        let mut table = Table { terminal_width: Some(8), ..Table::new(&["N", "DATA"]) };
        assert_eq!(table.lines(vec![row(&["1", "123456789"])]), ["N  DATA", "1  1234…"]);
        assert!(table.is_cut);
    }
}
