//! The status: whether all is well in the window, in a word and a sentence, and whether what is seen is complete.

use ratatui::layout::Rect;
use tracer::report::answer::Verdict;

use super::canvas::{Canvas, Piece, dim, plain};
use super::numbers::count;
use super::{Seen, losses};
use crate::theme::Tone;

/// Lines that the status takes at most, so that the screen below keeps its room.
const MOST_LINES: usize = 3;

/// The status as it is shown in an area of some width.
pub(super) struct Status {
    /// What is said, from the first line on.
    lines: Vec<Vec<Piece>>,
    complete: Piece,
}

impl Status {
    pub(super) fn new(seen: &Seen, width: u16) -> Self {
        let (tone, complete) = losses::in_short(seen);
        let beside = usize::from(width).saturating_sub(complete.chars().count() + 2);
        let lines = folded(said(seen), beside, usize::from(width));
        Self { lines, complete: (tone, format!(" {complete} ")) }
    }

    /// Lines that it takes.
    pub(super) fn height(&self) -> u16 {
        self.lines.len() as u16
    }

    pub(super) fn draw(&self, area: Rect, canvas: &mut Canvas) {
        let beside = (self.complete.1.chars().count() as u16).min(area.width);
        for (row, line) in (0..).zip(&self.lines) {
            let width = if row == 0 { area.width - beside } else { area.width };
            canvas.text(Rect { width, ..area }, row, line);
        }
        canvas.text_right(area, 0, std::slice::from_ref(&self.complete));
    }
}

/// Pieces on as few lines as they need: a first one of `first` columns, then `others`, which begin with a blank as it does.
fn folded(pieces: Vec<Piece>, first: usize, others: usize) -> Vec<Vec<Piece>> {
    let (mut lines, mut line): (Vec<Vec<Piece>>, Vec<Piece>) = (Vec::new(), Vec::new());
    let mut room = first;
    for (tone, text) in pieces {
        for word in text.split_inclusive(' ') {
            if !line.is_empty() && word.trim_end().chars().count() > room && lines.len() + 1 < MOST_LINES {
                lines.push(std::mem::replace(&mut line, vec![plain(" ")]));
                room = others.saturating_sub(1);
            }
            room = room.saturating_sub(word.chars().count());
            match line.last_mut() {
                Some((before, text)) if *before == tone => text.push_str(word),
                _ => line.push((tone, word.to_owned())),
            }
        }
    }
    lines.push(line);
    lines
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
