//! Messages from behind an IOMMU. Mirrors `iommu_dma_map_page()` / `iommu_dma_map_phys()` and `__iommu_dma_map()`
//! (`drivers/iommu/dma-iommu.c`), and `__arm_lpae_alloc_pages()` (`drivers/iommu/io-pgtable-arm.c`), 5.10 to 7.3.

use super::boot::{no_pool, with_no_pool_remedies};
use super::{Context, Kind, Said};

/// "DMA bounce buffers are inactive, unable to map unaligned transaction".
pub(super) fn inactive(context: Context<'_>) -> Said {
    let said = Said::new(Kind::IommuWithoutPool)
        .means(format!(
            "Behind the IOMMU a buffer that is not made of whole granules had to bounce, and there is no pool ({}). The mapping \
             failed, others like it fail silently: the message comes once per boot.",
            no_pool(context.machine).why
        ))
        .means(
            "It had to bounce because the device is an untrusted PCI device (a port marked external: every partial page bounces), or, \
             since 6.5, because a non-coherent device writes to a buffer so short that it may be a small kmalloc object (with \
             lines of 64 bytes: 1-32 and 65-96 bytes).",
        );
    let said = match context.machine.is_at_least(6, 5) {
        Some(false) => said.means("The release in this log is older than 6.5: there it is the untrusted device."),
        _ => said,
    };
    let said = match context.machine.release {
        Some((6, 18..=19, _) | (7, 0..=1, _)) => said.means(
            "On 6.18 and 6.19 a short register (MMIO) on a non-coherent device fails the same way; 7.2 tests for MMIO first.",
        ),
        _ => said,
    };
    with_no_pool_remedies(said, context.machine)
        .helps("Each such bounce takes one granule of a pool: 2, 8 or 32 slots with pages of 4, 16 or 64 KiB.")
        .helps(
            "For an untrusted device that is in fact trusted, change the firmware's ExternalFacingPort. Pass-through (iommu=pt, \
             iommu.passthrough=1) does not apply to untrusted devices.",
        )
}

/// "Cannot accommodate DMA translation for IOMMU page tables".
pub(super) fn tables(context: Context<'_>) -> Said {
    let forced = context.machine.asks_for("swiotlb", "force");
    let because = if forced { "this kernel was booted with swiotlb=force" } else { "swiotlb=force does that" };

    Said::new(Kind::IommuTables)
        .means(format!(
            "The IOMMU's own page tables are mapped for DMA too, and must keep their physical address. Here the mapping gave another \
             one: the table was bounced ({because}), lies beyond the IOMMU's DMA mask, or the bus shifts addresses (dma-ranges)."
        ))
        .means("The domain cannot be set up; errors of the devices behind this IOMMU follow from it.")
        .helps(
            "Boot without swiotlb=force. Otherwise look at the IOMMU node's dma-ranges and at its DMA mask; the \
             pool's size does not matter.",
        )
}

/// "Unsupported alignment constraint".
pub(super) fn granule() -> Said {
    Said::new(Kind::IommuGranule)
        .means(
            "The device asks that the low bits of an address stay as they are (min_align_mask), more of them than the IOMMU's granule \
             has, and the IOMMU keeps only those within a granule. The mapping failed.",
        )
        .helps("No pool helps: the driver's dma_set_min_align_mask() and the granule (the page size) do not go together.")
}

/// "Allocating %ld-page iova for %s failed" of Intel's driver up to 5.6 (`drivers/iommu/intel-iommu.c`), and the line of `iommu_alloc()` of powerpc
/// (`arch/powerpc/kernel/iommu.c`).
pub(super) fn full() -> Said {
    Said::new(Kind::IommuFull)
        .means(
            "An IOMMU found no free addresses for a mapping: what is mapped for the devices of this domain fills the addresses that they reach. \
             Nothing is bounced here, and no swiotlb= changes it.",
        )
        .helps(
            "Look for a driver that does not unmap: `bouncescope record` lists what stays mapped, by device. A device with a 32-bit \
             mask has 4 GiB of addresses; a wider mask gives it more.",
        )
}

/// A fault that the IOMMU's driver reports.
pub(super) fn fault() -> Said {
    Said::new(Kind::IommuFault)
        .means(
            "An IOMMU refused an access of a device: to an address that was never mapped for it, or no longer. The \
             message is not about bounce buffers, and no pool fixes it.",
        )
        .helps(
            "Look for a driver that uses a buffer after unmapping it, maps less than the device writes, or hands out physical addresses; CONFIG_DMA_API_DEBUG=y and \
             the event iommu:map show what was mapped.",
        )
        .unknown("Which mapping it was: the faulting address beside a trace of iommu:map and iommu:unmap.")
}
