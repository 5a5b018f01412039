//! How much happens: allocations, mappings, bounces and refusals, a second and over the window.

use ratatui::layout::Rect;

use super::Seen;
use super::bars::sparkline;
use super::canvas::{Canvas, plain, title};
use super::numbers::rate;
use crate::history::Bucket;
use crate::theme::Tone;

/// Columns of name and number.
const SAID: usize = 17;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("a second"));
    let (from, to) = seen.state.time.window();
    let sum = seen.history.sum(from, to);
    let seconds = (to.saturating_sub(from) as f64 / 1e9).max(1e-9);
    let columns = seen.history.columns(from, to, usize::from(inner.width).saturating_sub(SAID));
    let bounces = |bucket: &Bucket| seen.history.bounces(bucket) as f64;
    let lines: [(&str, Tone, &dyn Fn(&Bucket) -> f64); 4] = [
        ("kmalloc", Tone::Text, &|bucket| bucket.allocations),
        ("mappings", Tone::Text, &|bucket| bucket.mappings as f64),
        ("bounces", Tone::Real, &bounces),
        ("refused", Tone::Bad, &|bucket| bucket.refused as f64),
    ];
    for (row, (name, tone, value)) in lines.into_iter().enumerate() {
        let values: Vec<f64> = columns.iter().map(|(bucket, ns)| value(bucket) / ns).collect();
        let number = value(&sum) / seconds;
        // Nothing refused is nothing to be alarmed about.
        let tone = if tone == Tone::Bad && number == 0.0 { Tone::Text } else { tone };
        let pieces =
            [plain(format!("{name:<8} ")), (tone, format!("{:>7} ", rate(number))), (tone, sparkline(&values, canvas.theme))];
        canvas.text(inner, row as u16, &pieces);
    }
}
