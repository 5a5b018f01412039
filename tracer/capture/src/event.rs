//! One thing that happened in the kernel, and batches of them. Pure data; the stream's other items are in
//! [`crate::facts`].
//!
//! Sizes are bytes, times nanoseconds of `CLOCK_MONOTONIC`, addresses as the kernel has them.

use serde::{Deserialize, Serialize};
use tracer_ebpf::decide;

pub use tracer_ebpf::record::{Kind, MAPPING_ERROR, UNKNOWN_PHYS};

/// `enum dma_data_direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum Direction {
    /// `DMA_BIDIRECTIONAL`.
    #[default]
    Bidirectional = decide::BIDIRECTIONAL,
    /// `DMA_TO_DEVICE`.
    ToDevice = decide::TO_DEVICE,
    /// `DMA_FROM_DEVICE`.
    FromDevice = decide::FROM_DEVICE,
}

impl Direction {
    /// From the kernel's value; `None` for `DMA_NONE` and anything else.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            decide::BIDIRECTIONAL => Some(Self::Bidirectional),
            decide::TO_DEVICE => Some(Self::ToDevice),
            decide::FROM_DEVICE => Some(Self::FromDevice),
            _ => None,
        }
    }

    /// The kernel's name without its `DMA_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bidirectional => "BIDIRECTIONAL",
            Self::ToDevice => "TO_DEVICE",
            Self::FromDevice => "FROM_DEVICE",
        }
    }
}

/// A device as described at some moment: index into the stream's devices in order of appearance, from 0. A device whose
/// description changed (another driver, another mask) gets a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DeviceId(pub u32);

