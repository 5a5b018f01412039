//! Driving a stream through models.
//!
//! [`pairing`] turns events into [`step::Step`]s: mappings, with what the kernel did with each of their buffers
//! ([`mapping::Truth`]), and unmappings, in the order in which the kernel took and gave back slots. [`run`] drives those
//! through the simulated kernel under some [`settings::Settings`] into an [`outcome::Outcome`]; [`compare`] holds a run
//! against the truth; [`statistics`] counts what happened. [`replay`] does it all in one pass.
//!
//! Pure: no operating system, clock, thread or file. Memory grows with what is mapped at one time, and with unmappings whose
//! records were lost.
//!
//! ```
//! use bouncescope_capture::Reader;
//! use bouncescope_model::policy::builtin;
//! use bouncescope_replay::{
//!     Wanted, replay,
//!     settings::{Settings, WhatIf},
//! };
//!
//! // The recorded kernel with its own rule, and with a pool of 256 KiB instead of its own.
//! let mainline = builtin("mainline").ok_or("no such policy")?;
//! let small = WhatIf { pool: Some("128".parse()?), ..WhatIf::default() };
//! let mut capture = Reader::open("../../captures/7.3-direct-hold-300.bounce".as_ref())?;
//! let replayed = replay(&mut capture, |start| Wanted {
//!     settings: [WhatIf::default(), small].map(|change| Settings::what_if(&start.kernel, &mainline, &change)).into(),
//!     ..Wanted::default()
//! })?;
//!
//! let [own, small] = &replayed.outcomes[..] else { unreachable!("an outcome for each of the settings") };
//! assert_eq!(own.total.failed, 0);
//! assert!(small.total.failed > 0, "300 buffers held at once do not fit");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bounds;
pub mod breakdown;
mod callers;
pub mod check;
pub mod compare;
pub mod default_pool;
pub mod devices;
mod durations;
pub mod estimate;
pub mod figures;
pub mod holders;
mod kernel;
pub mod lengths;
mod lines;
pub mod list_marks;
mod list_syncs;
pub mod live_functions;
mod lives;
pub mod losses;
mod maintenance;
pub mod mapping;
pub mod memory;
pub mod names;
pub mod objects;
pub mod occupancy;
pub mod ongoing;
pub mod outcome;
pub mod overlapping;
mod overlaps;
pub mod pairing;
pub mod pass;
pub mod proposals;
pub mod run;
pub mod scenarios;
pub mod settings;
pub mod site;
pub mod slabs;
mod spread;
pub mod statistics;
pub mod step;
pub mod trend;
mod views;
mod watch;
pub mod work;

use std::collections::BTreeMap;

use bouncescope_capture::facts::{Counters, Device, End, PoolTimes, SlabSample};
use bouncescope_capture::stream::{Gaps, Source, Start};

use compare::Verdict;
use holders::SlotHolders;
use lengths::Counted;
use objects::{LiveObjects, OlderFrees, Origins, SinceCount};
use outcome::{Outcome, Rows};
use pass::Pass;
use settings::Settings;
use statistics::{Observed, Statistics};

/// What is wanted of a replay, besides what it costs nothing to tell.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is wanted or not, whatever the others are")]
pub struct Wanted {
    /// An outcome for each of these.
    pub settings: Vec<Settings>,
    /// The captured kernel's own settings held against what it did.
    pub verdict: bool,
    /// Lengths and alignments by device.
    pub statistics: bool,
    /// Which mappings lie in one cache line at the same time, which takes a look at each of all.
    pub overlaps: bool,
    /// How full each pool is over time.
    pub occupancy: bool,
    /// Who holds slots of the captured kernel's pool, which takes a simulation of it; and how full each pool is in the long run.
    pub holders: bool,
}

/// What one pass over a stream gives.
#[derive(Debug)]
pub struct Replayed {
    /// The beginning of the stream.
    pub start: Start,
    /// One for each of the settings asked for, in their order.
    pub outcomes: Vec<Outcome>,
    /// The settings.
    pub settings: Vec<Settings>,
    /// The devices as they were last described, in order of their first appearance.
    pub devices: Vec<Device>,
    /// What the kernel did.
    pub observed: Observed,
    /// The same, by device, driver, call site, direction and size class.
    pub observed_rows: Rows,
    /// What happened, in detail.
    pub statistics: Statistics,
    /// The captured kernel's own settings, held against what it did; as far as asked for, the kernel's own totals always.
    pub verdict: Verdict,
    /// The programs' counters at the end.
    pub counters: Counters,
    /// Time that the stream covers, ns.
    pub span_ns: u64,
    /// Who held slots, where that was asked for ([`Wanted::holders`]).
    pub held: Option<SlotHolders>,
    /// Objects of kmalloc that were live at the end, of those whose allocation was recorded.
    pub live_objects: Vec<LiveObjects>,
    /// Frees of objects whose allocation was not.
    pub older_frees: OlderFrees,
    /// Objects that came and went after the kernel's last count of them, by bytes given.
    pub since_count: BTreeMap<u64, SinceCount>,
    /// Call sites of which an object was seen mapped for DMA.
    pub mapped_sites: Vec<u64>,
    /// What small buffers lay in, as their pages said.
    pub origins: Origins,
    /// Overlaps were asked for ([`Wanted::overlaps`]), so that none counted means none seen.
    pub overlaps_looked_for: bool,
    /// What keeps overlaps from being counted.
    pub uncounted: Uncounted,
    /// Mappings whose buffers could be looked up among the live objects.
    pub origins_known: bool,
    /// Samples of the kmalloc caches: the first and the last.
    pub slabs: Option<(SlabSample, SlabSample)>,
    /// Mappings as the kernel counted them by device and length.
    pub lengths: Counted,
    /// How long the pool's functions took, and cache maintenance.
    pub pool_times: Option<PoolTimes>,
    /// CPU time of cache maintenance, ns; `None` where it was not timed.
    pub cache_maintenance_ns: Option<u64>,
    /// The end of the stream, where it has one.
    pub end: Option<End>,
    /// What is missing from the stream.
    pub gaps: Gaps,
}

/// Buffers that may be mapped in one cache line with another, unseen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    /// It is not known where in memory they lie.
    pub not_located: u64,
    /// There was no room for them, or more in their lines than was looked at.
    pub left_out: u64,
}

impl Replayed {
    /// Seconds that the stream covers; never 0, so that rates can be told.
    pub fn seconds(&self) -> f64 {
        (self.span_ns as f64 / 1e9).max(1e-9)
    }
}

/// Why a stream cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E: std::error::Error> {
    /// The source failed.
    #[error(transparent)]
    Source(E),
    /// There is no beginning, so nothing is known about the kernel.
    #[error("the capture has no beginning (its first frame is missing or damaged): nothing is known about its kernel")]
    NoStart,
}

/// Replays a stream: what is wanted of it may depend on its beginning.
pub fn replay<S: Source>(
    source: &mut S,
    wanted: impl FnOnce(&Start) -> Wanted,
) -> Result<Replayed, ReplayError<S::Error>> {
    let start = pass::start(source)?;
    let wanted = wanted(&start);
    let mut pass = Pass::new(start, wanted);
    let runs = pass.runs();
    pass.alone(source, runs)
}

#[cfg(test)]
mod sample;
