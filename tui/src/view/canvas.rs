//! Cells to draw on: pieces of text, panels, and what of them can be clicked on.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget as _};

use crate::hit::{Hit, Target};
use crate::theme::{Theme, Tone};

/// A piece of text.
pub(super) type Piece = (Tone, String);

/// A piece of plain text.
pub(super) fn plain(text: impl Into<String>) -> Piece {
    (Tone::Text, text.into())
}

/// A piece that matters less.
pub(super) fn dim(text: impl Into<String>) -> Piece {
    (Tone::Dim, text.into())
}

/// The cells.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    pub(super) theme: Theme,
    pub(super) hits: Vec<Hit>,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, theme: Theme) -> Self {
        Self { buffer, theme, hits: Vec::new() }
    }

    /// Text on a row of an area, cut where the area ends.
    pub(super) fn text(&mut self, area: Rect, row: u16, pieces: &[Piece]) {
        if row < area.height {
            let line = self.line(pieces);
            self.buffer.set_line(area.x, area.y + row, &line, area.width);
            if line.width() > usize::from(area.width) && area.width > 0 {
                let cut = self.theme.signs().cut;
                self.sign(area.right() - 1, area.y + row, cut, Tone::Dim);
            }
        }
    }

    /// The same at the right end.
    pub(super) fn text_right(&mut self, area: Rect, row: u16, pieces: &[Piece]) {
        let width = self.line(pieces).width().min(usize::from(area.width)) as u16;
        self.text(Rect { x: area.right() - width, width, ..area }, row, pieces);
    }

    fn line(&self, pieces: &[Piece]) -> Line<'static> {
        let spans = pieces.iter().map(|(tone, text)| Span::styled(self.shown(text), self.theme.style(*tone)));
        Line::from(spans.collect::<Vec<_>>())
    }

    /// What comes from outside may hold what a terminal would obey.
    fn shown(&self, text: &str) -> String {
        let shown = |sign: char| match sign {
            _ if sign.is_control() => '?',
            _ if !self.theme.ascii || sign.is_ascii() => sign,
            // Of units.
            'µ' => 'u',
            _ => '?',
        };
        text.chars().map(shown).collect()
    }

    /// One sign.
    pub(super) fn sign(&mut self, x: u16, y: u16, sign: char, tone: Tone) {
        if let Some(cell) = self.buffer.cell_mut((x, y)) {
            cell.set_char(sign).set_style(self.theme.style(tone));
        }
    }

    /// Marks a row as chosen.
    pub(super) fn select(&mut self, area: Rect) {
        let style = self.theme.style(Tone::Selected);
        self.buffer.set_style(area, style);
    }

    /// A frame with a title; what is within it.
    pub(super) fn panel(&mut self, area: Rect, title: &[Piece]) -> Rect {
        let block = Block::bordered()
            .border_set(self.theme.signs().border)
            .border_style(self.theme.style(Tone::Dim))
            .title_top(self.line(&[&[plain(" ")], title, &[plain(" ")]].concat()));
        let inner = block.inner(area);
        block.render(area, self.buffer);
        // A blank column to either side, where there is room.
        if inner.width > 90 { Rect { x: inner.x + 1, width: inner.width - 2, ..inner } } else { inner }
    }

    /// Empties an area.
    pub(super) fn clear(&mut self, area: Rect) {
        Clear.render(area, self.buffer);
    }

    /// This can be clicked on.
    pub(super) fn hit(&mut self, area: Rect, target: Target) {
        self.hits.push(Hit { area, target });
    }
}

/// The heading of a panel.
pub(super) fn title(text: impl Into<String>) -> Vec<Piece> {
    vec![(Tone::Title, text.into())]
}
