//! The table of call sites.

use ratatui::layout::Rect;

use super::Seen;
use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{bytes, rate, signed_bytes};
use super::table::{self, Column};
use crate::hit::Target;
use crate::state::call_sites::{Row, rows};
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let Some(answer) = seen.answer else {
        let inner = canvas.panel(area, &title("call sites"));
        canvas.text(inner, 0, &[dim("replaying")]);
        return;
    };
    let table = &seen.state.call_sites;
    let rows = rows(answer, seen.history, table);
    let mut heading = title(format!("call sites of kmalloc: {}", rows.len()));
    if let Some(outcome) = answer.chosen() {
        heading.push(dim(format!("  saved: {} with caches from {} bytes", outcome.name, outcome.minalign)));
    }
    let sample = answer.replayed.start.allocation_sample;
    let inner = canvas.panel(area, &heading);
    let columns = vec![
        Column::rest("call site"),
        Column::number("kmalloc/s", 10),
        Column::number("live", 9),
        Column::number("unused", 9),
        Column::number("saved", 9),
        Column::text("DMA", 4),
    ];
    let columns = table::marked(columns, table, canvas.theme.signs());
    let height = usize::from(inner.height).saturating_sub(2);
    let selected = (!rows.is_empty()).then(|| table.selected(rows.len()));
    let cells: Vec<Vec<Piece>> = rows.iter().map(cells).collect();
    let above = Rect { height: inner.height.saturating_sub(1), ..inner };
    let first = table.first_row(rows.len(), height);
    table::draw(canvas, above, &columns, &cells, first, selected, Some(Target::CallSite));
    let how = match sample {
        0 => "objects were not followed: live, unused and saved are not known".to_owned(),
        1 => "objects allocated and not freed in the window; saved under the what-if".to_owned(),
        n => {
            format!("objects allocated and not freed in the window, estimated from one in {n}; saved under the what-if")
        }
    };
    canvas.text(inner, inner.height.saturating_sub(1), &[dim(how)]);
}

fn cells(row: &Row) -> Vec<Piece> {
    let amount = |value: u64| if value == 0 { dim("0") } else { plain(bytes(value)) };
    let won = match row.won {
        0 => dim("0"),
        won if won > 0 => (Tone::Good, signed_bytes(won)),
        won => (Tone::Bad, signed_bytes(won)),
    };
    let dma = if row.reaches_dma { (Tone::Real, "DMA".to_owned()) } else { dim("-") };
    vec![plain(row.name.clone()), plain(rate(row.rate)), amount(row.live), amount(row.waste), won, dma]
}
