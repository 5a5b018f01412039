//! Aligned columns of text, and numbers as people read them.

use std::borrow::Cow;

use bouncescope_capture::plain::plain;

/// A table: the first column to the left, the others to the right.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a first row of headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| plain(heading).into_owned()).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| match plain(&cell) {
            Cow::Borrowed(_) => cell,
            Cow::Owned(cell) => cell,
        });
        self.rows.push(cells.collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text in blocks of columns, each no wider than `width` as far as one column beside the first `fixed` ones allows;
    /// these stand in every block.
    pub(super) fn blocks(&self, indent: usize, fixed: usize, width: usize) -> String {
        let widths = self.widths();
        let wide = |column: usize| widths[column] + 2;
        let mut at = fixed;
        let mut blocks = Vec::new();
        while at < widths.len() || blocks.is_empty() {
            let mut total: usize = indent + (0..fixed.min(widths.len())).map(wide).sum::<usize>();
            let from = at;
            while at < widths.len() && (at == from || total + wide(at) <= width + 2) {
                total += wide(at);
                at += 1;
            }
            let cells = |row: &Vec<String>| {
                let range = row.get(from..at.min(row.len())).unwrap_or_default();
                row.iter().take(fixed).chain(range).cloned().collect()
            };
            blocks.push(Self { rows: self.rows.iter().map(cells).collect() }.text(indent));
        }
        blocks.join("\n")
    }

    /// Of each column, characters.
    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// The text, every line indented by `indent` spaces.
    pub(super) fn text(&self, indent: usize) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for (column, cell) in row.iter().enumerate() {
                let fill = " ".repeat(widths[column] - cell.chars().count());
                if column == 0 {
                    line += &format!("{cell}{fill}");
                } else {
                    line += &format!("  {fill}{cell}");
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Tables of many policies are broken at this width, characters.
pub(super) const WIDTH: usize = 100;

/// `1 slot`, `2 slots`.
pub(super) fn slots(count: u64) -> String {
    format!("{count} slot{}", if count == 1 { "" } else { "s" })
}

/// The nearest percentage; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (part as f64 * 100.0 / whole as f64).round() as u64 }
}

/// What stands behind the slots that a pool begins with, where it was larger when most were in use.
pub(super) const GROWN: &str = ", grown";

/// `257 of 256 slots, grown, at its fullest moment`: the slots that the pool begins with, and whether it was larger then.
pub(super) fn at_fullest(peak: u64, slots: u64, has_grown: bool) -> String {
    format!("{peak} of {slots} slots{} at its fullest moment", if has_grown { ", grown," } else { "" })
}

/// Bytes with a unit of 1024, exact below 10 KiB.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 10 << 10 {
        return format!("{bytes} B");
    }
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        value /= 1024.0;
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
    }
    format!("{value:.0} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["device", "maps"]);
        table.row(["a".into(), "10".into()]);
        table.row(["long name".into(), "1".into()]);
        assert_eq!(table.text(2), "  device     maps\n  a            10\n  long name     1\n");
    }

    #[test]
    fn a_wide_table_is_broken_into_blocks_with_the_first_columns_in_each() {
        let mut table = Table::new(&["x", "aaaa", "bbbb", "cccc"]);
        table.row(["1".into(), "2".into(), "3".into(), "4".into()]);
        assert_eq!(table.blocks(0, 1, 13), "x  aaaa  bbbb\n1     2     3\n\nx  cccc\n1     4\n");
        assert_eq!(table.blocks(0, 1, 100), table.text(0));
        assert_eq!(table.blocks(0, 1, 1).lines().filter(|line| line.starts_with('x')).count(), 3);
    }

    #[test]
    fn parts_of_a_hundred_are_rounded_to_the_nearest() {
        assert_eq!([percent(350, 596), percent(1, 256), percent(1, 0)], [59, 0, 0]);
        assert_eq!([slots(1), slots(0)], ["1 slot", "0 slots"]);
    }

    #[test]
    fn bytes_take_the_unit_that_fits() {
        assert_eq!([0, 8192, 10 << 10, 3 << 20].map(bytes), ["0 B", "8192 B", "10.0 KiB", "3.0 MiB"]);
    }
}
