//! The table of devices.

use ratatui::layout::Rect;

use super::Seen;
use super::bars::sparkline;
use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{bytes, count, rate};
use super::table::{self, Column};
use crate::answer::Answer;
use crate::hit::Target;
use crate::state::Screen;
use crate::state::devices::{LENGTHS, Row, rows};
use crate::theme::Tone;

/// Columns from which on there is room for all lengths, and for bounces a second.
const WIDE: u16 = 100;
/// Columns below which there is none for lengths and drivers.
const NARROW: u16 = 76;

/// Which columns there is no room for, the last first.
const fn spared(width: u16) -> &'static [usize] {
    match width {
        WIDE.. => &[],
        NARROW.. => &[4],
        _ => &[6, 4, 1],
    }
}

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let table = &seen.state.devices;
    let Some(answer) = seen.answer else {
        let inner = canvas.panel(area, &title("devices"));
        canvas.text(inner, 0, &[dim("replaying")]);
        return;
    };
    let rows = rows(answer, table);
    let policy = answer.chosen().map_or("", |outcome| outcome.name.as_str());
    let mut heading = title(format!("devices: {}", rows.len()));
    heading.push(dim(format!("  predicted: {policy}")));
    let inner = canvas.panel(area, &heading);
    let wide = inner.width >= WIDE;
    let lengths = if wide { LENGTHS } else { LENGTHS / 2 };
    let mut columns = vec![
        Column::rest("device"),
        Column::text("driver", if wide { 14 } else { 10 }),
        Column::text("coh", 3),
        Column::number("maps/s", if wide { 9 } else { 6 }),
        Column::number("bounces/s", 9),
        Column::number("bytes/s", if wide { 9 } else { 7 }),
        Column::text(if wide { "lengths 1 B-128 K" } else { "lengths" }, lengths.max(9)),
        Column::number("real", if wide { 9 } else { 6 }),
        Column::number("predicted", 10),
        Column::number("refused", 7),
    ];
    let spared = spared(inner.width);
    for column in spared {
        columns.remove(*column);
    }
    let columns = table::marked(columns, table, canvas.theme.signs());
    let height = usize::from(inner.height).saturating_sub(1);
    let is_chosen = seen.state.screen == Screen::Devices;
    let selected = (is_chosen && !rows.is_empty()).then(|| table.selected(rows.len()));
    let first = if is_chosen { table.first_row(rows.len(), height) } else { 0 };
    let mut cells: Vec<Vec<Piece>> = rows.iter().map(|row| cells(row, answer, lengths, canvas)).collect();
    for row in &mut cells {
        for column in spared {
            row.remove(*column);
        }
    }
    let target: Option<fn(usize) -> Target> = if is_chosen { Some(Target::Device) } else { None };
    table::draw(canvas, inner, &columns, &cells, first, selected, target);
    if rows.is_empty() {
        canvas.text(inner, 1, &[dim("no device mapped anything in this window")]);
    }
}

fn cells(row: &Row, answer: &Answer, lengths: usize, canvas: &Canvas) -> Vec<Piece> {
    let seconds = answer.seconds();
    let shown: Vec<f64> = row.lengths.chunks(LENGTHS / lengths).map(|some| some.iter().sum::<u64>() as f64).collect();
    vec![
        plain(row.name.clone()),
        plain(row.driver.clone()),
        if row.coherent { dim("yes") } else { plain("no") },
        plain(rate(row.mappings as f64 / seconds)),
        (if row.bounces > 0 { Tone::Real } else { Tone::Dim }, rate(row.bounces as f64 / seconds)),
        plain(bytes((row.bytes as f64 / seconds) as u64).replace("iB", "")),
        (Tone::Dim, sparkline(&shown, canvas.theme)),
        (if row.bounces > 0 { Tone::Real } else { Tone::Dim }, count(row.bounces)),
        (if row.predicted > 0 { Tone::Predicted } else { Tone::Dim }, count(row.predicted)),
        (if row.refused > 0 { Tone::Bad } else { Tone::Dim }, count(row.refused)),
    ]
}
