//! The keys of the screen, over it.

use ratatui::layout::Rect;

use super::Seen;
use super::canvas::{Canvas, dim, plain, title};
use crate::hit::Target;
use crate::keys::keys_of;
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let keys: Vec<_> = keys_of(seen.state).collect();
    let width = 64.min(area.width);
    let height = (keys.len() as u16 + 3).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    canvas.clear(place);
    let inner = canvas.panel(place, &title(format!("keys: {}", seen.state.screen.title())));
    for (row, key) in keys.iter().enumerate() {
        canvas.text(inner, row as u16, &[(Tone::Strong, format!(" {:<14}", key.keys)), plain(key.does)]);
    }
    canvas.text(inner, keys.len() as u16, &[dim(" any key closes this")]);
    canvas.hit(area, Target::Nothing);
}
