//! How much happens: allocations, mappings, bounces and refusals, per second and over the window.

use ratatui::layout::Rect;

use super::Seen;
use super::bars::sparkline;
use super::canvas::{Canvas, plain, title};
use super::numbers::rate;
use crate::history::Bucket;
use crate::theme::Tone;

/// Columns of name and number.
const SAID: usize = 17;

/// What a line is about.
#[derive(Clone, Copy)]
enum Counted {
    Allocations,
    Mappings,
    Bounces,
    Refused,
}

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("a second"));
    let (from, to) = seen.state.time.window();
    let sum = seen.history.sum(from, to);
    let seconds = (to.saturating_sub(from) as f64 / 1e9).max(1e-9);
    let columns = seen.history.columns(from, to, usize::from(inner.width).saturating_sub(SAID));
    let lines = [
        ("kmalloc", Tone::Text, Counted::Allocations),
        ("mappings", Tone::Text, Counted::Mappings),
        ("bounces", Tone::Real, Counted::Bounces),
        ("refused", Tone::Bad, Counted::Refused),
    ];
    let value = |counted: Counted, bucket: &Bucket| match counted {
        Counted::Allocations => bucket.allocations,
        Counted::Mappings => bucket.mappings as f64,
        Counted::Bounces => seen.history.bounces(bucket) as f64,
        Counted::Refused => bucket.refused as f64,
    };
    for (row, (name, tone, counted)) in lines.into_iter().enumerate() {
        let values: Vec<f64> = columns.iter().map(|(bucket, ns)| value(counted, bucket) / ns).collect();
        let number = value(counted, &sum) / seconds;
        // Nothing refused is nothing to be alarmed about.
        let tone = if tone == Tone::Bad && number == 0.0 { Tone::Text } else { tone };
        let pieces = [
            plain(format!("{name:<8} ")),
            (tone, format!("{:>7} ", rate(number))),
            (tone, sparkline(&values, canvas.theme)),
        ];
        canvas.text(inner, row as u16, &pieces);
    }
}
