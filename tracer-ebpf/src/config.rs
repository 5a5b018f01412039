//! What user space tells the programs when it loads them: where the running kernel keeps things, and what to stream.
//!
//! Resolved from the running kernel's BTF; the programs themselves know no kernel version.

use crate::decide::Decider;

/// A field that this kernel does not have, or that could not be resolved.
pub const NONE: u32 = u32::MAX;

/// One bit in a kernel structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Bit {
    /// Byte offset, or [`NONE`].
    pub offset: u32,
    /// Bit in that byte, 0 the lowest.
    pub shift: u32,
}

impl Bit {
    /// A bit that this kernel does not have.
    pub const NONE: Self = Self { offset: NONE, shift: 0 };
}

/// Offsets in `struct device` and what hangs off it, bytes; [`NONE`] where the kernel has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct DeviceLayout {
    /// `device.init_name`.
    pub init_name: u32,
    /// `device.kobj.name`.
    pub kobj_name: u32,
    /// `device.driver`.
    pub driver: u32,
    /// `device_driver.name`.
    pub driver_name: u32,
    /// `device.bus`.
    pub bus: u32,
    /// `bus_type.name`.
    pub bus_name: u32,
    /// `device.dma_mask`.
    pub dma_mask: u32,
    /// `device.bus_dma_limit`.
    pub bus_dma_limit: u32,
    /// `device.dma_parms`.
    pub dma_parms: u32,
    /// `device_dma_parameters.min_align_mask`.
    pub min_align_mask: u32,
    /// `device_dma_parameters.max_segment_size`.
    pub max_segment_size: u32,
    /// `device_dma_parameters.segment_boundary_mask`.
    pub segment_boundary_mask: u32,
    /// `device.iommu_group`.
    pub iommu_group: u32,
    /// `iommu_group.domain`.
    pub group_domain: u32,
    /// `iommu_domain.pgsize_bitmap`.
    pub pgsize_bitmap: u32,
    /// `device.dma_io_tlb_mem`.
    pub pool: u32,
    /// `device.dma_ops`, only where there is no flag for dma-iommu.
    pub dma_ops: u32,
    /// `io_tlb_mem.force_bounce`.
    pub force_bounce: u32,
    /// `io_tlb_mem.for_alloc`.
    pub for_alloc: u32,
    /// 0.
    pub reserved: u32,
    /// Coherent: a bit of `device`.
    pub coherent: Bit,
    /// Maps through dma-iommu: a bit of `device`.
    pub iommu: Bit,
    /// `pci_dev.untrusted`, with its offset counted from `pci_dev.dev` (wrapping, as an `i32`).
    pub untrusted: Bit,
}

/// Offsets in `struct scatterlist`, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ScatterlistLayout {
    /// `sizeof(struct scatterlist)`: the stride of a list.
    pub size: u32,
    /// `page_link`.
    pub page_link: u32,
    /// `offset`.
    pub offset: u32,
    /// `length`.
    pub length: u32,
    /// `dma_address`.
    pub dma_address: u32,
    /// `dma_length`, or [`NONE`].
    pub dma_length: u32,
    /// `dma_flags`, or [`NONE`].
    pub dma_flags: u32,
    /// `sg_table.sgl`.
    pub table_sgl: u32,
    /// `sg_table.orig_nents`.
    pub table_orig_nents: u32,
    /// `sg_table.nents`.
    pub table_nents: u32,
}

/// From a `struct page *` to the physical address of its page, with `CONFIG_SPARSEMEM_VMEMMAP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct PageLayout {
    /// Where the page of physical address 0 is, or would be, described (`vmemmap`); 0 when not known.
    pub vmemmap: u64,
    /// `sizeof(struct page)`; 0 when not known.
    pub struct_size: u32,
    /// `PAGE_SHIFT`.
    pub shift: u32,
}

/// From a `struct page *` to the slab cache that its memory belongs to; offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct SlabLayout {
    /// `slab.slab_cache`, before 5.17 `page.slab_cache`; [`NONE`] when not everything here is known, and then nothing is looked up.
    pub cache: u32,
    /// `page.compound_head`, or `page.compound_info`.
    pub compound: u32,
    /// Where a page says that it is a slab's: `page.flags`, or from 6.10 on `page.page_type`.
    pub mark: u32,
    /// Which bits there say so.
    pub mark_mask: u32,
    /// What they are then.
    pub mark_value: u32,
    /// `kmem_cache.name`.
    pub name: u32,
    /// `kmem_cache.size`.
    pub size: u32,
    /// `kmem_cache.red_left_pad`.
    pub left_pad: u32,
}

