//! What a replay under some settings comes to. Counts are of mappings (one call of `dma_map_*`) and of buffers (a single
//! buffer, or one segment of a list); bounces are of buffers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::memory::CacheUse;
use crate::event::Direction;

/// Counts of some of the mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Buffers left in a cache line in which something else is known to be in use, while the device writes it.
    pub unsafe_certain: u64,
    /// The same where it is not known what else lies in the line.
    pub unsafe_possible: u64,
    /// Buffers that bounce for alignment although nothing else can lie in their cache lines.
    pub bounces_not_needed: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.mappings += other.mappings;
        self.buffers += other.buffers;
        self.bytes += other.bytes;
        self.bounces += other.bounces;
        self.bytes_copied += other.bytes_copied;
        self.failed += other.failed;
        self.unsafe_certain += other.unsafe_certain;
        self.unsafe_possible += other.unsafe_possible;
        self.bounces_not_needed += other.bounces_not_needed;
    }
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// `dev_name()`.
    pub device: String,
    /// Its driver when last described.
    pub driver: String,
    /// `dev_is_dma_coherent()` when last described.
    pub coherent: bool,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectionRow {
    /// Direction.
    pub direction: Direction,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassRow {
    /// Longest buffer of the class, bytes: an object size of kmalloc with caches from 8 bytes.
    pub up_to: u64,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverRow {
    /// Driver; empty for devices without.
    pub driver: String,
    /// Scatterlists.
    pub lists: u64,
    /// Of them those behind an IOMMU whose segments are no longer concatenated.
    pub lists_losing_concatenation: u64,
    /// DMA segments that those would have been.
    pub segments_before: u64,
    /// DMA segments that they are.
    pub segments_after: u64,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallSiteRow {
    /// Where the buffer's object was allocated, `function+0xoffset`; empty for buffers of which that is not known.
    pub call_site: String,
    /// Module.
    pub module: String,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// The rows of a breakdown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// By device, most bounces first, then most mappings.
    pub by_device: Vec<DeviceRow>,
    /// By driver, in the same order.
    pub by_driver: Vec<DriverRow>,
    /// By the call site of kmalloc that the buffers come from, in the same order.
    pub by_call_site: Vec<CallSiteRow>,
    /// By direction.
    pub by_direction: Vec<DirectionRow>,
    /// By length of the buffer, ascending.
    pub by_size_class: Vec<ClassRow>,
}

/// An estimate from a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: u64,
    /// Its standard error; 0 where everything was counted.
    pub error: u64,
}

/// What came out of a replay under some settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The settings' name.
    pub name: String,
    /// `cache_line_size()`, bytes.
    pub cache_line_size: u32,
    /// Minimum alignment of the kmalloc caches, bytes.
    pub minalign: u32,
    /// Slots of the pool.
    pub total_slots: u64,
    /// Mappings.
    pub mappings: u64,
    /// Buffers.
    pub buffers: u64,
    /// Buffers that bounce.
    pub bounces: u64,
    /// Why they bounce.
    pub bounces_by_reason: BTreeMap<String, u64>,
    /// Bytes copied into the pool, and back for what the device writes.
    pub bytes_copied: u64,
    /// Most slots in use at once.
    pub peak_slots: u64,
    /// When they first were.
    pub peak_time_ns: u64,
    /// Mappings refused.
    pub failed: u64,
    /// Why they are refused.
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Scatterlists.
    pub lists: u64,
    /// Scatterlists behind an IOMMU whose segments are no longer concatenated.
    pub lists_losing_concatenation: u64,
    /// The policy's rule in one line.
    pub about: String,
    /// Time that the stream covers, ns.
    pub span_ns: u64,
    /// Buffers that found no slots and were copied through memory allocated for them alone.
    pub fallbacks: u64,
    /// Buffers left in a shared cache line while the device writes, known to be shared.
    pub unsafe_certain: u64,
    /// The same, not known whether shared.
    pub unsafe_possible: u64,
    /// With what: `own_object` (the rest of the buffer's own object), `other_object`, `unknown`.
    pub unsafe_by_neighbour: BTreeMap<String, u64>,
    /// Buffers that bounce for alignment although nothing else can lie in their cache lines.
    pub bounces_not_needed: u64,
    /// CPU time of the pool's functions, ns, at the speed that was measured in the capture; `None` where it was not.
    pub pool_cpu_ns: Option<u64>,
    /// Bytes of the kmalloc caches' slabs at the end that the live objects seen would take, and its standard error; `None`
    /// without allocations in the capture.
    pub slab_bytes: Option<Estimate>,
    /// The same by cache.
    pub caches: Vec<CacheUse>,
    /// Pools that a kernel that adds them would have added.
    pub pools_added: u64,
    /// Pools that it would have made for one mapping alone.
    pub transient_pools: u64,
    /// Slots taken for what has no mapping event, as the kernel was seen to: in the peak, and in nothing else.
    pub slots_without_mapping: u64,
    /// Mappings of devices whose description was lost: taken as mapped directly.
    pub not_simulated: u64,
    /// This run may bounce mappings that were not streamed: its counts are of those that were.
    pub looks_at_unstreamed: bool,
    /// Mappings that this run bounces and the kernel refused, of which therefore no unmapping is known.
    pub mapped_but_refused_by_kernel: u64,
    /// Breakdowns.
    #[serde(flatten)]
    pub rows: Rows,
}

impl Outcome {
    /// Adds sums over mappings.
    pub(super) fn add(&mut self, tally: &Tally) {
        self.mappings += tally.mappings;
        self.buffers += tally.buffers;
        self.bounces += tally.bounces;
        self.bytes_copied += tally.bytes_copied;
        self.failed += tally.failed;
        self.unsafe_certain += tally.unsafe_certain;
        self.unsafe_possible += tally.unsafe_possible;
        self.bounces_not_needed += tally.bounces_not_needed;
    }
}
