//! What a replay under some settings comes to. Counts are of mappings (one call of `dma_map_*`) and of buffers (a single
//! buffer, or one segment of a list); bounces are of buffers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::estimate::Estimate;
use super::holders::{HeldTimes, Holders};
use super::memory::CacheUse;
use super::occupancy::Occupancy;
use super::site::NO_SLAB;
use super::slabs::Slabs;
use super::trend::Trend;
use bouncescope_capture::event::Direction;
use bouncescope_capture::facts::{PoolFunction, Symbol};
use bouncescope_model::sharing::Sharing;

/// Counts of some of the mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Mappings.
    pub mappings: u64,
    /// Buffers.
    pub buffers: u64,
    /// Bytes of the buffers.
    pub bytes: u64,
    /// Buffers that bounce.
    pub bounces: u64,
    /// Bytes copied into and out of the pool.
    pub bytes_copied: u64,
    /// Mappings refused.
    pub failed: u64,
    /// Buffers that a non-coherent device writes, not bounced, with another live object in their cache lines.
    pub hazards_foreign: u64,
    /// The same where it is not known what else lies in the lines.
    pub hazards_unknown: u64,
    /// The same where only the rest of the buffer's own object does.
    pub hazards_own: u64,
    /// Buffers that bounce for alignment although nothing else can lie in their cache lines.
    pub bounces_not_needed: u64,
    /// Buffers that a device only reads, of a length that a policy wants drivers not to map: no multiple of what it says. Of all devices.
    pub unaligned_read: u64,
    /// The same of those that a device may write.
    pub unaligned_written: u64,
    /// Buffers mapped while another mapping was in one of their cache lines: of devices that are not coherent, neither bounced, and at
    /// least one of the two written by its device.
    pub overlaps: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        // All by name, so that the compiler asks for a new one.
        let Self {
            mappings,
            buffers,
            bytes,
            bounces,
            bytes_copied,
            failed,
            hazards_foreign,
            hazards_unknown,
            hazards_own,
            bounces_not_needed,
            unaligned_read,
            unaligned_written,
            overlaps,
        } = other;
        self.mappings += mappings;
        self.buffers += buffers;
        self.bytes += bytes;
        self.bounces += bounces;
        self.bytes_copied += bytes_copied;
        self.failed += failed;
        self.hazards_foreign += hazards_foreign;
        self.hazards_unknown += hazards_unknown;
        self.hazards_own += hazards_own;
        self.bounces_not_needed += bounces_not_needed;
        self.unaligned_read += unaligned_read;
        self.unaligned_written += unaligned_written;
        self.overlaps += overlaps;
    }

    /// Counts a buffer that a non-coherent device writes and that is not bounced, by what else lies in its lines.
    pub(super) fn count_hazard(&mut self, sharing: Sharing) {
        match sharing {
            Sharing::None => {}
            Sharing::Foreign => self.hazards_foreign += 1,
            Sharing::Unknown => self.hazards_unknown += 1,
            Sharing::Own => self.hazards_own += 1,
        }
    }

    /// Hazards of every class.
    pub fn hazards(&self) -> u64 {
        self.hazards_foreign + self.hazards_unknown + self.hazards_own
    }
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// `dev_name()`.
    pub device: String,
    /// Its driver when last described.
    pub driver: String,
    /// `dev_is_dma_coherent()` when last described.
    pub coherent: bool,
    /// Counts.
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionRow {
    /// Direction.
    pub direction: Direction,
    /// Counts.
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRow {
    /// Longest buffer of the class, bytes: an object size of kmalloc with caches from 8 bytes.
    pub up_to: u64,
    /// Counts.
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverRow {
    /// Driver; empty for devices without.
    pub driver: String,
    /// Scatterlists.
    pub lists: u64,
    /// Of them, those behind an IOMMU that need more DMA segments because a segment bounces.
    pub lists_losing_concatenation: u64,
    /// DMA segments that those would be if nothing bounced.
    pub segments_before: u64,
    /// DMA segments that they are.
    pub segments_after: u64,
    /// Counts.
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSiteRow {
    /// Where the buffer's object was allocated, `function+0xoffset`; where that is not known, the slab cache that the buffer lies in, or
    /// `pages`; empty for buffers of which nothing is known.
    pub call_site: String,
    /// Module; `slab cache` or `no slab` where there is no call site.
    pub module: String,
    /// Counts.
    pub tally: Tally,
}

impl CallSiteRow {
    /// Whether it is known where its objects were allocated.
    pub fn is_site(&self) -> bool {
        !self.call_site.is_empty() && self.module != Symbol::SLAB_CACHE && self.module != NO_SLAB
    }
}

/// One row of a breakdown of scatterlists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCallerRow {
    /// Who called `dma_map_sg_attrs()` or `dma_map_sgtable()`, `function+0xoffset`; empty for lists of which that is not known.
    pub caller: String,
    /// Module.
    pub module: String,
    /// Scatterlists.
    pub lists: u64,
    /// As in [`DriverRow::lists_losing_concatenation`].
    pub lists_losing_concatenation: u64,
    /// DMA segments that those would be if nothing bounced.
    pub segments_before: u64,
    /// DMA segments that they are.
    pub segments_after: u64,
}

/// Two buffers that were mapped at once in one cache line, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlapRow {
    /// The one that was mapped later.
    pub later: OverlapSide,
    /// The one that was mapped already.
    pub earlier: OverlapSide,
    /// They had bytes in common, not only a line.
    pub same_bytes: bool,
    /// Buffers mapped so.
    pub overlaps: u64,
}

/// One of two buffers in one cache line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlapSide {
    /// `dev_name()`.
    pub device: String,
    /// Its driver when last described.
    pub driver: String,
    /// Where its object was allocated, or who mapped its list; where neither is known, the slab cache that it lies in, or `pages`; or nothing.
    pub call_site: String,
    /// Module; `slab cache` or `no slab` where there is no call site.
    pub module: String,
}

