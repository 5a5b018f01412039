//! Who holds slots of the pool at the window's end, for how long, and how full the pool is in the long run.

use ratatui::layout::{Constraint, Layout, Rect};
use tracer::replay::holders::{HolderRow, SlotHolders};
use tracer::report::holders::{age, from, leaks};

use super::Seen;
use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{clock, count};
use super::pool;
use super::table::{self, Column};
use super::wrap::broken;
use crate::theme::Tone;

/// Rows of the numbers.
const NUMBERS: u16 = 6;
/// Rows from which on occupancy over the window fits too.
const TALL: u16 = 28;
/// Columns from which on there is room for drivers, buffers and medians.
const WIDE: u16 = 100;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let chart = if area.height >= TALL { area.height / 4 } else { 0 };
    let rows = [Constraint::Length(NUMBERS), Constraint::Length(chart), Constraint::Min(3)];
    let [numbers, over_time, table] = Layout::vertical(rows).areas(area);
    let Some(held) = seen.answer.and_then(|answer| answer.held.as_ref()) else {
        let inner = canvas.panel(area, &title("pool"));
        canvas.text(inner, 0, &[dim("replaying")]);
        return;
    };
    self::numbers(seen, held, numbers, canvas);
    if chart > 0 {
        pool::over_time(seen, over_time, canvas);
    }
    holders(seen, held, table, canvas);
}

fn numbers(seen: &Seen, held: &SlotHolders, area: Rect, canvas: &mut Canvas) {
    let since = |time_ns: u64| clock(time_ns.saturating_sub(seen.history.start.time_ns));
    let slots = seen.history.start.kernel.pool.slots;
    let heading = format!("pool at {}, {} slots of 2 KiB", since(held.at_end.time_ns), count(slots));
    let inner = canvas.panel(area, &title(heading));
    let label = |text: &str| plain(format!("{text:<11}"));
    let doubt = if held.at_most { ", or fewer: releases were lost" } else { "" };
    let peak = &held.at_peak;
    let fullest = format!("{doubt}; fullest {} at {}", count(peak.used_slots), since(peak.time_ns));
    canvas.text(inner, 0, &[label("in use"), (Tone::Real, count(held.at_end.used_slots)), dim(fullest)]);
    let floors: Vec<String> = held.trend.floors.iter().map(|slots| count(*slots)).collect();
    let mut floor = vec![label("at least"), (Tone::Real, floors.join(", "))];
    floor.push(dim(" in each quarter of the time"));
    if held.trend.rise > 0 {
        floor.push((Tone::Bad, format!("  RISING by {}", count(held.trend.rise))));
    }
    canvas.text(inner, 1, &floor);
    let ages: Vec<String> = held.at_end.ages().map(|(age, slots)| format!("{} for {age}", count(slots))).collect();
    let ages = if ages.is_empty() { dim("nothing") } else { plain(ages.join(", ")) };
    canvas.text(inner, 2, &[label("held"), ages]);
    let full = held.trend.nearly_full_ns;
    let full = if full > 0 { (Tone::Bad, format!("for {}", age(full))) } else { dim("at no time") };
    canvas.text(inner, 3, &[label("above 80 %"), full]);
}

fn holders(seen: &Seen, held: &SlotHolders, area: Rect, canvas: &mut Canvas) {
    let holders = &held.at_end;
    let mut heading = title(format!("held by: {}", holders.rows.len()));
    let older = holders.older_slots();
    if older > 0 {
        heading.push(dim(format!("  and {} slots taken before the beginning", count(older))));
    }
    let inner = canvas.panel(area, &heading);
    let wide = inner.width >= WIDE;
    let mut columns = vec![
        Column::text("device", if wide { 16 } else { 14 }),
        Column::text("driver", 12),
        Column::rest("buffers from"),
        Column::number("slots", 6),
        Column::number("buffers", 7),
        Column::number("longest", 9),
        Column::number("median", 9),
        Column::number("given back", 10),
        Column::text("", 5),
    ];
    let mut cells: Vec<Vec<Piece>> = holders.rows.iter().map(cells).collect();
    for column in if wide { [].as_slice() } else { &[7, 6, 4, 1] } {
        columns.remove(*column);
        for row in &mut cells {
            row.remove(*column);
        }
    }
    let below = leaks(holders).next().map(|said| broken(&said, usize::from(inner.width))).unwrap_or_default();
    let height = inner.height.saturating_sub(below.len() as u16);
    let first = seen.state.pool_scroll.min(cells.len().saturating_sub(usize::from(height).saturating_sub(1)));
    table::draw(canvas, Rect { height, ..inner }, &columns, &cells, first, None, None);
    if cells.is_empty() {
        canvas.text(inner, 1, &[dim("nobody holds slots that were taken since the beginning")]);
    }
    for (row, line) in below.into_iter().enumerate() {
        canvas.text(inner, height + row as u16, &[(Tone::Bad, line)]);
    }
}

fn cells(row: &HolderRow) -> Vec<Piece> {
    vec![
        plain(row.device.clone()),
        plain(row.driver.clone()),
        plain(from(row)),
        (Tone::Real, count(row.slots)),
        plain(count(row.buffers)),
        plain(age(row.longest_ns)),
        plain(age(row.median_ns)),
        plain(count(row.given_back)),
        if row.is_leak() { (Tone::Bad, "LEAK?".to_owned()) } else { plain("") },
    ]
}
