//! The overview: rates, the pool, its occupancy over time, the devices that bounce most, and what was lost.

use ratatui::layout::{Constraint, Layout, Rect};

use super::canvas::Canvas;
use super::{Seen, devices, losses, pool, rates};

/// Rows from which on the devices fit too: a terminal of 24.
const TALL: u16 = 18;
/// Rows of rates and of the pool.
const NUMBERS: u16 = 6;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let losses = losses::lines(seen, area.width).len().clamp(1, 4) as u16 + 2;
    let table = if area.height >= TALL { area.height.saturating_sub(NUMBERS + losses) / 2 } else { 0 };
    let rows = [Constraint::Length(NUMBERS), Constraint::Min(3), Constraint::Length(table), Constraint::Length(losses)];
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
