//! What is missing from what is seen.

use ratatui::layout::Rect;
use tracer::replay::losses::{TOLERATED, is_tolerated};
use tracer::stream::Streamed;

use super::Seen;
use super::canvas::{Canvas, Piece, title};
use super::numbers::count;
use super::wrap::broken;
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("losses"));
    for (row, line) in lines(seen, area.width).into_iter().enumerate() {
        canvas.text(inner, row as u16, &[line]);
    }
}

/// One line each, or several where it is too long for a panel so wide; none where nothing is missing.
pub(super) fn lines(seen: &Seen, width: u16) -> Vec<Piece> {
    let width = usize::from(width).saturating_sub(4);
    let said = said(seen).into_iter();
    said.flat_map(|Said { tone, line, .. }| broken(&line, width).into_iter().map(move |part| (tone, part))).collect()
}

/// The worst of it, in a few words.
pub(super) fn in_short(seen: &Seen) -> Piece {
    let said = said(seen);
    let worst = [Tone::Bad, Tone::Text].into_iter().find_map(|tone| said.iter().find(|said| said.tone == tone));
    worst.map_or_else(|| (Tone::Good, "nothing lost".into()), |said| (said.tone, said.short.clone()))
}

/// Something that is missing.
struct Said {
    tone: Tone,
    /// What there is room for anywhere.
    short: String,
    line: String,
}

impl Said {
    fn new(tone: Tone, short: impl Into<String>, line: impl Into<String>) -> Self {
        Self { tone, short: short.into(), line: line.into() }
    }
}

/// All that is missing, the worst first.
fn said(seen: &Seen) -> Vec<Said> {
    let history = seen.history;
    let mut lines = Vec::new();
    if let Some(failed) = &seen.state.failed {
        lines.push(Said::new(Tone::Bad, "STOPPED", failed));
    }
    let counters = history.counters();
    let lost =
        counters.lost.iter().map(|(loss, values)| (loss, values.iter().sum::<u64>())).filter(|(_, sum)| *sum > 0);
    let (few, many): (Vec<_>, Vec<_>) = lost.partition(|(loss, _)| is_tolerated(loss, counters, TOLERATED));
    let few_lost = "lost, at most 0.1 % of each";
    let kinds = [(Tone::Bad, "RECORDS LOST", "LOST", many), (Tone::Text, "at most 0.1 % lost", few_lost, few)];
    for (tone, short, word, lost) in kinds {
        if !lost.is_empty() {
            let lost: Vec<String> = lost.iter().map(|(loss, sum)| format!("{loss} {}", count(*sum))).collect();
            lines.push(Said::new(tone, short, format!("{word} since the beginning: {}", lost.join(", "))));
        }
    }
    let gaps = &history.gaps;
    if gaps.damaged_frames > 0 || gaps.skipped_bytes > 0 || gaps.unknown_frames > 0 {
        lines.push(Said::new(
            Tone::Bad,
            "DAMAGED",
            format!(
                "the capture is damaged: {} frames, {} bytes skipped, {} frames of unknown kind",
                gaps.damaged_frames, gaps.skipped_bytes, gaps.unknown_frames
            ),
        ));
    }
    if seen.state.read >= 1.0 && (gaps.no_end && !seen.state.is_live() || gaps.cut_bytes > 0) {
        lines.push(Said::new(Tone::Bad, "CUT", "the capture was cut: it has no end"));
    }
    let absent = history.start.hooks.iter().filter(|hook| !hook.attached);
    let absent: Vec<&str> = absent.map(|hook| hook.subject.name()).collect();
    if !absent.is_empty() {
        let short = format!("{} of {} hooks missing", absent.len(), history.start.hooks.len());
        lines.push(Said::new(Tone::Text, short, format!("not attached: {}", absent.join(", "))));
    }
    if history.has_begun() && history.start.streamed != Streamed::All {
        let which = history.start.streamed.name();
        let line = format!(
            "only mappings that may bounce were recorded one by one ({which}); the others are not on this screen"
        );
        lines.push(Said::new(Tone::Dim, "", line));
    }
    lines.sort_by_key(|said| said.tone != Tone::Bad);
    lines
}