/// Coherent memory that a device asked for while it was recorded, out of its restricted pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CoherentRow {
    /// `dev_name()`.
    pub device: String,
    /// Its driver when last described.
    pub driver: String,
    /// The pool's name, as in [`PoolRow::name`].
    pub pool: String,
    /// Allocations that found slots.
    pub allocated: u64,
    /// Those of them that were given back.
    pub given_back: u64,
    /// Allocations that found none.
    pub refused: u64,
    /// Most slots that they held at once; without memory from before the recording, of which nobody knows whose it is.
    pub peak_slots: u64,
    /// Slots that they held at the end.
    pub slots_at_end: u64,
}

/// One of several pools: the default one, or a restricted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolRow {
    /// `default`, or the name of the reserved memory; of a pool that a device is given in a simulation, the device's.
    pub name: String,
    /// Slots.
    pub slots: u64,
    /// Slots in use when the recording began, by coherent memory and by what was bounced then.
    pub used_at_start: u64,
    /// Most slots in use at once.
    pub peak_slots: u64,
    /// As in [`Outcome::peak_slots_range`].
    pub peak_slots_range: [u64; 2],
    /// As in [`Outcome::mark_at_most`].
    pub mark_at_most: u64,
    /// Slots of coherent memory that was allocated in the recording, when most slots were in use.
    pub coherent_at_peak: u64,
}

/// The rows of a breakdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// By device, most bounces first, then most mappings.
    pub by_device: Vec<DeviceRow>,
    /// By driver, in the same order.
    pub by_driver: Vec<DriverRow>,
    /// Scatterlists by who mapped them, most that lose segments first; empty where no caller was recorded.
    pub by_list_caller: Vec<ListCallerRow>,
    /// By the call site of kmalloc that the buffers come from, in the same order.
    pub by_call_site: Vec<CallSiteRow>,
    /// By direction.
    pub by_direction: Vec<DirectionRow>,
    /// By length of the buffer, ascending.
    pub by_size_class: Vec<ClassRow>,
    /// Which two buffers were mapped at once in one cache line, the most frequent first. Where more than one was there already, one of them
    /// is named.
    pub overlaps: Vec<OverlapRow>,
}

