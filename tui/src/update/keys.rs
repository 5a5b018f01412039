//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Format, Known, Request, go, go_to_peak, go_to_refusal, open_device, step};
use crate::state::table::{Sorted, Table};
use crate::state::{Screen, State};
use crate::what_if::{Knob, Knobs};

/// Rows of a page.
const PAGE: isize = 10;
/// How far one step of the time line goes: a part of what is seen.
const STEP: f64 = 0.05;

/// Takes in a key.
pub(super) fn key(state: &mut State, key: KeyEvent, known: &Known) -> Option<Request> {
    state.message = None;
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Request::Quit),
            KeyCode::Char('z') => Some(Request::Suspend),
            KeyCode::Char('l') => Some(Request::Redraw),
            _ => None,
        };
    }
    if state.is_typing() {
        match state.screen {
            Screen::Devices => typed(&mut state.devices, key.code),
            _ => typed(&mut state.call_sites, key.code),
        }
        return None;
    }
    if state.help {
        state.help = false;
        return (key.code == KeyCode::Char('q')).then_some(Request::Quit);
    }
    if of_screen(state, key.code, known) { None } else { of_all(state, key.code, known) }
}

/// A letter of a filter.
fn typed<O: Sorted>(table: &mut Table<O>, code: KeyCode) {
    match code {
        KeyCode::Enter => table.is_typing = false,
        KeyCode::Esc => {
            table.is_typing = false;
            table.filter.clear();
        }
        KeyCode::Backspace => drop(table.filter.pop()),
        KeyCode::Char(letter) => table.filter.push(letter),
        _ => {}
    }
    table.selected = 0;
}

/// What a key does on this screen only; whether it does.
fn of_screen(state: &mut State, code: KeyCode, known: &Known) -> bool {
    match (state.screen, code) {
        (Screen::Devices, KeyCode::Esc | KeyCode::Backspace) if state.device.is_some() => state.device = None,
        (Screen::Devices, KeyCode::Enter) if state.device.is_none() => open_device(state, known),
        (Screen::Overview, KeyCode::Char('z')) => state.zoomed = !state.zoomed,
        (Screen::Devices, code) if state.device.is_none() => return tabled(&mut state.devices, code),
        (Screen::CallSites, code) => return tabled(&mut state.call_sites, code),
        (Screen::WhatIf, KeyCode::Left) => state.knobs.turn(state.knob, false, &known.history.start.kernel),
        (Screen::WhatIf, KeyCode::Right | KeyCode::Enter) => {
            state.knobs.turn(state.knob, true, &known.history.start.kernel);
        }
        (Screen::WhatIf, KeyCode::Char('0')) => (state.knobs, state.knob) = (Knobs::default(), Knob::default()),
        _ => return false,
    }
    true
}

/// What a key does to a table; whether it does.
fn tabled<O: Sorted>(table: &mut Table<O>, code: KeyCode) -> bool {
    match code {
        KeyCode::Char('/') => table.is_typing = true,
        KeyCode::Char('o') => table.next_order(),
        KeyCode::Char('O') => table.ascending = !table.ascending,
        KeyCode::Esc => table.filter.clear(),
        _ => return false,
    }
    true
}

fn of_all(state: &mut State, code: KeyCode, known: &Known) -> Option<Request> {
    match code {
        KeyCode::Char('q') => return Some(Request::Quit),
        KeyCode::Char('w') => return Some(Request::Record),
        KeyCode::Char('s') => return Some(Request::Save(Format::Text)),
        KeyCode::Char('S') => return Some(Request::Save(Format::Svg)),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => state.help = true,
        KeyCode::Char(number @ '1'..='6') => go(state, Screen::ALL[number as usize - '1' as usize]),
        KeyCode::Tab => go(state, state.screen.next()),
        KeyCode::BackTab => go(state, state.screen.previous()),
        KeyCode::Up | KeyCode::Char('k') => step(state, -1, known),
        KeyCode::Down | KeyCode::Char('j') => step(state, 1, known),
        KeyCode::PageUp => step(state, -PAGE, known),
        KeyCode::PageDown => step(state, PAGE, known),
        KeyCode::Char(' ') => state.time.toggle(),
        KeyCode::Char('t') => state.time.next_length(),
        KeyCode::Left | KeyCode::Char(',') => state.time.scrub(-STEP),
        KeyCode::Right | KeyCode::Char('.') => state.time.scrub(STEP),
        KeyCode::Home => state.time.go_to_part(0.0),
        KeyCode::End => state.time.moment_ns = None,
        KeyCode::Char('-') if !state.is_live() => state.time.faster(-1),
        KeyCode::Char('+' | '=') if !state.is_live() => state.time.faster(1),
        KeyCode::Char('p') => go_to_peak(state, known.history),
        KeyCode::Char('n') => go_to_refusal(state, known.history),
        _ => {}
    }
    None
}
