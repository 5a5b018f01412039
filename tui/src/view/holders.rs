//! Who holds slots of the pool at the window's end, for how long, how long those held theirs that were given back, and how full the pool is in
//! the long run.

use ratatui::layout::{Constraint, Layout, Rect};
use tracer::replay::holders::{HeldRow, HeldTimes, HolderRow, SlotHolders};
use tracer::report::holders::{age, from, leaks, site};

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
/// Rows of a panel around those of its table: its frame and the headings.
const AROUND: usize = 3;
/// Rows from which on there is room for two tables.
const TWO_TABLES: u16 = 10;
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
    let [now, until] = two(table, held);
    holders(seen, held, now, canvas);
    if until.height > 0 {
        times(seen, &held.times, until, canvas);
    }
}

/// Places for who holds slots and for how long others did: half of the room for each, or what one of them needs.
fn two(area: Rect, held: &SlotHolders) -> [Rect; 2] {
    let [now, until] = [held.at_end.rows.len(), held.times.rows.len()];
    if until == 0 || area.height < TWO_TABLES {
        return [area, Rect { height: 0, ..area }];
    }
    let needs = |rows: usize| (rows.max(1) + AROUND).min(usize::from(area.height)) as u16;
    let half = area.height / 2;
    // What is said of a leak has lines below the rows: only without one is it known how many are needed.
    let is_short = needs(now) <= half && leaks(&held.at_end).next().is_none();
    let first = if is_short { needs(now) } else { half.max(area.height.saturating_sub(needs(until))) };
    Layout::vertical([Constraint::Length(first), Constraint::Min(0)]).areas(area)
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
    if !wide {
        leave_out([7, 6, 4, 1], &mut columns, &mut cells);
    }
    let below = leaks(holders).next().map(|said| broken(&said, usize::from(inner.width))).unwrap_or_default();
    let height = inner.height.saturating_sub(below.len() as u16);
    table::draw(canvas, Rect { height, ..inner }, &columns, &cells, first(seen, cells.len(), height), None, None);
    if cells.is_empty() {
        canvas.text(inner, 1, &[dim("nobody holds slots that were taken since the beginning")]);
    }
    for (row, line) in below.into_iter().enumerate() {
        canvas.text(inner, height + row as u16, &[(Tone::Bad, line)]);
    }
}

/// Leaves these columns out, the last of them first.
fn leave_out<const N: usize>(numbers: [usize; N], columns: &mut Vec<Column>, cells: &mut [Vec<Piece>]) {
    for number in numbers {
        columns.remove(number);
        for row in &mut *cells {
            row.remove(number);
        }
    }
}

/// The first row that is shown in a table of this height.
fn first(seen: &Seen, rows: usize, height: u16) -> usize {
    seen.state.pool_scroll.min(rows.saturating_sub(usize::from(height).saturating_sub(1)))
}

/// How long slots were held that were given back.
fn times(seen: &Seen, times: &HeldTimes, area: Rect, canvas: &mut Canvas) {
    let mut heading = title(format!("held until given back: {}", times.rows.len()));
    if times.rows.iter().any(HeldRow::is_censored) {
        heading.push(dim("  * 10 % or more are still held"));
    }
    if times.left_out > 0 {
        heading.push(dim(format!("  {} buffers left out", count(times.left_out))));
    }
    let inner = canvas.panel(area, &heading);
    let wide = inner.width >= WIDE;
    let mut columns = vec![
        Column::text("device", if wide { 16 } else { 14 }),
        Column::text("driver", 12),
        Column::rest("buffers from"),
        Column::number("buffers", 9),
        Column::number("half", 8),
        Column::number("90 %", 8),
        Column::number("99 %", 8),
        Column::number("longest", 9),
    ];
    let mut cells: Vec<Vec<Piece>> = times.rows.iter().map(times_cells).collect();
    if !wide {
        leave_out([7, 1], &mut columns, &mut cells);
    }
    table::draw(canvas, inner, &columns, &cells, first(seen, cells.len(), inner.height), None, None);
}

fn times_cells(row: &HeldRow) -> Vec<Piece> {
    let mark = if row.is_censored() { " *" } else { "" };
    vec![
        plain(row.device.clone()),
        plain(row.driver.clone()),
        plain(site(&row.call_site, &row.module)),
        plain(format!("{}{mark}", count(row.given_back))),
        (Tone::Real, age(row.median_ns)),
        plain(age(row.p90_ns)),
        plain(age(row.p99_ns)),
        plain(age(row.longest_ns)),
    ]
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
