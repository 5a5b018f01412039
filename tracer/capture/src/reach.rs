//! What decides how far a machine's devices reach: memory, bus windows, limits, IOMMUs, pools. Data alone.

use bouncescope_model::pool::SLOT;
use serde::Serialize;

/// Addresses, the end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Span {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

impl Span {
    /// Bytes.
    pub fn size(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether an address is one of them.
    pub fn contains(self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Whole slots of a pool that lies there.
    pub fn slots(self) -> u64 {
        self.size() / SLOT
    }

    /// What both have; empty when they are apart.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self { start, end: self.end.min(other.end).max(start) }
    }
}

/// A range of dma-ranges (`struct bus_dma_region`): memory, and where it begins on the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Window {
    /// Physical addresses.
    pub memory: Span,
    /// The first one's address on the bus.
    pub bus: u64,
}

/// A pool of bounce buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolPlace {
    /// `default`, or the reserved-memory node of a restricted pool.
    pub name: String,
    /// Physical addresses.
    pub place: Span,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReachingDevice {
    /// `dev_name()`.
    pub name: String,
    /// Its driver; empty without.
    pub driver: String,
    /// `*dev->dma_mask`, or the mask of as many bits; `None` where it is not known.
    pub mask: Option<u64>,
    /// `dev->bus_dma_limit`: the last bus address of its windows, or what was seen; `None` where nothing limits the bus.
    pub bus_limit: Option<u64>,
    /// Windows of its bus; none means that bus addresses are physical ones.
    pub windows: Vec<Window>,
    /// Maps through an IOMMU.
    pub iommu: bool,
    /// The restricted pool that it maps through.
    pub restricted: Option<String>,
}

/// Of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reach {
    /// RAM; empty where it is not known.
    pub memory: Vec<Span>,
    /// The default pool first.
    pub pools: Vec<PoolPlace>,
    /// Without a default pool among them there is none; else it may lie anywhere.
    pub is_pool_known: bool,
    /// Devices by name.
    pub devices: Vec<ReachingDevice>,
    /// What is not known, a sentence each.
    pub notes: Vec<String>,
}
