//! `stats --json`, `verify --json` and `packed --json`: what is told of one capture.

use std::collections::BTreeMap;

use serde::Serialize;

use super::kernel::Kernel;
use super::{Document, hex};
use crate::{losses, stats, verify};
use bouncescope_capture::event::Kind;
use bouncescope_capture::facts::{End, Hook, LiveSites, MaintenanceTime};
use bouncescope_capture::labels::Labels;
use bouncescope_capture::names::Loss;
use bouncescope_capture::stream::Gaps;
use bouncescope_replay::Replayed;
use bouncescope_replay::compare::Verdict;
use bouncescope_replay::holders::SlotHolders;
use bouncescope_replay::lengths::Counted;
use bouncescope_replay::memory::CacheRow;
use bouncescope_replay::objects::{OlderFrees, Origins};
use bouncescope_replay::proposals::Proposals;
use bouncescope_replay::statistics::{DeviceStatistics, SiteStatistics, SizeStatistics};

/// `stats --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats<'a> {
    /// The beginning of the recording.
    start: Start<'a>,
    /// Events by kind.
    events: BTreeMap<&'static str, u64>,
    /// From the first event to the last, ns.
    span_ns: u64,
    /// Mappings of each device in each direction.
    devices: Vec<DeviceStatistics>,
    /// Mappings as the kernel counted them, streamed or not.
    counted: &'a Counted,
    /// What small buffers that non-coherent devices write lay in, as their pages said.
    origins: Origins,
    /// What kmalloc gave.
    allocations: Allocations,
    /// Live objects as seen beside the kernel's own count; empty where a capture has no samples of the caches.
    caches: Vec<CacheRow>,
    /// Live allocations since boot by line of source, as the kernel counted them at the end; `None` where it does not.
    live_since_boot: Option<&'a LiveSites>,
    /// Frees of objects whose allocation was not seen.
    frees_of_older_objects: &'a OlderFrees,
    /// Objects whose fate and size are not known, estimated from the sample.
    objects_unplaced: u64,
    /// The pool's own counters.
    pool: PoolCounters,
    /// Calls of cache maintenance and their time, by function and length; `None` where it was not timed.
    cache_maintenance: Option<&'a [MaintenanceTime]>,
    /// Who held slots: when the pool was fullest, and at the end, or at the moment of `--at`.
    held: Option<&'a SlotHolders>,
    /// `swiotlb_bounced` hits counted by the tracing file system, where that was asked for.
    tracefs_bounced: Option<u64>,
    /// Losses by name, per CPU where the kernel counts so.
    losses: &'a BTreeMap<Loss, Vec<u64>>,
    /// The end of the recording; `null` where it was cut.
    end: Option<&'a End>,
    /// What is missing from the capture.
    gaps: &'a Gaps,
}

/// The beginning of a recording.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Start<'a> {
    /// When recording began, ns of `CLOCK_MONOTONIC`.
    time_ns: u64,
    /// The same moment, seconds since 1970.
    wall_clock_s: u64,
    /// The kernel.
    kernel: Kernel<'a>,
    /// The hooks and their verdicts.
    hooks: &'a [Hook],
    /// One allocation in how many is streamed as an event: 1 all, 0 none.
    allocation_sample: u64,
    /// Times of allocations and frees may be rounded down to a multiple of this, ns; `null` where they are exact, as those of mappings always are.
    object_tick_ns: Option<u32>,
    /// Which mappings are streamed as events: `all`, `written` or `small`.
    streamed: &'static str,
    /// What could not be read or resolved about the kernel, one line each.
    notes: &'a [String],
    /// The program and arguments that recorded.
    recorder: &'a str,
    /// What somebody says of the machine, by name.
    labels: &'a Labels,
    /// Whatever a later recorder says besides.
    #[serde(flatten)]
    other: &'a BTreeMap<String, serde_json::Value>,
}

/// What kmalloc gave.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Allocations {
    /// Most bytes first.
    by_call_site: Vec<SiteStatistics>,
    /// By bytes given.
    by_size: Vec<SizeStatistics>,
}

/// The pool's own counters.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct PoolCounters {
    /// Most slots in use in a sample.
    used_slots_peak: Option<u64>,
    /// The kernel's high-water mark, slots.
    hiwater_slots: Option<u64>,
}

impl Document for Stats<'_> {
    const KIND: &'static str = "stats";
}