/// What came out of a replay under some settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The settings' name.
    pub name: String,
    /// `cache_line_size()`, bytes.
    pub cache_line_size: u32,
    /// Minimum alignment of the kmalloc caches, bytes.
    pub minalign: u32,
    /// Slots that the pool begins with.
    pub total_slots: u64,
    /// Slots of all pools when most were first in use: with those that were added by then, and those made for one mapping alone.
    pub pool_slots_at_peak: u64,
    /// Counts of all mappings.
    pub total: Tally,
    /// Why buffers bounce.
    pub bounces_by_reason: BTreeMap<String, u64>,
    /// Most slots in use at once.
    pub peak_slots: u64,
    /// The least and the greatest peak of any order that the records leave open.
    pub peak_slots_range: [u64; 2],
    /// The most that the kernel's high-water mark may say. It may be more than the pool has: the slots of a release are counted for a
    /// while after others can take them (`swiotlb_release_slots()`, `kernel/dma/swiotlb.c`, 6.12).
    pub mark_at_most: u64,
    /// When they first were.
    pub peak_time_ns: u64,
    /// Slots in use over time, where that was asked for.
    pub occupancy: Option<Occupancy>,
    /// How full the pools were in the long run, where that was asked for.
    pub trend: Option<Trend>,
    /// Who held slots at that moment, where that was asked for; without those whose slots were taken before the recording began.
    pub held_at_peak: Holders,
    /// Who held slots at the end; without those too.
    pub held_at_end: Holders,
    /// For how long slots were held that were given back, where that was asked for.
    pub held_times: HeldTimes,
    /// Mappings of which the order of searches and releases that overlap in time decides whether they are refused; counted here as
    /// the order of the records has it.
    pub raced: u64,
    /// Why mappings are refused.
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Scatterlists.
    pub lists: u64,
    /// Scatterlists behind an IOMMU that need more DMA segments because a segment bounces.
    pub lists_losing_concatenation: u64,
    /// The policy's rule in one line.
    pub about: String,
    /// Time that the stream covers, ns.
    pub span_ns: u64,
    /// Buffers that found no slots and were copied through memory allocated for them alone.
    pub fallbacks: u64,
    /// The most of that memory at once, bytes: objects of kmalloc that fill whole lines.
    pub fallback_bytes: u64,
    /// Each of the pool's functions, how often it is called, and bytes of the buffers in sum.
    pub pool_calls: Vec<(PoolFunction, u64, u64)>,
    /// CPU time of the pool's functions, ns, at the speed that was measured in the capture; `None` where it was not.
    pub pool_cpu_ns: Option<u64>,
    /// CPU time of cache maintenance, ns: as measured, but for mappings of which only one of the two kernels refuses; `None` where it
    /// was not timed, or a device's coherence is taken otherwise than captured.
    pub cache_maintenance_ns: Option<u64>,
    /// Slabs of all kmalloc caches at the end; `None` where the capture has no count of them.
    pub all_slabs: Option<Slabs>,
    /// Bytes of the kmalloc caches' slabs at the end that the live objects seen would take, and its standard error; `None`
    /// without allocations in the capture.
    pub slab_bytes: Option<Estimate>,
    /// The same by cache.
    pub caches: Vec<CacheUse>,
    /// As in [`crate::settings::Settings::caches_may_be_smaller`]: then mappings are refused that are taken to need no bounce.
    pub caches_may_be_smaller: bool,
    /// Buffers that may overlap: in caches other than those captured, it is not known where they would lie.
    pub overlaps_unknown: u64,
    /// Objects that are smaller than a line would lie elsewhere, some of them beside others than they do.
    pub small_objects_move: bool,
    /// Pools that a kernel that adds them would have added.
    pub pools_added: u64,
    /// Pools that it would have made for one mapping alone.
    pub transient_pools: u64,
    /// Searches for slots that were not made, because those before them had been in vain for too long; taken to have found none.
    pub searches_given_up: u64,
    /// Slots taken for what has no mapping event, as the kernel was seen to: in the peak, and in nothing else.
    pub slots_without_mapping: u64,
    /// Mappings of devices whose description was lost: taken as mapped directly.
    pub not_simulated: u64,
    /// This run may bounce mappings that were not streamed: its counts are of those that were.
    pub looks_at_unstreamed: bool,
    /// Of the bounces those that the kernel counted by device and length and that were not recorded: when, for how long and with how
    /// many slots at once is not known, and they are in no breakdown.
    pub bounces_only_counted: u64,
    /// Mappings that this run bounces and the kernel refused, of which therefore no unmapping is known.
    pub mapped_but_refused_by_kernel: u64,
    /// What this run comes to at the most, where these mappings last as long as others like them and pools are added late; where
    /// neither matters the figures are what they are.
    pub at_most: Option<AtMost>,
    /// Coherent memory out of restricted pools, by device.
    pub coherent: Vec<CoherentRow>,
    /// Allocations of coherent memory for which a restricted pool had no slots.
    pub coherent_refused: u64,
    /// Each pool that was used, where there are others than the default one; empty elsewhere.
    pub pools: Vec<PoolRow>,
    /// Breakdowns.
    pub rows: Rows,
}

/// Figures of a run in which every mapping that the recorded kernel refused lasts as long as the longest mapping of the same
/// device, call site and length, or to the end of the recording where there is none; and in which a kernel that adds pools has each
/// [`bouncescope_model::pool::WORKER_NS`] after the search that asked for it, not at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtMost {
    /// Most slots in use at once.
    pub peak_slots: u64,
    /// Mappings refused.
    pub failed: u64,
    /// Pools made for one mapping alone.
    pub transient_pools: u64,
}

impl Outcome {
    /// Whether the pool was larger than at the beginning when most slots were in use.
    pub fn has_grown_at_peak(&self) -> bool {
        self.pool_slots_at_peak > self.total_slots
    }

    /// Most slots that can have been in use at once, as far as is known.
    pub fn peak_slots_at_most(&self) -> u64 {
        self.at_most.map_or(0, |most| most.peak_slots).max(self.peak_slots)
    }

    /// Most mappings that can have been refused, as far as is known.
    pub fn failed_at_most(&self) -> u64 {
        self.at_most.map_or(0, |most| most.failed).max(self.total.failed)
    }

    /// Most pools that can have been made for one mapping alone, as far as is known.
    pub fn transient_pools_at_most(&self) -> u64 {
        self.at_most.map_or(0, |most| most.transient_pools).max(self.transient_pools)
    }
}
