//! The overview: rates, the pool, its occupancy over time, what was lost; and in a tall terminal the devices that bounce most.

use ratatui::layout::{Constraint, Layout, Rect};

use super::canvas::Canvas;
use super::{Seen, devices, losses, pool, rates};

/// Rows from which on the devices fit too.
const TALL: u16 = 30;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let table = if area.height >= TALL { area.height / 3 } else { 0 };
    let losses = losses::lines(seen, area.width).len().clamp(1, 4) as u16 + 2;
    let rows = [Constraint::Length(6), Constraint::Min(3), Constraint::Length(table), Constraint::Length(losses)];
    let [numbers, chart, below, lost] = Layout::vertical(rows).areas(area);
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(numbers);
    rates::draw(seen, left, canvas);
    pool::draw(seen, right, canvas);
    pool::over_time(seen, chart, canvas);
    if table > 0 {
        devices::draw(seen, below, canvas);
    }
    losses::draw(seen, lost, canvas);
}
