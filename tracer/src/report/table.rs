//! Aligned columns of text, and numbers as people read them.

/// A table: the first column to the left, the others to the right.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a first row of headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text, every line indented by `indent` spaces.
    pub(super) fn text(&self, indent: usize) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
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

/// Bytes with a unit of 1024, exact below 10 KiB.
pub(super) fn bytes(bytes: u64) -> String {
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
    fn bytes_take_the_unit_that_fits() {
        assert_eq!([0, 8192, 10 << 10, 3 << 20].map(bytes), ["0 B", "8192 B", "10.0 KiB", "3.0 MiB"]);
    }
}
