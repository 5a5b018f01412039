//! The records that the programs put into the ring, as laid out in memory: native endian, 8-byte aligned, no padding.
//!
//! Every record starts with a [`Header`] whose `kind` says what follows. Addresses are kernel virtual addresses unless
//! a field says physical or DMA; sizes are bytes; times are nanoseconds of `CLOCK_MONOTONIC`.

/// What a record is. The values are stable: captures and counters name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Device`]: a device described, before the first record that names it and again whenever it changed.
    Device = 0,
    /// [`Kmalloc`], from `kmem:kmalloc`.
    Kmalloc = 1,
    /// [`Kfree`], from `kmem:kfree`.
    Kfree = 2,
    /// [`Map`], from `dma:dma_map_page` (6.12 to 6.17) or `dma:dma_map_phys` (6.18 on), or from the return of
    /// `dma_map_page_attrs()` or `dma_map_phys()`.
    Map = 3,
    /// [`Unmap`], from `dma:dma_unmap_page` or `dma:dma_unmap_phys`, or from the entry of `dma_unmap_page_attrs()` or
    /// `dma_unmap_phys()`.
    Unmap = 4,
    /// [`MapSg`] with its [`Segment`]s, from `dma:dma_map_sg`, or from the return of `dma_map_sg_attrs()` or
    /// `dma_map_sgtable()`: for a mapping that failed the kernel has no event.
    MapSg = 5,
    /// [`UnmapSg`], from `dma:dma_unmap_sg`, or from the entry of `dma_unmap_sg_attrs()`.
    UnmapSg = 6,
    /// [`Bounced`], from `swiotlb:swiotlb_bounced`: an attempt, sent before a slot is looked for.
    Bounced = 7,
    /// [`SlotMap`], from the return of `swiotlb_tbl_map_single()`.
    SlotMap = 8,
    /// [`SlotUnmap`], from the entry of `swiotlb_tbl_unmap_single()` or `__swiotlb_tbl_unmap_single()`.
    SlotUnmap = 9,
    /// [`Sync`], from `dma:dma_sync_single_for_cpu` and `dma:dma_sync_single_for_device`.
    Sync = 10,
    /// [`SyncSg`], from `dma:dma_sync_sg_for_cpu` and `dma:dma_sync_sg_for_device`.
    SyncSg = 11,
    /// [`Map`], from the return of `dma_iova_link()`.
    Link = 12,
    /// [`Unmap`], from the entry of `dma_iova_unlink()` or `dma_iova_destroy()`: of a range, in which more than one buffer may have
    /// been linked.
    Unlink = 13,
    /// [`Cache`]: a slab cache described, before the first record that names it and again whenever another is at its place.
    Cache = 14,
    /// [`Coherent`], from the return of `swiotlb_alloc()`: coherent memory out of a restricted pool.
    CoherentAlloc = 15,
    /// [`Coherent`], from the entry of `swiotlb_free()`, for a device with a restricted pool.
    CoherentFree = 16,
}

impl Kind {
    /// Every kind, in the order of its value.
    pub const ALL: [Self; 17] = [
        Self::Device,
        Self::Kmalloc,
        Self::Kfree,
        Self::Map,
        Self::Unmap,
        Self::MapSg,
        Self::UnmapSg,
        Self::Bounced,
        Self::SlotMap,
        Self::SlotUnmap,
        Self::Sync,
        Self::SyncSg,
        Self::Link,
        Self::Unlink,
        Self::Cache,
        Self::CoherentAlloc,
        Self::CoherentFree,
    ];

    /// The kind's name in captures, counters and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Kmalloc => "kmalloc",
            Self::Kfree => "kfree",
            Self::Map => "map",
            Self::Unmap => "unmap",
            Self::MapSg => "map_sg",
            Self::UnmapSg => "unmap_sg",
            Self::Bounced => "bounced",
            Self::SlotMap => "slot_map",
            Self::SlotUnmap => "slot_unmap",
            Self::Sync => "sync",
            Self::SyncSg => "sync_sg",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Cache => "cache",
            Self::CoherentAlloc => "coherent_alloc",
            Self::CoherentFree => "coherent_free",
        }
    }
}

/// `DMA_MAPPING_ERROR`, and what `swiotlb_tbl_map_single()` returns when it found no slot.
pub const MAPPING_ERROR: u64 = u64::MAX;

/// What a physical address is put together with when only its offset into some page is known: no memory is up there.
pub const UNKNOWN_PHYS: u64 = 1 << 63;

