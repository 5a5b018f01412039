//! What only a look at the machine itself tells, as data: how it was looked at is in `kernel` and `live`.

use serde::Serialize;

/// What the running machine adds to its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Here {
    /// Why nothing could be traced; `None` when it was.
    pub why_not: Option<String>,
    /// How long the self-test had the hooks attached, milliseconds.
    pub watched_ms: u64,
    /// Subjects of hooks that were made to happen during that time, so that one which did not fire does not work.
    pub provoked: Vec<String>,
    /// Kernel memory that the maps take with the default ring, bytes; 0 when nothing was loaded.
    pub map_bytes: u64,
    /// What the device tree says of coherence; `None` on a machine without one.
    pub device_tree: Option<DeviceTree>,
}

/// Coherence in a device tree (`of_dma_is_coherent()`, `drivers/of/address.c`): a node's own property, else its nearest
/// ancestor's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceTree {
    /// Nodes with `dma-coherent`, as paths, sorted; the root is `/`.
    pub coherent: Vec<String>,
    /// Nodes with `dma-noncoherent`.
    pub non_coherent: Vec<String>,
}
