//! Counters that the programs keep per CPU: what was seen, and everything that was lost, by kind.
//!
//! For every kind of record: seen = records in the ring + those counted as lost because the ring was full.

use crate::record::Kind;

/// Counters of one kind apart: index `seen(kind)` counts what happened, `ring_full(kind)` what the ring had no room for.
pub const STRIDE: u32 = 16;

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
}

impl Other {
    /// The counters that stand for a loss, with their names in captures and on screen.
    pub const LOSSES: [(Self, &'static str); 7] = [
        (Self::SitesFull, "sites_full"),
        (Self::DevicesFull, "devices_full"),
        (Self::CallsFull, "calls_full"),
        (Self::UnpairedReturn, "unpaired_return"),
        (Self::MissedReturn, "missed_return"),
        (Self::SgTruncated, "sg_truncated"),
        (Self::ReadFault, "read_fault"),
    ];
}

/// Length of the per-CPU array.
pub const COUNTERS: u32 = 3 * STRIDE;

/// Key of the exact count of allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
