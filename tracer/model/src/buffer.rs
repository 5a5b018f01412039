//! A buffer that a driver maps, and why it may have to bounce.

/// A buffer to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Physical address; at least its bits below the IOMMU's granule must be right.
    pub phys: u64,
    /// The DMA address that it has unbounced and without IOMMU; `None` when unknown, and then taken to be reachable.
    pub dma_addr: Option<u64>,
    /// Length, bytes.
    pub size: u64,
    /// `enum dma_data_direction`.
    pub direction: u8,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// Something else in use is known to lie in its first or last line.
    pub shared: bool,
}

/// Why a buffer cannot be mapped as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It may be a small kmalloc object that shares a cache line.
    Kmalloc,
    /// Its length alone says so, under a policy that is not the kernel's.
    Length,
    /// It does not begin at a line.
    Start,
    /// It is known to share a line.
    Shared,
    /// It belongs to a list of which another segment has to bounce.
    OfList,
    /// The device cannot reach it.
    DeviceMask,
    /// The bus that the device is on cannot.
    BusLimit,
    /// Everything bounces.
    Force,
    /// The device must not see what else lies in the same granule.
    Untrusted,
    /// The driver wants coherent memory, and the device is not coherent; no bounce would help.
    NotCoherent,
}

impl Reason {
    /// Every reason, in the order of its value.
    pub const ALL: [Self; 10] = [
        Self::Kmalloc,
        Self::Length,
        Self::Start,
        Self::Shared,
        Self::OfList,
        Self::DeviceMask,
        Self::BusLimit,
        Self::Force,
        Self::Untrusted,
        Self::NotCoherent,
    ];

    /// Something else may lie in the buffer's lines.
    pub const fn is_alignment(self) -> bool {
        matches!(self, Self::Kmalloc | Self::Length | Self::Start | Self::Shared | Self::OfList)
    }
}
