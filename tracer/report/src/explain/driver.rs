//! Mistakes of drivers: memory that may not be mapped, syncs beyond a mapping, missing masks, what `CONFIG_DMA_API_DEBUG` finds; and oopses on
//! the pool's path.
//!
//! Mirrors `dma_map_single_attrs()` (`include/linux/dma-mapping.h`), `kernel/dma/debug.c`, `swiotlb_bounce()` and `swiotlb_alloc()`
//! (`kernel/dma/swiotlb.c`).

use super::message::{DebugCheck, Message};
use super::{Context, Kind, Said};

/// "rejecting DMA map of vmalloc memory".
pub(super) fn vmalloc() -> Said {
    Said::new(Kind::Vmalloc)
        .means(
            "The driver maps vmalloc memory (or a stack, which is vmalloc memory too) with dma_map_single(). The \
             kernel refused the mapping before it considered bouncing; the pool has nothing to do with it.",
        )
        .helps(
            "Change the driver: map a buffer from kmalloc(), or each page of the vmalloc area separately \
             (vmalloc_to_page(), dma_map_page()).",
        )
}

/// `dev->dma_mask` is not set.
pub(super) fn no_mask() -> Said {
    Said::new(Kind::NoMask)
        .means("The device has no DMA mask, so nothing can be mapped for it, neither directly nor through the pool.")
        .helps(
            "The driver must set one before it maps (dma_set_mask_and_coherent()); for a child device, the driver \
             may have to map with the parent device that does the DMA.",
        )
        .helps("A platform device gets one from its bus when it is made from the device tree or ACPI; one that a driver makes itself has none.")
}

/// "coherent DMA mask is unset".
pub(super) fn no_coherent_mask() -> Said {
    Said::new(Kind::NoMask)
        .means("The device has no coherent DMA mask, so it gets no coherent memory. Coherent memory is never bounced: the pool has nothing to do with it.")
        .helps(
            "The driver must set one before it allocates: dma_set_mask_and_coherent(), or dma_coerce_mask_and_coherent() for a \
             device that the driver makes itself.",
        )
}

/// What drivers print when `dma_set_mask()` fails: `dma_set_mask()` (`kernel/dma/mapping.c`), `dma_direct_supported()` (`kernel/dma/direct.c`).
pub(super) fn mask_refused() -> Said {
    Said::new(Kind::MaskRefused)
        .means(
            "The kernel refused the DMA mask that the driver wants. Unless the driver then takes another one, the device cannot be used. That is \
             decided before anything is mapped: neither the pool nor its size matters.",
        )
        .means(
            "Without an IOMMU, kernels from 5.6 on accept all masks of 32 bits and more. So either the device has no place for a mask \
             (dev->dma_mask is not set, as for a device that a driver makes itself), or the mask is narrower than 32 bits and \
             does not cover the zone for DMA.",
        )
        .helps("For a device that the driver makes itself: dma_coerce_mask_and_coherent(), or map with the parent device that does the DMA.")
        .helps("For a narrow mask: a kernel with CONFIG_ZONE_DMA, whose zone the mask covers.")
        .unknown("The mask: it is in the driver's source.")
}

/// "transfer buffer is on stack", "transfer buffer not dma capable".
pub(super) fn usb_buffer(stack: bool) -> Said {
    let (kind, what) = if stack {
        (Kind::Stack, "lies on the stack of the driver that sends it")
    } else {
        (Kind::Vmalloc, "is vmalloc memory, which a stack is too")
    };
    Said::new(kind)
        .means(format!(
            "The buffer of a USB transfer {what}. USB's core refuses it before it is mapped; the pool has nothing to do with it."
        ))
        .helps("Change the driver: give the transfer a buffer from kmalloc(). The call trace below usb_submit_urb() names it.")
}

