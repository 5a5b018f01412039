//! The screens, drawn into a buffer of cells: one file a panel. Nothing here changes what is shown, nor touches a terminal.

mod bars;
mod call_sites;
mod canvas;
mod device;
mod devices;
mod frame;
mod help;
mod holders;
mod kernel;
mod losses;
mod numbers;
mod overview;
mod pool;
mod rates;
mod saved;
mod status;
mod table;
mod time_line;
mod what_if;
mod wrap;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub use saved::{svg, text};

use crate::answer::Answer;
use crate::history::History;
use crate::hit::Hit;
use crate::state::{Screen, State};
use crate::theme::Theme;
use canvas::Canvas;

/// Everything that a screen is drawn from.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// What is shown.
    pub state: &'a State,
    /// What happened when.
    pub history: &'a History,
    /// The latest answer.
    pub answer: Option<&'a Answer>,
    /// How it looks.
    pub theme: Theme,
}

/// The least that can be drawn on, cells.
const LEAST: (u16, u16) = (40, 10);

/// Draws the screen; what of it can be clicked on, topmost last.
pub fn draw(seen: &Seen, area: Rect, buffer: &mut Buffer) -> Vec<Hit> {
    let mut canvas = Canvas::new(buffer, seen.theme);
    if area.width < LEAST.0 || area.height < LEAST.1 {
        canvas.text(area, 0, &[(crate::theme::Tone::Text, format!("at least {} x {} please", LEAST.0, LEAST.1))]);
        return canvas.hits;
    }
    let body = frame::draw(seen, area, &mut canvas);
    match seen.state.screen {
        Screen::Overview => overview::draw(seen, body, &mut canvas),
        Screen::Devices => match &seen.state.device {
            Some(name) => device::draw(seen, name, body, &mut canvas),
            None => devices::draw(seen, body, &mut canvas),
        },
        Screen::CallSites => call_sites::draw(seen, body, &mut canvas),
        Screen::WhatIf => what_if::draw(seen, body, &mut canvas),
        Screen::Kernel => kernel::draw(seen, body, &mut canvas),
        Screen::Pool => holders::draw(seen, body, &mut canvas),
    }
    if seen.state.help {
        help::draw(seen, area, &mut canvas);
    }
    canvas.hits
}
