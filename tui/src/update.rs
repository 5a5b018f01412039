//! What a key, a click or a tick makes of the state, and what else it asks for. Pure: keys are the terminal library's values, and
//! no terminal is touched.

mod keys;
#[cfg(test)]
mod tests;

use crossterm::event::{Event, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};

use crate::answer::Answer;
use crate::history::History;
use crate::hit::{Hit, Target};
use crate::state::{Screen, State, call_sites, devices};
use crate::what_if::Knob;

/// What the state cannot do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Leave.
    Quit,
    /// Draw everything anew.
    Redraw,
    /// Stop, as the shell's ^Z does.
    Suspend,
    /// Save what is seen.
    Save(Format),
    /// Record what is seen to a capture, or stop to.
    Record,
}

/// How a view is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Text,
    /// A picture.
    Svg,
}

/// What is known of the stream when something happens.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What happened when.
    pub history: &'a History,
    /// The latest answer.
    pub answer: Option<&'a Answer>,
    /// What of the last drawing can be clicked on.
    pub hits: &'a [Hit],
}

/// Takes in what came from the terminal.
pub fn event(state: &mut State, event: &Event, known: &Known) -> Option<Request> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => keys::key(state, *key, known),
        Event::Mouse(mouse) => {
            self::mouse(state, *mouse, known);
            None
        }
        Event::Key(_) | Event::Resize(..) | Event::FocusGained | Event::FocusLost | Event::Paste(_) => None,
    }
}

fn mouse(state: &mut State, mouse: MouseEvent, known: &Known) {
    match mouse.kind {
        MouseEventKind::ScrollDown => step(state, 3, known),
        MouseEventKind::ScrollUp => step(state, -3, known),
        MouseEventKind::Down(MouseButton::Left) | MouseEventKind::Drag(MouseButton::Left) => {
            let is_down = matches!(mouse.kind, MouseEventKind::Down(_));
            // What was drawn last lies on top.
            let hit = known.hits.iter().rev().find(|hit| hit.area.contains((mouse.column, mouse.row).into()));
            if let Some(hit) = hit
                && (is_down || hit.target == Target::Time)
            {
                click(state, hit, mouse.column, known);
            }
        }
        _ => {}
    }
}

fn click(state: &mut State, hit: &Hit, column: u16, known: &Known) {
    match hit.target {
        Target::Screen(screen) => go(state, screen),
        Target::Time => {
            let wide = f64::from(hit.area.width.saturating_sub(1).max(1));
            state.time.go_to_part(f64::from(column - hit.area.x) / wide);
        }
        Target::Device(row) if state.devices.selected == row => open_device(state, known),
        Target::Device(row) => state.devices.selected = row,
        Target::CallSite(row) => state.call_sites.selected = row,
        Target::Knob(knob) if state.knob == knob => state.knobs.turn(knob, true, &known.history.start.kernel),
        Target::Knob(knob) => state.knob = knob,
        Target::Nothing => state.help = false,
    }
}

/// Goes to a screen.
fn go(state: &mut State, screen: Screen) {
    (state.screen, state.help) = (screen, false);
}

/// Moves what is chosen, or the text, by so many rows.
fn step(state: &mut State, by: isize, known: &Known) {
    match state.screen {
        Screen::Devices if state.device.is_some() => {
            state.device_scroll = state.device_scroll.saturating_add_signed(by);
        }
        Screen::Devices => {
            let rows = known.answer.map_or(0, |answer| devices::rows(answer, &state.devices).len());
            state.devices.step(by, rows);
        }
        Screen::CallSites => {
            let rows =
                known.answer.map_or(0, |answer| call_sites::rows(answer, known.history, &state.call_sites).len());
            state.call_sites.step(by, rows);
        }
        Screen::WhatIf => {
            let at = Knob::ALL.iter().position(|knob| *knob == state.knob).unwrap_or(0);
            state.knob = Knob::ALL[at.saturating_add_signed(by.signum()).min(Knob::ALL.len() - 1)];
        }
        Screen::Kernel => state.kernel_scroll = state.kernel_scroll.saturating_add_signed(by),
        Screen::Pool => {
            let held = known.answer.and_then(|answer| answer.held.as_ref());
            let rows = held.map_or(0, |held| held.at_end.rows.len().max(held.times.rows.len()));
            let last = rows.saturating_sub(1);
            state.pool_scroll = state.pool_scroll.saturating_add_signed(by).min(last);
        }
        Screen::Overview => {}
    }
}

/// Shows the chosen device in detail.
fn open_device(state: &mut State, known: &Known) {
    let Some(answer) = known.answer else { return };
    let mut rows = devices::rows(answer, &state.devices);
    if !rows.is_empty() {
        state.device = Some(rows.swap_remove(state.devices.selected(rows.len())).name);
        state.device_scroll = 0;
    }
}

/// Goes to the moment at which the pool was fullest.
fn go_to_peak(state: &mut State, history: &History) {
    match history.fullest() {
        Some((time_ns, slots)) => {
            state.time.go(time_ns);
            state.message = Some(format!("the pool at its fullest: {slots} slots in use"));
        }
        None => state.message = Some("how full the pool was is not known".into()),
    }
}

/// Goes to the next mapping that the kernel refused.
fn go_to_refusal(state: &mut State, history: &History) {
    let moment = state.time.moment();
    match history.next_refusal(moment).or_else(|| history.next_refusal(0)) {
        Some(time_ns) => {
            let around = if time_ns <= moment { " (from the beginning)" } else { "" };
            state.time.go(time_ns);
            state.message = Some(format!("a mapping refused{around}"));
        }
        None => state.message = Some("no mapping was refused".into()),
    }
}
