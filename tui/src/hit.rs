//! What on a screen can be clicked on, and where.

use ratatui::layout::Rect;

use crate::state::Screen;
use crate::what_if::Knob;

/// What can be clicked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A screen's name.
    Screen(Screen),
    /// The time line.
    Time,
    /// A row of the devices.
    Device(usize),
    /// A row of the call sites.
    CallSite(usize),
    /// A knob.
    Knob(Knob),
    /// Something that goes away when it is clicked on.
    Nothing,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Cells.
    pub area: Rect,
    /// What.
    pub target: Target,
}