/// A driver's own words that a mapping failed. `None` where the same boot says why one fails.
pub(super) fn map_failed(context: Context<'_>) -> Option<Said> {
    let says_why = |message: &Message| {
        matches!(
            message,
            Message::Full { .. }
                | Message::FullWithoutFill { .. }
                | Message::FullWithoutFigures
                | Message::Overflow(_)
                | Message::OldOverflow(_)
                | Message::PoolOverflow(_)
                | Message::IommuInactive
                | Message::IommuGranule
                | Message::IommuFull
                | Message::NoPoolEarlier
                | Message::Vmalloc
                | Message::NoMask
                | Message::MappingWarning { .. }
        )
    };
    if context.has(says_why) {
        return None;
    }
    Some(
        Said::new(Kind::MapFailed)
            .means(
                "A driver says that a mapping failed. Why, only the kernel's own line says, and this log has none: a full pool is \
                 \"swiotlb buffer is full\", memory out of reach is \"DMA addr … overflow\", which is printed once per boot.",
            )
            .means("Without such a line in the whole log, it may be an IOMMU without free addresses, or a driver that asked for silence (DMA_ATTR_NO_WARN).")
            .helps("Look for the line from the boot on: dmesg | bouncescope explain, or journalctl -k -b where the ring buffer has lost it.")
            .helps("`bouncescope record` while it happens shows which mappings fail, of which device and length.")
            .unknown("Why it failed: paste all of the log."),
    )
}

/// An oops in `arch_sync_dma_for_device()` or `arch_sync_dma_for_cpu()` (`arch/arm64/mm/dma-mapping.c`).
pub(super) fn maintenance_oops() -> Said {
    Said::new(Kind::Oops)
        .means(
            "This is an interpretation of the trace, not a proof: the kernel failed when it cleaned or invalidated the cache of a buffer that is \
             mapped for a device. It does that by the buffer's address in the linear map, and this one has none there. Nothing was bounced.",
        )
        .means("The driver mapped memory that is not the kernel's: a carveout (reserved-memory with no-map), device memory, or an address that was never one.")
        .helps("Map device memory with dma_map_resource(). A carveout that is the device's own needs no mapping: its physical address is what the device gets.")
        .helps("CONFIG_DMA_API_DEBUG=y names the caller (\"maps memory from invalid area\").")
}

/// A warning of `kernel/dma/mapping.c` that has no words.
pub(super) fn mapping_warning(coherent: bool) -> Said {
    let said = Said::new(Kind::NoMask);
    let said = if coherent {
        said.means("The kernel warns in dma_alloc_attrs(): most likely the device has no coherent DMA mask; with a mask, the flags of the allocation are not allowed (__GFP_COMP).")
    } else {
        said.means(
            "The kernel warns in a function that maps: most likely the device has no DMA mask, so nothing can be \
             mapped for it, neither directly nor through the pool.",
        )
    };
    said.helps(
        "The driver must set one first (dma_set_mask_and_coherent()), or map with the parent device that does the DMA.",
    )
    .unknown(
        "The device and the caller: the call trace after the warning names them; the line in mapping.c says \
             which check it was.",
    )
}

/// "Buffer overflow detected. Allocation size: %zu. Mapping size: %zu."
pub(super) fn beyond_mapping(held: Option<u64>, wanted: Option<u64>) -> Said {
    let figures = match (held, wanted) {
        (Some(held), Some(wanted)) => format!(" ({wanted} bytes wanted, {held} mapped)"),
        _ => String::new(),
    };
    Said::new(Kind::BeyondMapping)
        .means(format!(
            "A sync or unmap of a bounced buffer is longer than its mapping, or begins outside it{figures}. The \
             kernel copies no more than was mapped, so the data after it is missing; without a bounce the same \
             mistake goes unnoticed."
        ))
        .means("It is a bug of the driver (or of what hands it lengths), not of the pool.")
        .helps("Compare the length of the driver's sync or unmap with that of its map; the call trace names it, CONFIG_DMA_API_DEBUG=y checks all.")
}

