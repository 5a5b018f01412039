//! The keys, and how the screen `?` describes them.

use crate::state::{Screen, State};

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

const KEYS: [KeyHelp; 33] = [
    on(Screen::Overview, "z", "slots to the scale of the pool, or of the most in use"),
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
    on(Screen::Pool, "up down", "scroll through the tables"),
    on(Screen::Pool, "half, 90 %", "so many buffers held their slots no longer"),
    on(Screen::Pool, "*", "10 % or more still hold theirs"),
    everywhere("1-6 Tab", "the screens"),
    everywhere("space", "pause, go on; play a capture"),
    everywhere("t", "window of time: 10 s, 1 min, all"),
    everywhere(", .", "back, on, by a part of the window"),
    everywhere("left right", "the same, except in what-if"),
    everywhere("Home End", "the first, the latest moment"),
    of_capture("- +", "play slower, faster"),
    everywhere("p", "to the moment when the pool was fullest"),
    everywhere("n", "to the next mapping refused"),
    everywhere("w", "record what is seen into a capture; again to stop"),
    everywhere("s S", "save this screen as text, as a picture"),
    everywhere("mouse", "screens, rows, settings, the time line; wheel"),
    everywhere("PgUp PgDn", "ten rows at once"),
    everywhere("? Esc", "show or hide these keys"),
    everywhere("^Z", "stop, as in any program"),
    everywhere("q ^C", "quit"),
];

/// Those of a screen.
pub fn keys_of(state: &State) -> impl Iterator<Item = KeyHelp> {
    let (screen, is_live) = (state.screen, state.is_live());
    let is_here = move |key: &KeyHelp| key.screen.is_none_or(|one| one == screen) && !(key.of_capture && is_live);
    KEYS.into_iter().filter(is_here)
}
