//! What is missing from what is seen.

use ratatui::layout::Rect;
use tracer::replay::losses::{TOLERATED, is_tolerated};
use tracer::stream::Streamed;

use super::Seen;
use super::canvas::{Canvas, Piece, dim, title};
use super::numbers::count;
use super::wrap::broken;
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("losses"));
    for (row, line) in lines(seen, area.width).into_iter().enumerate() {
        canvas.text(inner, row as u16, &[line]);
    }
}

/// One line each, or several where it is too long for a panel so wide; one that says so where nothing was lost.
pub(super) fn lines(seen: &Seen, width: u16) -> Vec<Piece> {
    let width = usize::from(width).saturating_sub(4);
    let pieces = said(seen).into_iter();
    pieces.flat_map(|(tone, line)| broken(&line, width).into_iter().map(move |part| (tone, part))).collect()
}

fn said(seen: &Seen) -> Vec<Piece> {
    let history = seen.history;
    let mut lines: Vec<Piece> = Vec::new();
    if let Some(failed) = &seen.state.failed {
        lines.push((Tone::Bad, failed.clone()));
    }
    let counters = history.counters();
    let lost =
        counters.lost.iter().map(|(loss, values)| (loss, values.iter().sum::<u64>())).filter(|(_, sum)| *sum > 0);
    let (few, many): (Vec<_>, Vec<_>) = lost.partition(|(loss, _)| is_tolerated(loss, counters, TOLERATED));
    for (tone, word, lost) in [(Tone::Bad, "LOST", many), (Tone::Text, "lost, at most 0.1 % of each", few)] {
        if !lost.is_empty() {
            let lost: Vec<String> = lost.iter().map(|(loss, sum)| format!("{loss} {}", count(*sum))).collect();
            lines.push((tone, format!("{word} since the beginning: {}", lost.join(", "))));
        }
    }
    let gaps = &history.gaps;
    if gaps.damaged_frames > 0 || gaps.skipped_bytes > 0 || gaps.unknown_frames > 0 {
        lines.push((
            Tone::Bad,
            format!(
                "the capture is damaged: {} frames, {} bytes skipped, {} frames of unknown kind",
                gaps.damaged_frames, gaps.skipped_bytes, gaps.unknown_frames
            ),
        ));
    }
    if seen.state.read >= 1.0 && (gaps.no_end && !seen.state.is_live() || gaps.cut_bytes > 0) {
        lines.push((Tone::Bad, "the capture was cut: it has no end".into()));
    }
    let absent = history.start.hooks.iter().filter(|hook| !hook.attached);
    let absent: Vec<&str> = absent.map(|hook| hook.subject.name()).collect();
    if !absent.is_empty() {
        lines.push((Tone::Text, format!("not attached: {}", absent.join(", "))));
    }
    if history.has_begun() && history.start.streamed != Streamed::All {
        let which = history.start.streamed.name();
        lines.push(dim(format!(
            "only mappings that may bounce were recorded one by one ({which}); the others are not on this screen"
        )));
    }
    if lines.is_empty() {
        lines.push((Tone::Good, "nothing lost".into()));
    }
    lines
}
