//! What is shown, without a terminal, a clock or a thread: which screen, which time, what is chosen on each screen.

pub mod call_sites;
pub mod devices;
pub mod table;
pub mod time;

use crate::answer::Question;
use crate::what_if::{Knob, Knobs};
use table::Table;
use time::TimeLine;

/// A screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// Rates, the pool, losses.
    #[default]
    Overview,
    /// What each device maps; one of them in detail.
    Devices,
    /// Who allocates.
    CallSites,
    /// Other settings.
    WhatIf,
    /// What doctor says.
    Kernel,
    /// Who holds slots, and how full the pool is in the long run.
    Pool,
}

impl Screen {
    /// All, by their keys: the first is 1.
    pub const ALL: [Self; 6] = [Self::Overview, Self::Devices, Self::CallSites, Self::WhatIf, Self::Kernel, Self::Pool];

    /// What it is called.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Devices => "Devices",
            Self::CallSites => "Call sites",
            Self::WhatIf => "What-if",
            Self::Kernel => "Kernel",
            Self::Pool => "Pool",
        }
    }

    /// The one so many further on, around at the ends.
    fn further(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|screen| *screen == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    /// The one to the right.
    #[must_use]
    pub fn next(self) -> Self {
        self.further(1)
    }

    /// The one to the left.
    #[must_use]
    pub fn previous(self) -> Self {
        self.further(Self::ALL.len() - 1)
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Where the stream comes from: `live`, or the capture's name.
    pub source: String,
    /// The screen.
    pub screen: Screen,
    /// The keys of the screen lie over it.
    pub help: bool,
    /// Which time is seen.
    pub time: TimeLine,
    /// Slots in use are drawn to the scale of the most that there were, and not of the pool.
    pub zoomed: bool,
    /// The table of devices.
    pub devices: Table<devices::Order>,
    /// The device that is seen in detail.
    pub device: Option<String>,
    /// The first line of its details that is seen.
    pub device_scroll: usize,
    /// The table of call sites.
    pub call_sites: Table<call_sites::Order>,
    /// The knob that the arrows turn.
    pub knob: Knob,
    /// How they stand.
    pub knobs: Knobs,
    /// The first line of the kernel's page that is seen.
    pub kernel_scroll: usize,
    /// The first holder of slots that is seen.
    pub pool_scroll: usize,
    /// What is to be said about the last key, or what went wrong.
    pub message: Option<String>,
    /// The file that is being recorded to.
    pub recording: Option<String>,
    /// How far the capture has been read, 0 to 1.
    pub read: f64,
    /// Why the stream cannot be read any further.
    pub failed: Option<String>,
    /// A replay is under way.
    pub computing: bool,
}

impl State {
    /// Of a stream that comes from `source`, before anything of it is known.
    pub fn new(source: String, time: TimeLine) -> Self {
        Self { source, time, read: 1.0, ..Self::default() }
    }

    /// The stream is a running kernel's.
    pub fn is_live(&self) -> bool {
        self.time.is_live
    }

    /// What a replay has to answer for what is seen now.
    pub fn question(&self) -> Question {
        let (from_ns, to_ns) = self.time.window();
        let device = self.device.clone().filter(|_| self.screen == Screen::Devices);
        Question { from_ns, to_ns, knobs: self.knobs.clone(), device, holders: self.screen == Screen::Pool }
    }

    /// Letters go into a filter.
    pub fn is_typing(&self) -> bool {
        match self.screen {
            Screen::Devices => self.devices.is_typing,
            Screen::CallSites => self.call_sites.is_typing,
            Screen::Overview | Screen::WhatIf | Screen::Kernel | Screen::Pool => false,
        }
    }
}
