//! One page about a kernel: what it is, which hooks work, what it does with a small buffer, and which questions can be
//! answered there. Pure: made from a stream ([`Examined`]), and from what a look at the machine itself adds ([`Here`]).

mod examined;
mod hooks;
mod questions;
pub mod reach;
mod text;
mod today;

pub use self::examined::{Examined, SmallObject};
pub use self::hooks::HookState;
pub use self::questions::{Answer, Answered};
pub use self::text::text;
pub use self::today::{Case, CaseOutcome, Today};
use bouncescope_capture::facts::{Device, KernelFacts, PoolSample};
pub use bouncescope_capture::facts::{DeviceTree, Here};

/// The page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Tracing works here; on a capture's page that it did.
    pub can_trace: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// The program and arguments that recorded, on a capture's page.
    pub recorder: Option<String>,
    /// The kernel, its caches, pool and configuration.
    pub kernel: KernelFacts,
    /// The smallest object that kmalloc was seen to give.
    pub smallest_object: Option<SmallObject>,
    /// The pool's own counters, as last read.
    pub pool: Option<PoolSample>,
    /// Devices that were seen mapping, by name, as last described.
    pub devices: Vec<Device>,
    /// Hooks, with what the self-test or the recording saw of them.
    pub hooks: Vec<HookState>,
    /// What this kernel does with small buffers.
    pub today: Today,
    /// What can be told here.
    pub answers: Vec<Answer>,
    /// What only a look at the machine tells; `None` on a capture's page.
    pub here: Option<Here>,
    /// What could not be read or resolved, one line each.
    pub notes: Vec<String>,
}

impl Page {
    /// Of a stream, and of this machine where the stream is its own.
    pub fn new(examined: Examined, here: Option<Here>) -> Self {
        let hooks = hooks::states(&examined, here.as_ref());
        let silent: Vec<&str> =
            hooks.iter().filter(|hook| hook.is_defect()).map(|hook| hook.hook.subject.name()).collect();
        let why_not = here.as_ref().and_then(|here| here.why_not.clone()).or_else(|| {
            (!silent.is_empty()).then(|| format!("attached, but not firing although provoked: {}", silent.join(", ")))
        });
        let answers = questions::answers(&examined);
        let Examined { start, devices, pool, smallest_object, .. } = examined;
        Self {
            can_trace: why_not.is_none(),
            why_not,
            recorder: here.is_none().then_some(start.recorder),
            today: Today::of(&start.kernel),
            kernel: start.kernel,
            smallest_object,
            pool,
            devices: devices.into_values().collect(),
            hooks,
            answers,
            here,
            notes: start.notes,
        }
    }
}