/// An event: when, where, who, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, ns. Within a stream events come in the order of the ring, which is nearly but not strictly
    /// that of time.
    pub time_ns: u64,
    /// Thread id of the task that was current.
    pub task: u32,
    /// CPU number.
    pub cpu: u16,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// An allocation.
    Kmalloc {
        /// Return address of the caller.
        call_site: u64,
        /// The object.
        ptr: u64,
        /// Bytes asked for.
        bytes_req: u64,
        /// Bytes given: `s->size` of the cache, or whole pages.
        bytes_alloc: u64,
        /// `gfp_t`.
        gfp: u64,
    },
    /// An object freed, of any slab cache.
    Kfree {
        /// Return address of the caller.
        call_site: u64,
        /// The object.
        ptr: u64,
    },
    /// A single buffer mapped, or refused ([`MAPPING_ERROR`]).
    Map {
        /// Which device.
        device: DeviceId,
        /// Physical address of the buffer; with [`UNKNOWN_PHYS`] in it, only its offset into some page.
        phys: u64,
        /// DMA address that the driver got.
        dma_addr: u64,
        /// Length.
        size: u64,
        /// Direction.
        direction: Direction,
        /// What the buffer lies in.
        memory: Memory,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
    },
    /// A single buffer unmapped.
    Unmap {
        /// Which device.
        device: DeviceId,
        /// DMA address.
        dma_addr: u64,
        /// Length.
        size: u64,
        /// Direction.
        direction: Direction,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
    },
    /// A scatterlist mapped, or refused (`ents == 0`). Its segments: [`Batch::segments`].
    MapSg {
        /// Which device.
        device: DeviceId,
        /// Address of the first entry; its identity until it is unmapped.
        list: u64,
        /// Segments asked for.
        nents: u32,
        /// DMA segments that came out; 0 when refused.
        ents: u32,
        /// Direction.
        direction: Direction,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
        /// Return address of who called `dma_map_sg_attrs()` or `dma_map_sgtable()`; 0 where it was not recorded.
        caller: u64,
        /// Index of its first segment in the batch.
        first_segment: u32,
        /// Segments recorded; fewer than `nents` when truncated.
        segments: u32,
    },
    /// A scatterlist unmapped.
    UnmapSg {
        /// Which device.
        device: DeviceId,
        /// Address of the first entry.
        list: u64,
        /// Segments that were mapped.
        nents: u32,
        /// Direction.
        direction: Direction,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
    },
    /// A buffer linked into a range of DMA addresses made beforehand (`dma_iova_link()`, 6.16 on), or refused ([`MAPPING_ERROR`]).
    Link {
        /// Which device.
        device: DeviceId,
        /// Physical address of the buffer.
        phys: u64,
        /// DMA address that it was linked at.
        dma_addr: u64,
        /// Length.
        size: u64,
        /// Direction.
        direction: Direction,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
    },
    /// A range of DMA addresses unlinked, with all buffers linked in it (`dma_iova_unlink()`, `dma_iova_destroy()`).
    Unlink {
        /// Which device.
        device: DeviceId,
        /// Where it begins.
        dma_addr: u64,
        /// Its length.
        size: u64,
        /// Direction.
        direction: Direction,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
    },
    /// `swiotlb:swiotlb_bounced`: an attempt to bounce, before the search for a slot.
    Bounced {
        /// Which device.
        device: DeviceId,
        /// DMA address the buffer itself would have had (direct), or its physical address (IOMMU).
        dev_addr: u64,
        /// Length.
        size: u64,
    },
    /// `swiotlb_tbl_map_single()` returned.
    SlotMap {
        /// Which device.
        device: DeviceId,
        /// Physical address of the buffer.
        phys: u64,
        /// Physical address in the pool, [`MAPPING_ERROR`] when no slots were found.
        slot: u64,
        /// Length.
        size: u64,
        /// Granule - 1 behind an IOMMU, else 0.
        align_mask: u64,
        /// Direction.
        direction: Direction,
        /// Time between the function's entry and its return, ns.
        duration_ns: u64,
    },
    /// `swiotlb_tbl_unmap_single()` was entered.
    SlotUnmap {
        /// Which device.
        device: DeviceId,
        /// Physical address in the pool.
        slot: u64,
        /// Length.
        size: u64,
        /// Direction.
        direction: Direction,
    },
    /// `swiotlb_alloc()` returned: coherent memory of a device with a restricted pool, which comes out of that.
    CoherentAlloc {
        /// Which device.
        device: DeviceId,
        /// Physical address in the pool, [`MAPPING_ERROR`] when the pool had no room. With [`UNKNOWN_PHYS`] in it no address, but what
        /// tells this memory from other.
        slot: u64,
        /// Length: whole pages.
        size: u64,
        /// Time between the function's entry and its return, ns.
        duration_ns: u64,
    },
    /// `swiotlb_free()` was entered: the device gives coherent memory back.
    CoherentFree {
        /// Which device.
        device: DeviceId,
        /// As it was allocated.
        slot: u64,
        /// Length as the driver has it, not rounded up to pages.
        size: u64,
    },
    /// A single mapping, or part of one, handed over between CPU and device while it stays mapped.
    Sync {
        /// Which device.
        device: DeviceId,
        /// DMA address of the part.
        dma_addr: u64,
        /// Length of the part.
        size: u64,
        /// Direction.
        direction: Direction,
        /// To the device (`dma_sync_single_for_device()`), else to the CPU.
        for_device: bool,
    },
    /// The same for a scatterlist.
    SyncSg {
        /// Which device.
        device: DeviceId,
        /// Address of the first entry.
        list: u64,
        /// Segments of the list, as passed by the driver.
        nents: u32,
        /// Direction.
        direction: Direction,
        /// To the device (`dma_sync_sg_for_device()`), else to the CPU.
        for_device: bool,
    },
}

impl What {
    /// The device that it is about; none for objects.
    pub fn device(&self) -> Option<DeviceId> {
        let mut copy = *self;
        copy.device_mut().copied()
    }

    /// The same, to be changed.
    pub fn device_mut(&mut self) -> Option<&mut DeviceId> {
        match self {
            Self::Kmalloc { .. } | Self::Kfree { .. } => None,
            Self::Map { device, .. }
            | Self::Unmap { device, .. }
            | Self::MapSg { device, .. }
            | Self::UnmapSg { device, .. }
            | Self::Link { device, .. }
            | Self::Unlink { device, .. }
            | Self::Bounced { device, .. }
            | Self::SlotMap { device, .. }
            | Self::SlotUnmap { device, .. }
            | Self::CoherentAlloc { device, .. }
            | Self::CoherentFree { device, .. }
            | Self::Sync { device, .. }
            | Self::SyncSg { device, .. } => Some(device),
        }
    }

    /// Whether slots are taken or given back.
    pub const fn takes_slots(&self) -> bool {
        self.is_coherent() || matches!(self, Self::SlotMap { .. } | Self::SlotUnmap { .. })
    }

