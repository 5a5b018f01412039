//! The pool: how full it is, was and would be.

use ratatui::layout::Rect;

use super::Seen;
use super::bars::{bar, chart};
use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{clock, count};
use crate::theme::Tone;
use tracer::replay::outcome::Outcome;

/// The gauge.
pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let kernel = &seen.history.start.kernel.pool;
    let real = grown(seen_to_grow(seen));
    let inner = canvas.panel(area, &title(format!("pool, {} slots of 2 KiB{real}", kernel.slots)));
    let (from, to) = seen.state.time.window();
    let sum = seen.history.sum(from, to);
    let used = sum.used_slots;
    let width = usize::from(inner.width).saturating_sub(26);
    let [full, empty] = bar(used.unwrap_or(0), kernel.slots, width, Tone::Real, canvas.theme);
    let unknown = if kernel.slots == 0 { "0" } else { "?" };
    let said = used.map_or(unknown.to_owned(), count);
    canvas.text(inner, 0, &[plain("in window "), (Tone::Real, format!("{said:>7} ")), dim("at most "), full, empty]);

    let mut fullest: Vec<Piece> = vec![plain("fullest   ")];
    match seen.history.fullest() {
        Some((time_ns, slots)) => {
            let when = clock(time_ns.saturating_sub(seen.history.start.time_ns));
            fullest.extend([(Tone::Real, format!("{:>7} ", count(slots))), dim(format!("at {when}"))]);
        }
        None => fullest.push(dim("not seen")),
    }
    let high = seen.history.examined.pool.as_ref().and_then(|sample| sample.hiwater_slots);
    if let Some(high) = high {
        let since = if kernel.hiwater_reset { "kernel" } else { "since boot" };
        fullest.push(dim(format!(" ({since} {})", count(high))));
    }
    canvas.text(inner, 1, &fullest);

    let Some(outcome) = seen.answer.and_then(|answer| answer.chosen()) else {
        canvas.text(inner, 2, &[plain("predicted "), dim("replaying")]);
        return;
    };
    let grown = grown(outcome.has_grown_at_peak());
    let what = format!("of {}{grown}, {}", count(outcome.total_slots), outcome.name);
    canvas.text(
        inner,
        2,
        &[plain("predicted "), (Tone::Predicted, format!("{:>7} ", count(outcome.peak_slots))), dim(what)],
    );
    let refused = |count: u64| if count == 0 { Tone::Text } else { Tone::Bad };
    canvas.text(
        inner,
        3,
        &[
            plain("refused   "),
            (refused(sum.refused), format!("{:>7} ", count(sum.refused))),
            dim("predicted "),
            (refused(outcome.total.failed), count(outcome.total.failed)),
        ],
    );
}

/// Whether the kernel added pools, as far as it was seen.
fn seen_to_grow(seen: &Seen) -> bool {
    seen.history.fullest().is_some_and(|(_, slots)| seen.history.start.kernel.pool.has_grown(slots))
}

/// What stands behind the slots that a pool begins with, where it was larger when most were in use.
fn grown(has_grown: bool) -> &'static str {
    if has_grown { ", grown" } else { "" }
}

/// Occupancy over the window.
pub(super) fn over_time(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let (from, to) = seen.state.time.window();
    let level =
        seen.answer.and_then(|answer| answer.chosen()).map(|outcome| outcome.peak_slots).filter(|slots| *slots > 0);
    let mut heading = title("slots in use");
    if let Some(level) = level {
        heading.extend([(Tone::Predicted, format!("  {} predicted at most {level}", canvas.theme.signs().level))]);
    }
    let slots = seen.history.start.kernel.pool.slots;
    let has_grown =
        seen_to_grow(seen) || seen.answer.and_then(|answer| answer.chosen()).is_some_and(Outcome::has_grown_at_peak);
    heading.push(dim(match (seen.state.zoomed, slots) {
        (_, 0) => String::new(),
        (true, _) => "  z: to the scale of the pool".to_owned(),
        (false, slots) => format!("  of {}{} (z: zoom in)", count(slots), grown(has_grown)),
    }));
    let inner = canvas.panel(area, &heading);
    let wide = inner.width.saturating_sub(6);
    let plot = Rect { x: inner.x + 6, width: wide, ..inner };
    let columns = seen.history.columns(from, to, usize::from(wide));
    let values: Vec<Option<u64>> = columns.iter().map(|(bucket, _)| bucket.used_slots).collect();
    let seen_most = values.iter().flatten().copied().max();
    let most = seen_most.max(level).unwrap_or(0);
    let largest = if seen.state.zoomed { most } else { most.max(slots) };
    if seen_most.is_none() {
        let why = match slots {
            0 => "this kernel has no pool",
            _ => "how full the pool was in this window is not known",
        };
        canvas.text(plot, inner.height / 2, &[dim(why)]);
    }
    chart(canvas, plot, &values, level, largest);
    canvas.text(inner, 0, &[dim(format!("{:>5}", count(largest)))]);
    if inner.height > 1 {
        canvas.text(inner, inner.height - 1, &[dim(format!("{:>5}", 0))]);
    }
}
