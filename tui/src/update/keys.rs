//! The keys: what each does, and what is said of it on the screen `?`.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Format, Known, Request, go, go_to_peak, go_to_refusal, open_device, step};
use crate::state::table::{Sorted, Table};
use crate::state::{Screen, State};
use crate::what_if::{Knob, Knobs};

/// Rows of a page.
const PAGE: isize = 10;
/// How far one step of the time line goes: a part of what is seen.
const STEP: f64 = 0.05;

/// Keys that belong together, and what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHelp {
    /// The keys, as they are called.
    pub keys: &'static str,
    /// What they do.
    pub does: &'static str,
    /// Where; everywhere if `None`.
    screen: Option<Screen>,
    /// In a capture only.
    of_capture: bool,
}

const fn everywhere(keys: &'static str, does: &'static str) -> KeyHelp {
    KeyHelp { keys, does, screen: None, of_capture: false }
}

const fn on(screen: Screen, keys: &'static str, does: &'static str) -> KeyHelp {
    KeyHelp { keys, does, screen: Some(screen), of_capture: false }
}

const fn of_capture(keys: &'static str, does: &'static str) -> KeyHelp {
    KeyHelp { keys, does, screen: None, of_capture: true }
}

const KEYS: [KeyHelp; 29] = [
    on(Screen::Devices, "up down", "choose a device"),
    on(Screen::Devices, "Enter", "the device in detail"),
    on(Screen::Devices, "Esc", "back to all devices; no filter"),
    on(Screen::Devices, "/", "show those with this in device or driver"),
    on(Screen::Devices, "o O", "order by the next column; the other way round"),
    on(Screen::CallSites, "up down", "choose a call site"),
    on(Screen::CallSites, "/", "show call sites with this in their name"),
    on(Screen::CallSites, "Esc", "no filter"),
    on(Screen::CallSites, "o O", "order by the next column; the other way round"),
    on(Screen::WhatIf, "up down", "choose a setting"),
    on(Screen::WhatIf, "left right", "change it"),
    on(Screen::WhatIf, "0", "everything as captured"),
    on(Screen::Kernel, "up down", "scroll"),
    everywhere("1-5 Tab", "the screens"),
    everywhere("space", "pause, go on; play a capture"),
    everywhere("t", "window of time: 10 s, 1 min, all"),
    everywhere(", .", "back, on, by a part of the window"),
    everywhere("left right", "the same, except in what-if"),
    everywhere("Home End", "the first, the latest moment"),
    of_capture("- +", "play slower, faster"),
    everywhere("p", "to the moment when the pool was fullest"),
    everywhere("n", "to the next mapping refused"),
    everywhere("w", "record what is seen to a capture; stop to"),
    everywhere("s S", "save this screen as text, as a picture"),
    everywhere("mouse", "screens, rows, settings, the time line; wheel"),
    everywhere("PgUp PgDn", "ten rows at once"),
    everywhere("? Esc", "these keys; away with them"),
    everywhere("^Z", "stop, as in any program"),
    everywhere("q ^C", "quit"),
];

/// Those of a screen.
pub fn keys_of(state: &State) -> impl Iterator<Item = KeyHelp> {
    let (screen, is_live) = (state.screen, state.is_live());
    let is_here = move |key: &KeyHelp| key.screen.is_none_or(|one| one == screen) && !(key.of_capture && is_live);
    KEYS.into_iter().filter(is_here)
}

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
        (Screen::Devices, code) if state.device.is_none() => return tabled(&mut state.devices, code),
        (Screen::CallSites, code) => return tabled(&mut state.call_sites, code),
        (Screen::WhatIf, KeyCode::Left) => state.knobs.turn(state.knob, false),
        (Screen::WhatIf, KeyCode::Right | KeyCode::Enter) => state.knobs.turn(state.knob, true),
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
        KeyCode::Char(number @ '1'..='5') => go(state, Screen::ALL[number as usize - '1' as usize]),
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