    /// Whether it is about coherent memory, which captures have in frames of its own.
    pub const fn is_coherent(&self) -> bool {
        matches!(self, Self::CoherentAlloc { .. } | Self::CoherentFree { .. })
    }

    /// The kind of record it was.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Kmalloc { .. } => Kind::Kmalloc,
            Self::Kfree { .. } => Kind::Kfree,
            Self::Map { .. } => Kind::Map,
            Self::Unmap { .. } => Kind::Unmap,
            Self::MapSg { .. } => Kind::MapSg,
            Self::UnmapSg { .. } => Kind::UnmapSg,
            Self::Link { .. } => Kind::Link,
            Self::Unlink { .. } => Kind::Unlink,
            Self::Bounced { .. } => Kind::Bounced,
            Self::SlotMap { .. } => Kind::SlotMap,
            Self::SlotUnmap { .. } => Kind::SlotUnmap,
            Self::CoherentAlloc { .. } => Kind::CoherentAlloc,
            Self::CoherentFree { .. } => Kind::CoherentFree,
            Self::Sync { .. } => Kind::Sync,
            Self::SyncSg { .. } => Kind::SyncSg,
        }
    }
}

/// One entry of a mapped scatterlist. `dma_addr` and `dma_len` are those of the n-th DMA segment that came out (valid
/// for the first `ents`), not of the n-th buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// `struct page *` of the buffer.
    pub page: u64,
    /// DMA address of the n-th DMA segment.
    pub dma_addr: u64,
    /// Offset of the buffer into the page.
    pub offset: u32,
    /// Length of the buffer.
    pub length: u32,
    /// Length of the n-th DMA segment.
    pub dma_len: u32,
    /// `dma_flags`, 0 where the kernel has none.
    pub dma_flags: u32,
    /// What the buffer lies in.
    pub memory: Memory,
}

/// What memory a buffer lies in, read from its page while it was mapped. The recorder looks it up for buffers below
/// [`tracer_ebpf::streamed::SMALL_BELOW`] that a non-coherent device writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Not looked up, or not known.
    #[default]
    Unknown,
    /// In pages that are no slab: those of the page allocator, or what was carved out of them.
    Pages,
    /// In an object of a slab cache, of kmalloc or not.
    Object {
        /// Number of the cache, from [`Memory::FIRST_CACHE`] to [`Memory::LAST_CACHE`]; as an address, that of the symbol with its name.
        cache: u16,
        /// From one object to the next (`kmem_cache.size`), bytes; not 0.
        size: u16,
        /// From the object's beginning to the buffer's, bytes; below `size`.
        offset: u16,
    },
}

impl Memory {
    /// The lowest number of a cache.
    pub const FIRST_CACHE: u16 = 2;
    /// The lowest number of a cache of kmalloc's.
    pub const FIRST_OF_KMALLOC: u16 = 2048;
    /// The highest. No code of a kernel lies so low.
    pub const LAST_CACHE: u16 = 4095;

    /// An object of these; unknown where there can be no such object.
    pub const fn object(cache: u16, size: u16, offset: u16) -> Self {
        if cache < Self::FIRST_CACHE || cache > Self::LAST_CACHE || offset >= size {
            return Self::Unknown;
        }
        Self::Object { cache, size, offset }
    }

    /// Whether this address names a cache, and no code.
    pub const fn is_cache(address: u64) -> bool {
        address >= Self::FIRST_CACHE as u64 && address <= Self::LAST_CACHE as u64
    }
}

/// Consecutive events, with the segments that their scatterlists name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The events, in the order of the ring.
    pub events: Vec<Event>,
    /// Segments of all [`What::MapSg`] in `events`.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// The recorded segments of `event`; empty for what is not a [`What::MapSg`] of this batch.
    pub fn segments(&self, event: &Event) -> &[Segment] {
        let What::MapSg { first_segment, segments, .. } = event.what else { return &[] };
        let first = first_segment as usize;
        self.segments.get(first..first + segments as usize).unwrap_or(&[])
    }

    /// Appends the events of another batch.
    pub fn append(&mut self, later: &Self) {
        let before = self.segments.len() as u32;
        self.segments.extend_from_slice(&later.segments);
        self.events.extend(later.events.iter().map(|event| {
            let mut event = *event;
            if let What::MapSg { first_segment, .. } = &mut event.what {
                *first_segment = first_segment.saturating_add(before);
            }
            event
        }));
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.segments.clear();
    }
}