/// Longest scatterlist that is recorded segment by segment; what is longer is truncated, and counted.
pub const MAX_SEGMENTS: usize = 256;

/// Return addresses recorded of a thread that maps a scatterlist: those of the program and the tracepoint, of the functions that map, and of
/// their caller.
pub const MAX_FRAMES: usize = 12;

/// Bytes kept of a device, driver or bus name, with its NUL.
pub const NAME_LEN: usize = 48;

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

record! {
    /// Who, when and where; starts every record.
    Header {
        /// `bpf_ktime_get_ns()`.
        time_ns: u64,
        /// Thread id of the task that was current, interrupt or not.
        task: u32,
        /// CPU number.
        cpu: u16,
        /// A [`Kind`].
        kind: u8,
        /// `enum dma_data_direction`, where the record has one; else 0.
        direction: u8,
    }
}

record! {
    /// `struct device`, as far as a mapping's fate depends on it.
    Device {
        /// Header.
        header: Header,
        /// `struct device *`; may be used again for another device after this one is gone.
        dev: u64,
        /// `*dev->dma_mask`; 0 when there is none.
        dma_mask: u64,
        /// `dev->bus_dma_limit`; 0 means no limit.
        bus_dma_limit: u64,
        /// `dev->iommu_group->domain->pgsize_bitmap`: its lowest bit is the IOMMU granule; 0 without IOMMU.
        iommu_pgsize_bitmap: u64,
        /// `dev->dma_io_tlb_mem`, which pool the device bounces through.
        pool: u64,
        /// `dev->dma_parms->min_align_mask`; 0 without `dma_parms`.
        min_align_mask: u32,
        /// Bits of [`device_flag`].
        flags: u32,
        /// `dev->dma_parms->segment_boundary_mask`; 0 where the driver set none.
        segment_boundary_mask: u64,
        /// `dev->dma_parms->max_segment_size`, bytes; 0 where the driver set none.
        max_segment_size: u64,
        /// Tells this description from others of the same device: a hash whose lowest [`device_flag::BITS`] bits are those of
        /// `flags` that decide about mappings.
        fingerprint: u64,
        /// `dev_name()`, NUL-terminated.
        name: [u8; NAME_LEN],
        /// `dev->driver->name`, NUL-terminated; empty without driver.
        driver: [u8; NAME_LEN],
        /// `dev->bus->name`, NUL-terminated; empty without bus.
        bus: [u8; NAME_LEN],
    }
}

/// Bits of [`Device::flags`].
pub mod device_flag {
    /// `dev_is_dma_coherent()`.
    pub const COHERENT: u32 = 1;
    /// The device maps through dma-iommu (`use_dma_iommu()`, or `dma_ops == &iommu_dma_ops`).
    pub const IOMMU: u32 = 2;
    /// `to_pci_dev(dev)->untrusted`.
    pub const UNTRUSTED: u32 = 4;
    /// The pool that the device uses has `force_bounce` set.
    pub const FORCE_BOUNCE: u32 = 8;
    /// The pool that the device uses has `for_alloc` set, which only restricted pools have.
    pub const RESTRICTED_POOL: u32 = 16;
    /// How many there are.
    pub const BITS: u32 = 5;
}

record! {
    /// `struct kmem_cache`, as far as it says where its objects lie.
    Cache {
        /// Header.
        header: Header,
        /// [`crate::memory::key`] of the address of the `struct kmem_cache`; may be that of another cache when this one is gone.
        key: u64,
        /// From one object to the next, bytes.
        size: u32,
        /// From the beginning of the slab to that of the first object, bytes: `red_left_pad`.
        left_pad: u32,
        /// Its name, NUL-terminated.
        name: [u8; NAME_LEN],
    }
}

record! {
    /// One kmalloc.
    Kmalloc {
        /// Header.
        header: Header,
        /// Return address of the caller.
        call_site: u64,
        /// The object.
        ptr: u64,
        /// Bytes asked for.
        bytes_req: u64,
        /// Bytes given.
        bytes_alloc: u64,
        /// `gfp_t`.
        gfp: u64,
    }
}

record! {
    /// One kfree, of an object of any slab cache.
    Kfree {
        /// Header.
        header: Header,
        /// Return address of the caller.
        call_site: u64,
        /// The object.
        ptr: u64,
    }
}

