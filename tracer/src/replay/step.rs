//! What pairing makes of events: the stream's mappings, in the order in which the kernel took and gave back slots.

use std::sync::Arc;

use super::mapping::{Handle, Mapping};
use crate::event::{DeviceId, Direction};

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
    /// The kernel gave slots back.
    SlotReleased(SlotRelease),
    /// A mapping is unmapped: the event, which the kernel sends before it gives the slots back, or after.
    Unmapped(Unmapping),
}

impl Step {
    /// When, ns.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Buffer { mapping, index, .. } => mapping.buffers[*index as usize].time_ns,
            Self::Mapped { mapping, .. } => mapping.time_ns,
            Self::Unseen(unseen) => unseen.time_ns,
            Self::SlotReleased(release) => release.time_ns,
            Self::Unmapped(unmapping) => unmapping.time_ns,
        }
    }
}

/// Who holds slots of the recorded kernel's pool.
#[derive(Clone, Debug)]
pub enum Holder {
    /// A buffer of a mapping.
    Buffer(Arc<Mapping>, u32),
    /// An [`Unseen`], by its number.
    Unseen(u64),
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
    /// Whose they were; `None` when taken before the recording began.
    pub holder: Option<Holder>,
}

/// An unmapping.
#[derive(Clone, Debug)]
pub struct Unmapping {
    /// When, ns.
    pub time_ns: u64,
    /// The device.
    pub device: DeviceId,
    /// What it names its mapping by.
    pub handle: Handle,
    /// Length, bytes; 0 for a list.
    pub size: u64,
    /// Direction.
    pub direction: Direction,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// Its mapping; `None` when mapped before the recording began.
    pub mapping: Option<Arc<Mapping>>,
}

/// `DMA_ATTR_SKIP_CPU_SYNC`: the unmapping copies nothing back.
const SKIP_CPU_SYNC: u64 = 1 << 5;

impl Unmapping {
    /// Whether a bounced buffer is copied back: `swiotlb_tbl_unmap_single()` and `dma_direct_unmap_phys()`.
    pub fn copies_back(&self) -> bool {
        self.direction != Direction::ToDevice && self.attrs & SKIP_CPU_SYNC == 0
    }
}