/// "Alloc alignment may prevent fulfilling requests with max `mapping_size`".
pub(super) fn alignment_warning() -> Said {
    Said::new(Kind::Alignment)
        .means(
            "A mapping asks for an alignment beyond a page (an IOMMU's granule larger than the page). The first \
             slots of a segment may then not be usable, and mappings near 256 KiB always fail. This is a warning; \
             nothing has failed yet.",
        )
        .helps(
            "Use an IOMMU granule of the page size, or shorter mappings (dma_max_mapping_size()); the pool's size \
             does not matter.",
        )
}

/// "Cannot allocate pages from non page-aligned swiotlb addr": `swiotlb_alloc()`.
pub(super) fn unaligned_pages(context: Context<'_>) -> Said {
    let said = Said::new(Kind::Alignment).means(
        "Coherent memory from a restricted pool must consist of whole pages, but the slots found do not begin at a \
         page. The kernel's search did not keep the alignment, and refused rather than hand out half a page twice.",
    );
    let fixed = "04867a7a3332 (6.9, 6.8.3, 6.7.12, 6.6.24)";
    match context.machine.release_name() {
        Some(release) => said.helps(format!("Update the kernel ({release}): {fixed} fixed the search.")),
        None => said
            .helps(format!("Update the kernel: {fixed} fixed the search."))
            .unknown("The release: paste the kernel's first lines."),
    }
}

/// A check of `kernel/dma/debug.c`.
pub(super) fn debug(context: Context<'_>, check: DebugCheck) -> Said {
    let said = |kind: Kind, means: &str, helps: &str| {
        Said::new(kind).means(format!("A check of CONFIG_DMA_API_DEBUG: {means}")).helps(helps)
    };
    match check {
        DebugCheck::Overlap | DebugCheck::OverlapCounter => overlap(context, check),
        DebugCheck::Stack => said(
            Kind::Stack,
            "the driver maps a buffer on its stack. That is a bug: the stack may lie in vmalloc memory, and shares cache lines with what the CPU writes.",
            "Use a buffer from kmalloc() in the driver.",
        ),
        DebugCheck::Vmalloc => said(
            Kind::Vmalloc,
            "the driver maps vmalloc memory.",
            "Map a buffer from kmalloc(), or page by page (vmalloc_to_page()).",
        ),
        DebugCheck::Text => said(
            Kind::DmaDebug,
            "the driver maps the kernel's text or constants, such as a static const buffer. Bouncing hides it, a direct mapping may fault.",
            "Copy the constant into a buffer from kmalloc() before mapping.",
        ),
        DebugCheck::InvalidArea => said(
            Kind::DmaDebug,
            "the driver maps an address that is not in the kernel's linear map.",
            "Look where the pointer comes from; the call trace names the caller.",
        ),
        DebugCheck::MapErrorNotChecked => said(
            Kind::DmaDebug,
            "the driver maps, but does not check whether the mapping failed. With a full or missing pool, it would \
             hand the error value to the device.",
            "Call dma_mapping_error() after each mapping in the driver.",
        ),
        DebugCheck::Pending => said(
            Kind::DmaDebug,
            "the driver was unbound and still holds mappings: a leak. Bounced ones keep their slots for ever, and fill the pool.",
            "Unmap in the driver's remove path; the lines that follow list what was mapped, and where (\"Mapped at\").",
        ),
        DebugCheck::WrongFree => said(
            Kind::DmaDebug,
            "the driver unmaps with another size, function, direction or address than it mapped with. If the buffer \
             was bounced, the wrong part is copied back.",
            "Unmap with the arguments of the map; \"Mapped at\" shows where that was.",
        ),
        DebugCheck::NotAllocated => said(
            Kind::DmaDebug,
            "the driver unmaps or syncs a buffer that is not mapped: it was unmapped before, or never mapped.",
            "Look for the second unmap, or for a failed map that was not noticed.",
        ),
        DebugCheck::SegmentTooLong => said(
            Kind::DmaDebug,
            "an element of a scatterlist is longer than the device says it supports. Nothing failed: the limit is \
             what the driver declared, or 64 KiB by default.",
            "Call dma_set_max_seg_size() in the driver with what the hardware can handle.",
        ),
        DebugCheck::SegmentBoundary => said(
            Kind::DmaDebug,
            "an element of a scatterlist crosses a boundary that the device says it cannot cross, 4 GiB where it says nothing.",
            "Call dma_set_seg_boundary() in the driver with what the hardware can handle.",
        ),
        DebugCheck::OutOfMemory => said(
            Kind::DmaDebug,
            "it ran out of entries and switched itself off. Nothing is wrong with DMA; nothing is checked any more either.",
            "Allow more entries: dma_debug_entries= on the command line.",
        ),
        DebugCheck::Touched => said(
            Kind::DmaDebug,
            "the CPU copied a page, as after fork(), that was mapped for a device at that time. A check of kernels before 5.9, \
             which dropped it because it was often wrong.",
            "If data is damaged: pin pages that a device writes, and keep them from being copied (madvise(MADV_DONTFORK)). Otherwise ignore it.",
        ),
        DebugCheck::Other => said(
            Kind::DmaDebug,
            "the driver uses the DMA API wrongly, as the line says.",
            "See Documentation/core-api/dma-api.rst, and the call trace after the line.",
        ),
    }
}

