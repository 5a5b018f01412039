//! What pairing makes of events: the stream's mappings, in the order in which the kernel took and gave back slots.

use std::sync::Arc;

use super::mapping::{Buffer, Mapping};
use bouncescope_capture::event::{DeviceId, Direction};
use tracer_ebpf::attrs::SKIP_CPU_SYNC;

/// One thing that happened to mappings.
#[derive(Clone, Debug)]
pub enum Step {
    /// A buffer is mapped; at the moment when its slots were taken, if the kernel took any. A list's other buffers may
    /// come later; [`Step::Mapped`] is always the last.
    Buffer {
        /// The mapping it belongs to.
        mapping: Arc<Mapping>,
        /// Which of its buffers.
        index: u32,
        /// Who held the same slot without its release having been seen.
        replaces: Option<Holder>,
        /// What was under way while its slots were looked for.
        overlap: Overlap,
    },
    /// A mapping is complete: all its buffers have been.
    Mapped {
        /// Which.
        mapping: Arc<Mapping>,
        /// A list of the same handle whose unmapping has not been seen.
        replaces: Option<Arc<Mapping>>,
    },
    /// Slots were taken by what has no mapping event.
    Unseen(Unseen),
    /// A device asked for coherent memory, which comes out of its restricted pool.
    Coherent {
        /// The memory: apart, since it would make every step longer.
        memory: Box<Coherent>,
        /// Who held the same slot without its release having been seen.
        replaces: Option<Holder>,
        /// What was under way while its slots were looked for.
        overlap: Overlap,
    },
    /// The kernel gave slots back.
    SlotReleased(SlotRelease),
    /// A part of a mapping is handed over between CPU and device.
    Synced(Synced),
    /// A mapping is unmapped: the event, which the kernel sends before it gives the slots back, or after.
    Unmapped(Unmapping),
    /// A list is mapped no more, though its unmapping has not been seen: its entries were mapped again, by something that is not followed.
    Forgotten {
        /// Which.
        mapping: Arc<Mapping>,
        /// When, ns.
        time_ns: u64,
    },
    /// A mapping that the kernel refused would have been unmapped by now, judged by others like it.
    RefusedEnds {
        /// Which.
        mapping: Arc<Mapping>,
        /// When, ns.
        time_ns: u64,
    },
}

impl Step {
    /// When, ns.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Buffer { mapping, index, .. } => mapping.buffers[*index as usize].time_ns,
            Self::Mapped { mapping, .. } => mapping.time_ns,
            Self::Unseen(unseen) => unseen.time_ns,
            Self::Coherent { memory, .. } => memory.time_ns,
            Self::SlotReleased(release) => release.time_ns,
            Self::Synced(synced) => synced.time_ns,
            Self::Unmapped(unmapping) => unmapping.time_ns,
            Self::Forgotten { time_ns, .. } | Self::RefusedEnds { time_ns, .. } => *time_ns,
        }
    }
}

/// By how much the slots in use when the kernel looked for some may differ from those at the step: searches and releases on other
/// CPUs were under way, and nothing tells their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Slots by which there may have been fewer in use.
    pub fewer: u32,
    /// Slots by which there may have been more in use.
    pub more: u32,
    /// Slots by which the kernel may have counted more in use: it counts those of a release for a while after others can take them.
    pub counted: u32,
    /// Slots that would be in use besides if releases without an end had stalled for longer than is likely.
    pub stalled: u32,
    /// So much was under way that it was not all looked at.
    pub is_cut: bool,
}

impl Overlap {
    /// The order is known.
    pub const fn is_none(self) -> bool {
        self.fewer == 0 && self.more == 0 && self.stalled == 0 && !self.is_cut
    }
}

/// Who holds slots of the recorded kernel's pool.
#[derive(Clone, Debug)]
pub enum Holder {
    /// A buffer of a mapping.
    Buffer(Arc<Mapping>, u32),
    /// An [`Unseen`], by its number.
    Unseen(u64),
    /// A [`Coherent`], by its number.
    Coherent(u64),
}

/// Coherent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coherent {
    /// Its number among such.
    pub id: u64,
    /// When, ns.
    pub time_ns: u64,
    /// CPU.
    pub cpu: u16,
    /// The device.
    pub device: DeviceId,
    /// Length, bytes: whole pages.
    pub size: u64,
    /// Where the kernel found it, as in the event.
    pub slot: u64,
    /// The kernel had some.
    pub found: bool,
}

/// An attempt to bounce that no mapping event claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Its number among them.
    pub id: u64,
    /// When, ns.
    pub time_ns: u64,
    /// CPU.
    pub cpu: u16,
    /// The device.
    pub device: DeviceId,
    /// Physical address of the buffer, or what the attempt said of it.
    pub phys: u64,
    /// Length, bytes.
    pub size: u64,
    /// The slot; `None` when none was found, or when the search was not recorded.
    pub slot: Option<u64>,
    /// Granule - 1 behind an IOMMU, else 0.
    pub align_mask: u64,
}

/// Slots given back.
#[derive(Clone, Debug)]
pub struct SlotRelease {
    /// When, ns.
    pub time_ns: u64,
    /// The device.
    pub device: DeviceId,
    /// Physical address of the slot.
    pub slot: u64,
    /// Length that was mapped, bytes.
    pub size: u64,
    /// It was coherent memory.
    pub is_memory: bool,
    /// Whose they were; `None` when taken before the recording began.
    pub holder: Option<Holder>,
}

/// A part of a mapping handed over between CPU and device while it stays mapped.
#[derive(Clone, Debug)]
pub struct Synced {
    /// When, ns.
    pub time_ns: u64,
    /// The mapping.
    pub mapping: Arc<Mapping>,
    /// Where in it the part begins, bytes; 0 for a list.
    pub at: u64,
    /// Length of the part, bytes; of a list everything.
    pub size: u64,
    /// To the device, else to the CPU.
    pub for_device: bool,
}

impl Synced {
    /// Whether what is bounced is copied: `swiotlb_sync_single_for_cpu()` and `swiotlb_sync_single_for_device()`.
    pub fn copies(&self) -> bool {
        sync_copies(self.mapping.direction, self.for_device)
    }

    /// Bytes copied of a buffer that is bounced.
    pub fn bytes_of(&self, buffer: &Buffer) -> u64 {
        buffer.size.saturating_sub(self.at).min(self.size)
    }
}

/// Whether a sync in this direction copies what is bounced.
pub(crate) fn sync_copies(direction: Direction, for_device: bool) -> bool {
    direction != if for_device { Direction::FromDevice } else { Direction::ToDevice }
}

/// An unmapping.
#[derive(Clone, Debug)]
pub struct Unmapping {
    /// When, ns.
    pub time_ns: u64,
    /// The device.
    pub device: DeviceId,
    /// Direction.
    pub direction: Direction,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// Its mapping. Unmappings of what is not followed, and of what was mapped before the recording began, make no step.
    pub mapping: Arc<Mapping>,
}

impl Unmapping {
    /// The driver has copied already, or does not care: `DMA_ATTR_SKIP_CPU_SYNC`.
    pub(crate) fn skips_sync(&self) -> bool {
        self.attrs & SKIP_CPU_SYNC != 0
    }

    /// Whether a bounced buffer is copied back: `swiotlb_tbl_unmap_single()` and `dma_direct_unmap_phys()`.
    pub(crate) fn copies_back(&self) -> bool {
        self.direction != Direction::ToDevice && !self.skips_sync()
    }
}