impl SlabLayout {
    /// Nothing is known.
    pub const NONE: Self = Self {
        cache: NONE,
        compound: NONE,
        mark: NONE,
        mark_mask: 0,
        mark_value: 0,
        name: NONE,
        size: NONE,
        left_pad: NONE,
    };
}

/// Positions of the arguments of the pool's functions, counted from 0; [`NONE`] where there is no such argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct PoolArguments {
    /// `swiotlb_tbl_map_single()`: the alignment mask.
    pub map_align_mask: u32,
    /// `swiotlb_tbl_map_single()`: the direction.
    pub map_direction: u32,
    /// `swiotlb_tbl_unmap_single()`: the direction.
    pub unmap_direction: u32,
    /// 0.
    pub reserved: u32,
}

/// Everything at once: the global `CONFIG` of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Config {
    /// `struct device`.
    pub device: DeviceLayout,
    /// `struct scatterlist`.
    pub scatterlist: ScatterlistLayout,
    /// The pool's functions.
    pub pool: PoolArguments,
    /// `struct page`.
    pub pages: PageLayout,
    /// Slabs.
    pub slab: SlabLayout,
    /// The running kernel's decider, for the programs' own count of predicted bounces.
    pub decider: Decider,
    /// Address of `iommu_dma_ops`, only where there is no flag for dma-iommu; else 0.
    pub iommu_dma_ops: u64,
    /// Stream an allocation and its kfree when `hash(ptr) & sample_mask == 0`; 0 streams all, `u64::MAX` none.
    pub sample_mask: u64,
    /// Unread bytes in the ring of all that is no object from which on its reader is woken; at least 1.
    pub wake_at: u32,
    /// The same in a ring of objects.
    pub wake_at_objects: u32,
    /// Send the programs' debug messages through aya-log.
    pub log: u32,
    /// Which mappings to send: [`crate::streamed::Streamed`].
    pub streamed: u32,
    /// Slots of a ring of [`crate::object_ring`] for kmalloc, as the logarithm to base 2; 0 where objects go through rings of the kernel's.
    pub object_slots_log2: u32,
    /// 0.
    pub reserved: u32,
}

impl Config {
    /// Nothing resolved: what the programs carry until user space overrides it.
    pub const EMPTY: Self = Self {
        device: DeviceLayout {
            init_name: NONE,
            kobj_name: NONE,
            driver: NONE,
            driver_name: NONE,
            bus: NONE,
            bus_name: NONE,
            dma_mask: NONE,
            bus_dma_limit: NONE,
            dma_parms: NONE,
            min_align_mask: NONE,
            max_segment_size: NONE,
            segment_boundary_mask: NONE,
            iommu_group: NONE,
            group_domain: NONE,
            pgsize_bitmap: NONE,
            pool: NONE,
            dma_ops: NONE,
            force_bounce: NONE,
            for_alloc: NONE,
            reserved: 0,
            coherent: Bit::NONE,
            iommu: Bit::NONE,
            untrusted: Bit::NONE,
        },
        scatterlist: ScatterlistLayout {
            size: 0,
            page_link: NONE,
            offset: NONE,
            length: NONE,
            dma_address: NONE,
            dma_length: NONE,
            dma_flags: NONE,
            table_sgl: NONE,
            table_orig_nents: NONE,
            table_nents: NONE,
        },
        pool: PoolArguments { map_align_mask: NONE, map_direction: NONE, unmap_direction: NONE, reserved: 0 },
        pages: PageLayout { vmemmap: 0, struct_size: 0, shift: 12 },
        slab: SlabLayout::NONE,
        decider: Decider { bounce_unaligned: 0, cache_line_size: 0, minalign: 8, dma_minalign: 128 },
        iommu_dma_ops: 0,
        sample_mask: u64::MAX,
        wake_at: 1,
        wake_at_objects: 1,
        log: 0,
        streamed: 0,
        object_slots_log2: 0,
        reserved: 0,
    };
}