impl<'a> Stats<'a> {
    /// Of a capture.
    pub fn new(replayed: &'a Replayed) -> Self {
        let (start, statistics) = (&replayed.start, &replayed.statistics);
        Self {
            start: Start {
                time_ns: start.time_ns,
                wall_clock_s: start.wall_clock_s,
                kernel: Kernel(&start.kernel),
                hooks: &start.hooks,
                allocation_sample: start.allocation_sample,
                object_tick_ns: start.object_tick_ns,
                streamed: start.streamed.name(),
                notes: &start.notes,
                recorder: &start.recorder,
                labels: &start.labels,
                other: &start.other,
            },
            events: Kind::ALL.iter().map(|kind| (kind.name(), statistics.events(*kind))).collect(),
            span_ns: statistics.span_ns.map_or(0, |(first, last)| last.saturating_sub(first)),
            devices: statistics.devices(),
            counted: &replayed.lengths,
            origins: replayed.origins,
            allocations: Allocations { by_call_site: statistics.call_sites(), by_size: statistics.sizes() },
            caches: stats::rows(replayed),
            live_since_boot: replayed.slabs.as_ref().and_then(|(_, last)| last.live_sites.as_ref()),
            frees_of_older_objects: &replayed.older_frees,
            objects_unplaced: stats::unplaced(replayed),
            pool: PoolCounters {
                used_slots_peak: replayed.observed.used_peak,
                hiwater_slots: replayed.observed.hiwater,
            },
            cache_maintenance: replayed
                .cache_maintenance_ns
                .map(|_| replayed.pool_times.as_ref().map(|times| times.maintenance.as_slice()).unwrap_or_default()),
            held: replayed.held.as_ref(),
            tracefs_bounced: replayed.counters.tracefs_bounced,
            losses: &replayed.counters.lost,
            end: replayed.end.as_ref(),
            gaps: &replayed.gaps,
        }
    }
}

/// `verify --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verify<'a> {
    /// Why there was nothing to compare; `null` where there was something.
    #[expect(clippy::struct_field_names, reason = "the words that are printed")]
    nothing_to_verify: Option<String>,
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// The kernel.
    kernel: Kernel<'a>,
    /// What is missing from the capture.
    gaps: &'a Gaps,
}

impl Document for Verify<'_> {
    const KIND: &'static str = "verify";
}

impl<'a> Verify<'a> {
    /// Of a capture that was compared with its kernel.
    pub fn new(replayed: &'a Replayed) -> Self {
        let nothing_to_verify = verify::nothing(replayed);
        Self {
            nothing_to_verify,
            verdict: &replayed.verdict,
            kernel: Kernel(&replayed.start.kernel),
            gaps: &replayed.gaps,
        }
    }
}

/// `packed --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Packed<'a> {
    /// Call sites that could be marked, most bytes first.
    sites: Vec<PackedSite<'a>>,
    /// Call sites left out, because an object of theirs was mapped.
    mapped_sites: usize,
    /// Buffers mapped while the recording ran.
    buffers: u64,
    /// Of them those whose object was known.
    buffers_with_origin: u64,
    /// What of the capture itself is missing, in a line; `null` where it is whole.
    missing: Option<String>,
    /// Losses by name, per CPU where the kernel counts so.
    losses: &'a BTreeMap<Loss, Vec<u64>>,
    /// What is missing from the capture.
    gaps: &'a Gaps,
}

/// A call site that could be marked.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct PackedSite<'a> {
    /// `function+0xoffset`, or the address.
    call_site: &'a str,
    /// Module; empty for the kernel itself.
    module: &'a str,
    /// Its address on the captured kernel, in hexadecimal.
    address: String,
    /// Allocations in the recording.
    allocations: u64,
    /// Its objects live at the end, estimated from the sample.
    live_objects: u64,
    /// Bytes that they would not take.
    bytes_won: u64,
}

impl Document for Packed<'_> {
    const KIND: &'static str = "packed";
}

impl<'a> Packed<'a> {
    /// Of what was proposed.
    pub fn new(proposals: &'a Proposals, replayed: &'a Replayed) -> Self {
        let sites = proposals.sites.iter().map(|site| PackedSite {
            call_site: &site.call_site,
            module: &site.module,
            address: hex(site.address),
            allocations: site.allocations,
            live_objects: site.live_objects,
            bytes_won: site.bytes_won,
        });
        Self {
            sites: sites.collect(),
            mapped_sites: proposals.mapped_sites,
            buffers: proposals.buffers,
            buffers_with_origin: proposals.buffers_with_origin,
            missing: losses::missing(replayed),
            losses: &replayed.counters.lost,
            gaps: &replayed.gaps,
        }
    }
}
