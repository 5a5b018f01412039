//! What every screen has: the screens' names, where the stream comes from and the status above, time and keys below.

use ratatui::layout::{Constraint, Layout, Rect};

use super::canvas::{Canvas, Piece, dim, plain};
use super::status::Status;
use super::{Seen, table, time_line};
use crate::hit::Target;
use crate::state::Screen;
use crate::theme::Tone;

/// Draws it; what is left for the screen.
pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) -> Rect {
    let line = Constraint::Length(1);
    let said = Status::new(seen, area.width);
    let rows = [line, Constraint::Length(said.height()), Constraint::Min(0), Constraint::Length(2), line];
    let [head, status, body, time, foot] = Layout::vertical(rows).areas(area);
    self::head(seen, head, canvas);
    said.draw(status, canvas);
    time_line::draw(seen, time, canvas);
    self::foot(seen, foot, canvas);
    body
}

fn head(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let mut x = area.x;
    for (number, screen) in Screen::ALL.into_iter().enumerate() {
        let name = format!(" {} {} ", number + 1, screen.title());
        let width = (name.len() as u16).min(area.right() - x);
        let tab = Rect { x, width, ..area };
        let is_shown = screen == seen.state.screen;
        canvas.text(tab, 0, &[(if is_shown { Tone::Strong } else { Tone::Dim }, name)]);
        if is_shown {
            canvas.select(tab);
        }
        canvas.hit(tab, Target::Screen(screen));
        x += width;
    }
    let rest = Rect { x, width: area.right() - x, ..area };
    // A blank stands behind the last screen's name.
    let room = usize::from(rest.width);
    let kernel = &seen.history.start.kernel;
    let long = format!("{}  Linux {} {}", seen.state.source, kernel.release, kernel.machine);
    let file = seen.state.source.rsplit('/').next().unwrap_or_default();
    let fitting = [long.as_str(), &seen.state.source].into_iter().find(|said| said.chars().count() <= room);
    let said = fitting.unwrap_or(file);
    canvas.text_right(rest, 0, &[dim(table::fitted(said, room, canvas.theme.signs().cut))]);
}

fn foot(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let state = seen.state;
    let filter = match state.screen {
        Screen::Devices if state.device.is_none() => Some((&state.devices.filter, state.devices.is_typing)),
        Screen::CallSites => Some((&state.call_sites.filter, state.call_sites.is_typing)),
        _ => None,
    };
    let mut pieces: Vec<Piece> = Vec::new();
    if let Some((filter, true)) = filter {
        pieces.extend([(Tone::Strong, "/".into()), plain(filter), plain("_  "), dim("Enter keeps, Esc clears")]);
        canvas.text(area, 0, &pieces);
        return;
    }
    if let Some(message) = &state.message {
        pieces.push((Tone::Strong, message.clone()));
    } else {
        if let Some((filter, _)) = filter.filter(|(filter, _)| !filter.is_empty()) {
            pieces.extend([plain(format!("/{filter}  "))]);
        }
        for (key, what) in keys(seen) {
            pieces.extend([(Tone::Strong, key.to_owned()), dim(format!(" {what}  "))]);
        }
    }
    canvas.text(area, 0, &pieces);
    if let Some(file) = &state.recording {
        canvas.text_right(area, 0, &[(Tone::Bad, format!(" REC {file}"))]);
    }
}

/// The keys most wanted on the screen.
fn keys(seen: &Seen) -> Vec<(&'static str, &'static str)> {
    let mut keys = vec![("?", "keys"), ("q", "quit")];
    keys.push(match (seen.state.is_live(), seen.state.time.is_paused()) {
        (true, false) => ("space", "pause"),
        (true, true) => ("space", "go on"),
        (false, true) => ("space", "play"),
        (false, false) => ("space", "stop"),
    });
    keys.push(("t", "window"));
    keys.extend(match seen.state.screen {
        Screen::Devices if seen.state.device.is_some() => [("Esc", "all devices"), ("up/down", "scroll")],
        Screen::Devices | Screen::CallSites => [("/", "filter"), ("o", "order")],
        Screen::WhatIf => [("arrows", "change"), ("0", "as captured")],
        Screen::Kernel => [("up/down", "scroll"), ("s", "save")],
        Screen::Overview | Screen::Pool => [("p", "peak"), ("n", "next failure")],
    });
    keys
}
