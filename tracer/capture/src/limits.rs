//! Numbers that a writer of blocks and a replay must take alike: a writer closes only what no replay would have missed, and knows by these
//! how long a replay remembers, and what it takes for possible.
//!
//! To change one breaks the promise of captures that were written with another: their blocks were closed by the old number. A larger
//! one needs another version of the format.

/// How long a replay waits for the mapping that an attempt to bounce was made for, ns: longer than a task is kept from running between taking
/// slots and sending its event.
pub const ATTEMPT_PATIENCE_NS: u64 = 1_000_000_000;
/// Releases of slots that are taken to be under way at one time.
pub const MOST_RELEASES: usize = 128;
/// Buffers that are mapped and followed at one time, and slots whose holder is remembered; some ten times what the largest rings of
/// network devices hold. Each takes a replay about 400 bytes, and more in every simulated kernel that bounces it.
pub const MOST_MAPPED: usize = 1 << 17;
/// Descriptions of devices that are kept, far more than a machine has devices: neither a damaged number nor a capture made of nothing but
/// devices must make a reader fill memory.
pub const MOST_DEVICES: usize = 1 << 13;
/// More hooks than there are.
pub const MOST_HOOKS: usize = 256;
/// Longer than any buffer or object, bytes: 1 TiB.
pub const MAX_SIZE: u64 = 1 << 40;
/// Later than any clock says, ns: 146 years after boot.
pub const MAX_TIME_NS: u64 = 1 << 62;
/// The largest granule of an IOMMU, bytes: it is no larger than a page (`init_iova_domain()`, `drivers/iommu/iova.c`).
pub const MAX_GRANULE: u64 = 65536;
/// The longest alignment that a device keeps, bytes less 1; those of NVMe and Hyper-V ask for 4095.
pub const MAX_ALIGN_MASK: u32 = 65535;
/// Offset into a page, whatever the page's size: bus offsets, and the pages of a list, leave it alone.
pub const PAGE_OFFSET: u64 = 4095;
/// Offset into a slot. Slots are 2 KiB (`IO_TLB_SHIFT`, `include/linux/swiotlb.h`), and the pool is aligned to more.
pub const SLOT_OFFSET: u64 = 2047;
