//! Coherent memory: the atomic pools, CMA and what devices reach of it. None of it is bounced, and no `swiotlb=` changes it.
//!
//! Mirrors `kernel/dma/pool.c`, `kernel/dma/coherent.c`, `kernel/dma/contiguous.c`, and `swiotlb_alloc_coherent()` of 4.x (`lib/swiotlb.c`).

use super::words::{LARGEST, amount};
use super::{Kind, Said};

/// "DMA pool exhausted for %s": `dma_alloc_from_pool()`.
pub(super) fn atomic_exhausted() -> Said {
    Said::new(Kind::AtomicPool)
        .means(
            "The pool for coherent memory that is allocated in atomic context is exhausted. It is another pool than that of the bounce buffers: a driver \
             asked for coherent memory where it may not sleep.",
        )
        .helps(
            "Make it larger: coherent_pool=1M (or more) on the command line. It grows in the background; a sudden \
             burst may still find it empty.",
        )
        .helps("Or change the driver: allocate during setup (GFP_KERNEL), or from a dma_pool.")
}

/// "Failed to get suitable pool for %s".
pub(super) fn atomic_unsuitable() -> Said {
    Said::new(Kind::AtomicPool)
        .means(
            "Coherent memory was wanted in atomic context, and no atomic pool lies where this device reaches it: the pool for its zone could not be made at boot, \
             or the kernel has no such zone.",
        )
        .helps("Look for \"failed to allocate … pool for atomic allocation\" at boot, at the device's coherent mask, and at CONFIG_ZONE_DMA; its size (coherent_pool=) alone does not help.")
}

/// "failed to allocate %zu KiB … pool for atomic allocation".
pub(super) fn atomic_not_made() -> Said {
    Said::new(Kind::AtomicPool)
        .means("A pool for coherent memory in atomic context could not be made in its zone. Drivers that allocate coherent memory where they may not sleep will fail.")
        .helps("Free memory in that zone (crashkernel=, cma=, reserved-memory), or ask for less: coherent_pool=.")
}

/// "swiotlb: coherent allocation failed for device %s size=%zu", 4.x.
pub(super) fn failed(size: Option<u64>) -> Said {
    let said = Said::new(Kind::CoherentMemory);
    let said = match size {
        Some(size) => said.of_size(size).means(format!(
            "{} of coherent memory could not be allocated for this device.{}",
            amount(size),
            if size > LARGEST {
                " The bounce buffers give no more than 256 KiB in one piece, however large they are."
            } else {
                ""
            }
        )),
        None => said.means("No coherent memory could be allocated for this device."),
    };
    said.means("The kernel looked in the pool last, after pages and CMA that the device's coherent mask reaches; the pool is not what is missing.")
        .helps(
            "Make CMA large enough (cma= or a reserved-memory node), or set a coherent mask that reaches more memory \
             (dma_set_mask_and_coherent()).",
        )
        .helps("Or allocate smaller pieces: the driver may not need one large piece.")
}

/// "dma alloc of size %lu failed": `vb2_dc_alloc()` (`drivers/media/common/videobuf2/videobuf2-dma-contig.c`).
pub(super) fn driver_failed(size: u64) -> Said {
    Said::new(Kind::CoherentMemory)
        .of_size(size)
        .means(format!(
            "{} of coherent memory could not be allocated for this device. It comes from pages and CMA that the device's coherent mask reaches, or, behind \
             an IOMMU, from any pages. It is never bounced: no swiotlb= changes it.",
            amount(size)
        ))
        .helps(
            "Make CMA large enough (cma= or a reserved-memory node), or set a coherent mask that reaches more memory \
             (dma_set_mask_and_coherent()).",
        )
        .helps("Or ask for fewer or smaller buffers.")
}

/// `hwdev DMA mask = …, dev_addr = …` (4.x), "reserved memory is beyond device's set DMA address range".
pub(super) fn out_of_reach() -> Said {
    Said::new(Kind::CoherentMemory)
        .means("Coherent memory that was found for this device lies beyond its coherent mask or its bus limit. Coherent memory is never bounced.")
        .helps(
            "Change the device's mask (dma_set_mask_and_coherent()), or where the memory lies: its node in \
             reserved-memory, or CMA below the mask (cma=SIZE@START-END).",
        )
}

/// `cma_alloc: …: alloc failed, req-size: …`.
pub(super) fn cma() -> Said {
    Said::new(Kind::CoherentMemory)
        .means(
            "CMA could not provide contiguous memory. The message is not about bounce buffers: no swiotlb= changes it.",
        )
        .helps(
            "Use a larger area (cma=), or smaller or earlier allocations; pages that cannot be moved (pinned, GUP) \
             fragment it.",
        )
}

/// "coherent DMA allocations not supported on this platform": `dma_direct_alloc()` of `kernel/dma/direct.c`, 5.16 on.
pub(super) fn unsupported() -> Said {
    Said::new(Kind::CoherentMemory)
        .means(
            "This platform cannot map memory uncached, so a non-coherent device gets no coherent memory. The pool has \
             nothing to do with it.",
        )
        .helps(
            "If the device is coherent, the firmware must say so (dma-coherent). If it is not, the kernel needs the \
             platform's support for it (on riscv, Svpbmt or a vendor's extension), or a shared-dma-pool in the device tree.",
        )
}