/// "cacheline tracking EEXIST" and "exceeded %d overlapping mappings": false where small buffers bounce, since the mapped line is another one.
fn overlap(context: Context<'_>, check: DebugCheck) -> Said {
    let what = if check == DebugCheck::Overlap {
        "two mappings that a device writes to lie in one cache line, so what the CPU does with one may corrupt the \
         other."
    } else {
        "one cache line was mapped more often at a time than the check can count. The driver maps the same buffer again and again without unmapping it, or many small ones share a line."
    };
    let said =
        Said::new(Kind::DmaDebug).means(format!("A check of CONFIG_DMA_API_DEBUG, not an error of a mapping: {what}"));
    // The commit is in 6.12.56; which other releases took it is not gone into here.
    let silenced =
        check == DebugCheck::Overlap && matches!(context.machine.release, Some((6, 12, patch)) if patch >= 56);
    let said = match (context.machine.is_at_least(6, 5), silenced) {
        (Some(false), _) => {
            said.means("Before 6.5, small kmalloc objects never share a line on arm64, so this is a real overlap.")
        }
        (_, true) => said.means(
            "This kernel does not report overlaps where a pool bounces small buffers (commit 03521c892bb8). So \
             either the overlap is real, or this device has no pool.",
        ),
        (_, false) => said.means(
            "From 6.5 on, the report can be wrong on arm64: kmalloc places small objects next to each other there, \
             and such mappings bounce to lines of their own. Newer kernels do not report overlaps (EEXIST) where a \
             pool does that: commit 03521c892bb8, in stable from 6.12.56.",
        ),
    };
    said.helps(
        "If the overlap is real, give each buffer that a device writes its own kmalloc() object, or unmap before \
         mapping again.",
    )
    .unknown("Whether both mappings were small (up to 96 bytes with lines of 64) and bounced: `bouncescope record` shows it buffer by buffer.")
}

/// Rockchip's RGA: `RGA_MMU unsupported memory larger than 4G!`.
pub(super) fn rga() -> Said {
    Said::new(Kind::VendorLimit)
        .means(
            "Rockchip's RGA2 engine has an MMU of 32 bits and refuses buffers above 4 GiB itself; nothing is bounced \
             for it. The message comes from the vendor's driver, not from the bounce buffers, and no swiotlb= \
             changes it.",
        )
        .helps(
            "Use buffers from a DMA heap or allocator below 4 GiB (the vendor's cma or dma32 heap), or move the work \
             to the cores with an IOMMU (RGA3).",
        )
}

