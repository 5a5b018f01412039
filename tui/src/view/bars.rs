//! Bars, columns side by side, and a chart of them.

use ratatui::layout::Rect;

use super::canvas::{Canvas, Piece};
use crate::theme::{Theme, Tone};

/// One row of columns, each a part of the largest. What is not nothing is seen.
pub(super) fn sparkline(values: &[f64], theme: Theme) -> String {
    let largest = values.iter().copied().fold(0.0, f64::max);
    values.iter().map(|value| theme.signs().columns[eighths(*value, largest, 8)]).collect()
}

/// How many eighths of so many rows.
fn eighths(value: f64, largest: f64, all: usize) -> usize {
    if value <= 0.0 || largest <= 0.0 || all == 0 {
        return 0;
    }
    ((value / largest * all as f64).round() as usize).clamp(1, all)
}

/// A bar of a part of a whole.
pub(super) fn bar(part: u64, whole: u64, width: usize, tone: Tone, theme: Theme) -> [Piece; 2] {
    let filled = eighths(part as f64, whole as f64, width);
    let signs = theme.signs();
    [
        (tone, signs.full.to_string().repeat(filled)),
        (Tone::Dim, signs.empty.to_string().repeat(width.saturating_sub(filled))),
    ]
}

/// Columns as high as the area, and a level through them.
pub(super) fn chart(canvas: &mut Canvas, area: Rect, values: &[Option<u64>], level: Option<u64>, largest: u64) {
    let signs = canvas.theme.signs();
    let all = usize::from(area.height) * 8;
    let level_row = level.map(|level| (eighths(level as f64, largest as f64, all).max(1) - 1) / 8);
    for (x, value) in (area.x..area.right()).zip(values) {
        let high = value.map_or(0, |value| eighths(value as f64, largest as f64, all));
        for row in 0..usize::from(area.height) {
            let y = area.bottom() - 1 - row as u16;
            let filled = high.saturating_sub(row * 8).min(8);
            if filled > 0 {
                canvas.sign(x, y, signs.columns[filled], Tone::Real);
            } else if level_row == Some(row) {
                canvas.sign(x, y, signs.level, Tone::Predicted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_little_is_seen_and_nothing_is_not() {
        let theme = Theme::default();
        assert_eq!(sparkline(&[0.0, 1.0, 1000.0], theme), " ▁█");
        assert_eq!(sparkline(&[0.0, 0.0], theme), "  ");
        assert_eq!(sparkline(&[0.0, 1.0, 1000.0], Theme { ascii: true, ..theme }), " .#");
    }

    #[test]
    fn a_bar_is_as_wide_as_asked_for() {
        for part in [0, 1, 50, 100, 1000] {
            let [full, empty] = bar(part, 100, 10, Tone::Real, Theme::default());
            assert_eq!(full.1.chars().count() + empty.1.chars().count(), 10, "{part}");
            assert_eq!(full.1.is_empty(), part == 0);
        }
        assert_eq!(bar(0, 0, 3, Tone::Real, Theme::default())[1].1, "░░░");
    }
}