record! {
    /// One mapping of a single buffer, or one linked into a range of DMA addresses. The header's direction is its direction.
    Map {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// Physical address of the buffer; with [`UNKNOWN_PHYS`] in it, only its offset into some page.
        phys: u64,
        /// DMA address that the driver got; [`MAPPING_ERROR`] when the mapping failed.
        dma_addr: u64,
        /// Length, bytes.
        size: u64,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
        /// What it lies in ([`crate::memory`]); looked up only of small buffers that a non-coherent device writes.
        memory: u64,
    }
}

record! {
    /// One unmapping of a single buffer, or of a range into which buffers were linked.
    Unmap {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// DMA address.
        dma_addr: u64,
        /// Length, bytes.
        size: u64,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
    }
}

record! {
    /// One mapping of a scatterlist; `recorded` [`Segment`]s follow it.
    MapSg {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// `struct scatterlist *` of the first entry, which the unmapping names again.
        list: u64,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
        /// Segments that the caller asked to map.
        nents: u32,
        /// DMA segments that came out; 0 when the mapping failed.
        ents: u32,
        /// Segments that follow; fewer than `nents` when the list was longer than [`MAX_SEGMENTS`] or unreadable.
        recorded: u32,
        /// 1 where the record was made when the mapping function had returned: `stack` begins with its caller then.
        has_returned: u32,
        /// Return addresses, innermost first, from `bpf_get_stack()`; 0 behind the last.
        stack: [u64; MAX_FRAMES],
    }
}

record! {
    /// One entry of a mapped scatterlist. `dma_addr` and `dma_len` belong to the n-th DMA segment, not to the n-th buffer.
    Segment {
        /// `struct page *`: `page_link` without its two flag bits.
        page: u64,
        /// `dma_address`, valid in the first `ents` entries.
        dma_addr: u64,
        /// `offset` into the page, bytes.
        offset: u32,
        /// `length` of the buffer, bytes.
        length: u32,
        /// `dma_length`, bytes, valid in the first `ents` entries.
        dma_len: u32,
        /// `dma_flags`, where the kernel has them.
        dma_flags: u32,
        /// What the buffer lies in, as in [`Map`].
        memory: u64,
    }
}

record! {
    /// One unmapping of a scatterlist.
    UnmapSg {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// `struct scatterlist *` of the first entry.
        list: u64,
        /// `DMA_ATTR_*` bits.
        attrs: u64,
        /// Segments that were mapped.
        nents: u32,
        /// 0.
        reserved: u32,
    }
}

record! {
    /// One attempt to bounce.
    Bounced {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// DMA address that the buffer itself would have had (direct), or its physical address (IOMMU).
        dev_addr: u64,
        /// Length, bytes.
        size: u64,
    }
}

record! {
    /// One search for slots, and its result.
    SlotMap {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// Physical address of the buffer.
        phys: u64,
        /// Physical address in the pool; [`MAPPING_ERROR`] when none was found.
        slot: u64,
        /// Length that was mapped, bytes.
        size: u64,
        /// `alloc_align_mask`: granule - 1 behind an IOMMU, else 0.
        align_mask: u64,
        /// Times are taken at the return; this one at the entry.
        entry_ns: u64,
    }
}

record! {
    /// Slots given back.
    SlotUnmap {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// Physical address in the pool.
        slot: u64,
        /// Length that was mapped, bytes.
        size: u64,
    }
}

record! {
    /// Coherent memory taken out of a restricted pool, or given back to it.
    Coherent {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// Physical address of its first page, where the kernel's pages are known to lie; [`UNKNOWN_PHYS`] and a part of the address of
        /// its `struct page` otherwise; [`MAPPING_ERROR`] when the pool had no room.
        slot: u64,
        /// Length, bytes: whole pages.
        size: u64,
        /// When the function was entered; that of the header for memory given back.
        entry_ns: u64,
    }
}

record! {
    /// A single mapping, or part of one, handed over between CPU and device.
    Sync {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// DMA address of the part.
        dma_addr: u64,
        /// Length of the part, bytes.
        size: u64,
        /// 1 to the device, 0 to the CPU.
        for_device: u64,
    }
}

record! {
    /// A scatterlist handed over between CPU and device.
    SyncSg {
        /// Header.
        header: Header,
        /// `struct device *`.
        dev: u64,
        /// `struct scatterlist *` of the first entry.
        list: u64,
        /// Segments of the list.
        nents: u32,
        /// 1 to the device, 0 to the CPU.
        for_device: u32,
    }
}