/// KASAN's or KFENCE's report of the copy between a buffer and its slot.
pub(super) fn copy_beyond_memory() -> Said {
    Said::new(Kind::Oops)
        .means(
            "KASAN or KFENCE found that the copy between a buffer and its slot (swiotlb_bounce()) touches memory that \
             does not belong to the buffer. The pool is only the messenger: it copies as many bytes as the driver mapped.",
        )
        .means(
            "Out of bounds: the driver mapped more than it allocated. After free: it freed the buffer while it was \
             mapped. Without a bounce, the device would touch that memory unnoticed.",
        )
        .helps(
            "Fix the driver: map no more than the buffer has, and unmap before freeing. The caller above swiotlb in the \
             trace is the driver; \"Allocated by\" and \"Freed by\" below it say whose memory it is.",
        )
}

/// An oops whose trace is on the pool's path.
pub(super) fn oops(context: Context<'_>, copy: bool, abort: bool, lockup: bool) -> Said {
    let said = Said::new(Kind::Oops);
    // `slots_checked` in swiotlb_do_find_slots() and, from 6.6 on, swiotlb_search_pool_area().
    if lockup && context.machine.is_at_least(6, 3) == Some(true) {
        return said
            .means(
                "This is an interpretation of the trace, not a proof: a CPU spent its time in the search for slots. \
                 The known endless search is fixed in this kernel (commit 7c3940bf81e5, in 6.3). What remains is a \
                 nearly full pool that many CPUs search at once, each with interrupts off.",
            )
            .helps(
                "See whether the pool is nearly full (\"swiotlb buffer is full\" lines, `bouncescope stats`). If it is, \
                 make devices bounce less, or the pool larger.",
            )
            .unknown("How full the pool was, and whether other CPUs were searching too: the traces of all CPUs.");
    }
    if lockup {
        return said
            .means(
                "This is an interpretation of the trace, not a proof: a CPU spent its time in the search for slots. \
                 With a nearly full pool and min_align_mask (NVMe) the search of some kernels never ended; commit \
                 7c3940bf81e5 (\"swiotlb: fix the deadlock in swiotlb_do_find_slots\", in 6.3) fixed that.",
            )
            .helps("Update the kernel to one with that commit; a larger pool makes it rarer.")
            .unknown("How full the pool was: \"swiotlb buffer is full\" lines around it.");
    }
    if !copy {
        return said
            .means(
                "This is an interpretation of the trace, not a proof: the kernel failed inside the pool's own \
                 functions. Their data was damaged, or they were called with an address that is not a slot.",
            )
            .helps("Look for a driver that unmaps twice or with a wrong address (CONFIG_DMA_API_DEBUG=y), then for memory corruption (KASAN).")
            .unknown("The registers, and the first oops of the boot: later oopses may only follow from it.");
    }
    let said = said.means(
        "This is an interpretation of the trace, not a proof: the copy between a buffer and its slot \
         (swiotlb_bounce()) touched an address that the CPU could not access. The pool is only the messenger: the \
         address is that of the driver's buffer, or of the pool's memory.",
    );
    let said = if abort {
        said.means(
            "An external abort comes from the bus: the page tables map the address, but the memory there refused the \
             access. The firmware has reserved or secured this memory, or it does not exist.",
        )
    } else {
        said.means(
            "A page fault means an address without a mapping: a buffer that was freed, that is not in the linear map \
             (a stack, vmalloc or device memory put through virt_to_phys()), or that lies in memory removed from it.",
        )
    };
    said.helps(
        "Compare the memory map with what firmware says: regions that it keeps for itself belong in reserved-memory \
         with no-map.",
    )
    .helps("Find out what the caller above swiotlb in the trace maps; CONFIG_DMA_API_DEBUG=y checks that it is memory.")
    .unknown("The physical address: \"Unable to handle … at virtual address\", the kernel's memory ranges, and what lies there.")
}
