//! The status: whether all is well in the window, in a word and a sentence, and whether what is seen is complete.

use ratatui::layout::Rect;
use tracer::report::answer::Verdict;

use super::canvas::{Canvas, Piece, dim, plain};
use super::numbers::count;
use super::{Seen, losses};
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let (tone, complete) = losses::in_short(seen);
    let width = complete.chars().count() as u16 + 2;
    let left = Rect { width: area.width.saturating_sub(width), ..area };
    canvas.text(left, 0, &said(seen));
    canvas.text_right(area, 0, &[(tone, format!(" {complete} "))]);
}

fn said(seen: &Seen) -> Vec<Piece> {
    let Some(answer) = seen.answer else { return vec![dim(" replaying")] };
    let (verdict, sentence) = &answer.verdict;
    let tone = match verdict {
        Verdict::Ok => Tone::Good,
        Verdict::Fails => Tone::Bad,
        Verdict::CannotTell => Tone::Strong,
    };
    let mut pieces = vec![(tone, format!(" {}  ", verdict.word())), plain(sentence)];
    let before = refused_outside(seen);
    if before > 0 && *verdict != Verdict::Fails {
        pieces.push((Tone::Bad, format!(" {} were, outside this window.", count(before))));
    }
    pieces
}

/// Mappings that the kernel refused, but not in the window.
fn refused_outside(seen: &Seen) -> u64 {
    let time = &seen.state.time;
    let (from, to) = time.window();
    let refused = |from, to| seen.history.sum(from, to).refused;
    refused(time.first_ns, time.last_ns).saturating_sub(refused(from, to))
}
