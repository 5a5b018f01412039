//! The overview: rates, the pool, its occupancy over time, the devices that bounce most, and what was lost.

use ratatui::layout::{Constraint, Layout, Rect};

use super::canvas::Canvas;
use super::{Seen, devices, losses, pool, rates};

/// Rows from which on the devices fit too: a terminal of 24.
const TALL: u16 = 18;
/// Rows from which on all losses fit.
const ROOMY: u16 = 24;
/// Rows of the fewest devices that are worth a panel.
const DEVICES: u16 = 5;
/// Rows of rates and of the pool.
const NUMBERS: u16 = 6;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let losses = match losses::lines(seen, area.width).len() as u16 {
        0 => 0,
        lines => lines.min(if area.height < ROOMY { 2 } else { 4 }) + 2,
    };
    let rest = area.height.saturating_sub(NUMBERS + losses);
    let table = if area.height >= TALL { (rest / 2).max(DEVICES) } else { 0 };
    let rows = [Constraint::Length(NUMBERS), Constraint::Min(3), Constraint::Length(table), Constraint::Length(losses)];
    let [numbers, chart, below, lost] = Layout::vertical(rows).areas(area);
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(numbers);
    rates::draw(seen, left, canvas);
    pool::draw(seen, right, canvas);
    pool::over_time(seen, chart, canvas);
    if table > 0 {
        devices::draw(seen, below, canvas);
    }
    if losses > 0 {
        losses::draw(seen, lost, canvas);
    }
}
