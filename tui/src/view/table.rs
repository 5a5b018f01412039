//! Rows of columns, of which one takes what room is left.

use ratatui::layout::Rect;

use super::canvas::{Canvas, Piece};
use crate::hit::Target;
use crate::state::table::{Sorted, Table};
use crate::theme::{Signs, Tone};

/// A column.
pub(super) struct Column {
    pub(super) heading: String,
    /// Cells; `None` is what is left.
    pub(super) width: Option<usize>,
    /// Text stands at the left, numbers at the right.
    pub(super) left: bool,
}

impl Column {
    /// Text, as wide as there is room for.
    pub(super) fn rest(heading: &str) -> Self {
        Self { heading: heading.into(), width: None, left: true }
    }

    /// Text.
    pub(super) fn text(heading: &str, width: usize) -> Self {
        Self { heading: heading.into(), width: Some(width), left: true }
    }

    /// A number.
    pub(super) fn number(heading: &str, width: usize) -> Self {
        Self { heading: heading.into(), width: Some(width), left: false }
    }
}

/// The columns' headings, with a sign at the one by which the rows are sorted.
pub(super) fn marked<O: Sorted>(mut columns: Vec<Column>, table: &Table<O>, signs: &Signs) -> Vec<Column> {
    for column in &mut columns {
        if column.heading == table.order.heading() {
            column.heading.push(if table.ascending { signs.up } else { signs.down });
        }
    }
    columns
}

/// Draws headings and rows. Of the rows, those from `first` on; `selected` is marked.
pub(super) fn draw(
    canvas: &mut Canvas,
    area: Rect,
    columns: &[Column],
    rows: &[Vec<Piece>],
    first: usize,
    selected: Option<usize>,
    target: Option<fn(usize) -> Target>,
) {
    let widths = widths(columns, usize::from(area.width));
    let headings: Vec<Piece> = columns.iter().map(|column| (Tone::Title, column.heading.clone())).collect();
    let line = aligned(columns, &widths, &headings, canvas.theme.signs().cut);
    canvas.text(area, 0, &line);
    for (number, row) in rows.iter().enumerate().skip(first).take(usize::from(area.height.saturating_sub(1))) {
        let down = (number - first) as u16 + 1;
        let line = aligned(columns, &widths, row, canvas.theme.signs().cut);
        canvas.text(area, down, &line);
        let whole = Rect { y: area.y + down, height: 1, ..area };
        if selected == Some(number) {
            canvas.select(whole);
        }
        if let Some(target) = target {
            canvas.hit(whole, target(number));
        }
    }
}

fn widths(columns: &[Column], all: usize) -> Vec<usize> {
    let taken: usize = columns.iter().map(|column| column.width.map_or(1, |width| width + 1)).sum();
    columns.iter().map(|column| column.width.unwrap_or_else(|| (all + 1).saturating_sub(taken).max(4))).collect()
}

fn aligned(columns: &[Column], widths: &[usize], cells: &[Piece], cut: char) -> Vec<Piece> {
    let mut line = Vec::new();
    for ((column, width), (tone, text)) in columns.iter().zip(widths).zip(cells) {
        let text = fitted(text, *width, cut);
        line.push((*tone, if column.left { format!("{text:<width$}") } else { format!("{text:>width$}") }));
        line.push((Tone::Text, " ".into()));
    }
    line.pop();
    line
}

/// No wider than this.
pub(super) fn fitted(text: &str, width: usize, cut: char) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push(cut);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_column_takes_what_is_left() {
        let columns = [Column::rest("name"), Column::number("a", 5), Column::number("b", 6)];
        assert_eq!(widths(&columns, 40), [27, 5, 6]);
        let cells = [(Tone::Text, "x".to_owned()), (Tone::Text, "1".to_owned()), (Tone::Text, "1234567".to_owned())];
        let line: String = aligned(&columns, &[4, 5, 6], &cells, '~').into_iter().map(|(_, text)| text).collect();
        assert_eq!(line, "x        1 12345~");
    }
}
