//! Columns of text, as wide as what is in them.

use std::fmt;
use std::time::Duration;

/// A table with a head.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|word| word.to_uppercase()).collect()] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    /// Whether there is nothing below the head.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

/// What a device sent may hold anything: a terminal gets to see it, not to obey it.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A time as a person says it: two figures at most.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_reaches_the_terminal_as_an_order() {
        let mut table = Table::new(&["a", "long"]);
        table.row(["°°°".into(), "x\u{1b}[2J".into()]);
        assert_eq!(table.to_string(), "A    LONG\n°°°  x\u{fffd}[2J\n");
    }

    #[test]
    fn a_span_is_said_in_the_unit_that_fits() {
        let said = [
            (900, "0.9 s"),
            (59_000, "59 s"),
            (3_599_000, "59 min"),
            (90_000_000, "25 h 0 min"),
            (1_000_000_000, "11 d 13 h"),
        ];
        for (ms, text) in said {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }
}
