//! Counters that the programs keep per CPU: what was seen, and everything that was lost, by kind.
//!
//! For every kind of record: seen = records in the ring + those counted as lost because the ring was full.

use crate::record::Kind;

/// Counters of one kind apart: index `seen(kind)` counts what happened, `ring_full(kind)` what the ring had no room for.
pub const STRIDE: u32 = 32;

/// Index of the counter of `kind` as seen by the program, before anything could be lost.
pub const fn seen(kind: Kind) -> u32 {
    kind as u32
}

/// Index of the counter of `kind` that the full ring refused.
pub const fn ring_full(kind: Kind) -> u32 {
    STRIDE + kind as u32
}

/// Other things counted; each is an index into the same array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Other {
    /// Allocations not counted by call site, because that map was full.
    SitesFull = 2 * STRIDE,
    /// Devices that could not be remembered as described, so that they are described again with the next mapping.
    DevicesFull = 2 * STRIDE + 1,
    /// Entries of probed functions that could not be kept for their return.
    CallsFull = 2 * STRIDE + 2,
    /// Returns of probed functions without a kept entry.
    UnpairedReturn = 2 * STRIDE + 3,
    /// Scatterlists of which not every segment was recorded.
    SgTruncated = 2 * STRIDE + 4,
    /// Kernel memory that could not be read.
    ReadFault = 2 * STRIDE + 5,
    /// Not a loss: single mappings for which the decider, run in the kernel with the kernel's own settings, said bounce.
    Predicted = 2 * STRIDE + 6,
    /// Entries of probed functions whose return was never seen.
    MissedReturn = 2 * STRIDE + 7,
    /// Calls of the pool's functions of which the time is missing, and nothing else.
    Untimed = 2 * STRIDE + 8,
    /// Mappings not counted by length, because that map was full.
    LengthsFull = 2 * STRIDE + 11,
    /// Scatterlists that could not be remembered as sent, so that their unmapping is not.
    ListsFull = 2 * STRIDE + 12,
    /// Objects freed by `kfree_bulk()` that were not looked at, because one call freed too many.
    BulkCut = 2 * STRIDE + 13,
}

impl Other {
    /// The counters that stand for a loss, with their names in captures and on screen.
    pub const LOSSES: [(Self, &'static str); 11] = [
        (Self::SitesFull, "sites_full"),
        (Self::DevicesFull, "devices_full"),
        (Self::CallsFull, "calls_full"),
        (Self::UnpairedReturn, "unpaired_return"),
        (Self::MissedReturn, "missed_return"),
        (Self::SgTruncated, "sg_truncated"),
        (Self::ReadFault, "read_fault"),
        (Self::Untimed, "untimed"),
        (Self::LengthsFull, "lengths_full"),
        (Self::ListsFull, "lists_full"),
        (Self::BulkCut, "bulk_cut"),
    ];
}

/// Length of the per-CPU array.
pub const COUNTERS: u32 = 3 * STRIDE;

/// Key of the exact count of allocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct SiteKey {
    /// Return address of the caller of kmalloc.
    pub call_site: u64,
    /// Bytes asked for; saturated at `u32::MAX`.
    pub bytes_req: u32,
    /// Bytes given; saturated at `u32::MAX`.
    pub bytes_alloc: u32,
}

/// Places for call sites at hand: what is counted there need not be looked up in the map of all. A power of two.
pub const HOT_SITES: u32 = 512;

/// A call site at hand, and what has not been added to the map of all yet. With a count of 0 nothing is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct HotSite {
    /// Which.
    pub key: SiteKey,
    /// Allocations.
    pub count: u64,
    /// Not 0 while a program counts here; it never is for user space to see, but for the moment of a race.
    pub taken: u64,
}

impl SiteKey {
    /// Its place among those at hand.
    #[inline(always)]
    pub const fn hot(&self) -> u32 {
        let mixed = (self.call_site ^ (self.bytes_req as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as u32 % HOT_SITES
    }
}

/// What is mapped, in the exact count of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mapped {
    /// A single buffer.
    Single = 0,
    /// A segment of a scatterlist.
    Segment = 1,
    /// A scatterlist; its segments are counted for themselves.
    List = 2,
    /// Device registers (`DMA_ATTR_MMIO`, `dma_map_resource()`), which never bounce.
    Resource = 3,
}

/// Key of the exact count of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct LengthKey {
    /// `struct device *`.
    pub dev: u64,
    /// [`crate::record::Device::fingerprint`]: the device as it was then.
    pub fingerprint: u64,
    /// Bytes of the buffer; [`crate::streamed::SMALL_BELOW`] stands for itself and all that are longer. 0 for lists.
    pub length: u32,
    /// `enum dma_data_direction`.
    pub direction: u16,
    /// [`Mapped`].
    pub mapped: u16,
}

/// How often, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct LengthCount {
    /// Buffers, or lists.
    pub count: u64,
    /// Bytes of the buffers; 0 for lists.
    pub bytes: u64,
}

/// The functions whose time is taken: the pool's, and those of cache maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Function {
    /// `swiotlb_tbl_map_single()`.
    Map = 0,
    /// `swiotlb_tbl_unmap_single()`.
    Unmap = 1,
    /// `swiotlb_sync_single_for_cpu()`.
    SyncForCpu = 2,
    /// `swiotlb_sync_single_for_device()`.
    SyncForDevice = 3,
    /// `arch_sync_dma_for_device()`.
    MaintainForDevice = 4,
    /// `arch_sync_dma_for_cpu()`, of buffers that the device may have written.
    MaintainForCpu = 5,
}

impl Function {
    /// Every function, in the order of its value.
    pub const ALL: [Self; 6] =
        [Self::Map, Self::Unmap, Self::SyncForCpu, Self::SyncForDevice, Self::MaintainForDevice, Self::MaintainForCpu];
}

/// Classes of length for which the times of one function are kept apart: powers of two up to 256 KiB, the longest that
/// a pool holds in one piece (`swiotlb_max_mapping_size()`), and above. Caches are maintained for longer buffers too.
pub const LENGTHS: u32 = 20;

/// Length of the per-CPU array of times.
pub const TIMES: u32 = Function::ALL.len() as u32 * LENGTHS;

/// Index of the time of a [`Function`]'s calls for buffers of `len` bytes; 0 and 1 are one class.
#[inline(always)]
pub const fn time(function: u64, len: u64) -> u32 {
    let log2 = (len | 1).ilog2();
    let class = if log2 < LENGTHS { log2 } else { LENGTHS - 1 };
    function as u32 * LENGTHS + class
}

/// In place of a [`Function`]: a call that does nothing, of which no time is kept.
pub const NO_FUNCTION: u64 = u64::MAX;

/// Calls of one function for one class of lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Time {
    /// Calls that returned.
    pub calls: u64,
    /// Bytes of their buffers.
    pub bytes: u64,
    /// From entry to return, ns.
    pub total_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_classed_by_their_highest_bit() {
        let class = |len| time(Function::Map as u64, len);
        assert_eq!([0, 1, 2, 3, 4, 255, 256].map(class), [0, 0, 1, 1, 2, 7, 8]);
        assert_eq!([256 << 10, 512 << 10, u64::MAX].map(class), [18, 19, 19]);
    }

    #[test]
    fn functions_do_not_share_an_index() {
        assert_eq!(time(Function::Unmap as u64, 0), time(Function::Map as u64, u64::MAX) + 1);
        assert_eq!(time(Function::MaintainForCpu as u64, u64::MAX), TIMES - 1);
        assert_eq!(Function::ALL.map(|function| function as usize), [0, 1, 2, 3, 4, 5]);
    }
}
