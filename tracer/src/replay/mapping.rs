//! What pairing makes of events: mappings with what the kernel did, and unmappings.

use crate::event::{DeviceId, Direction};

/// `DMA_ATTR_SKIP_CPU_SYNC`.
pub const ATTR_SKIP_CPU_SYNC: u64 = 1 << 5;

/// Names a mapping from its map to its unmap; counts from 0 in the order of the stream.
pub type MappingId = u64;

/// One step for the simulated kernel. Steps come in the order in which the kernel took and gave back slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Something was mapped, or refused.
    Map(Mapping),
    /// Something was unmapped.
    Unmap {
        /// What.
        id: MappingId,
        /// When.
        time_ns: u64,
    },
    /// Something that was mapped before the recording began gave back slots.
    ForeignSlots {
        /// Its length, bytes.
        size: u64,
    },
    /// Slots were taken by something that no mapping event claims: a path without events, such as `dma_iova_link()`.
    Orphan {
        /// Which device.
        device: DeviceId,
        /// When.
        time_ns: u64,
        /// Length, bytes.
        size: u64,
    },
}

/// One call of `dma_map_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its number.
    pub id: MappingId,
    /// When: the moment of the event.
    pub time_ns: u64,
    /// CPU number.
    pub cpu: u16,
    /// Which device.
    pub device: DeviceId,
    /// Direction.
    pub direction: Direction,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// A scatterlist, even of one segment.
    pub list: bool,
    /// DMA segments that came out of a list; 1 for a single buffer. 0 when refused.
    pub ents: u32,
    /// Its buffers, in order: one, or a list's recorded segments.
    pub buffers: Vec<Buffer>,
    /// Segments of a list that were not recorded.
    pub truncated: u32,
}

impl Mapping {
    /// The kernel refused it.
    pub fn refused(&self) -> bool {
        self.ents == 0
    }
}

/// One buffer of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Physical address; where `exact` is false, right only below the page size.
    pub phys: u64,
    /// The whole of `phys` is known.
    pub exact: bool,
    /// Length, bytes.
    pub size: u64,
    /// What the kernel did with it.
    pub truth: Truth,
}

/// What the kernel did with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Mapped as it is.
    Direct,
    /// Bounced.
    Bounced,
    /// Refused: there were no slots, or no pool.
    Refused,
    /// Belongs to a list that was refused for an earlier segment.
    NotReached,
    /// Not known.
    Unknown(Unknown),
}

/// Why the truth about a buffer is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Records that would prove it may have been lost.
    EventsLost,
    /// No hook attached that would tell.
    NoHook,
    /// Slots were taken, and no event says for what.
    NoMappingEvent,
    /// The segment was not recorded.
    Truncated,
}

impl Unknown {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::EventsLost => "records that would prove it may have been lost",
            Self::NoHook => "no hook attached that would tell",
            Self::NoMappingEvent => {
                "slots taken without a mapping event (a path that has none, or cut off by begin or end)"
            }
            Self::Truncated => "segments of a long scatterlist that were not recorded",
        }
    }
}
