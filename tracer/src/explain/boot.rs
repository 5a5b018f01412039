//! What is said at boot: the pool, its areas and size, why there is none, and lines that are longer than kmalloc's alignment.
//!
//! Mirrors `swiotlb_init_remap()`, `swiotlb_print_info()`, `swiotlb_adjust_size()`, `swiotlb_adjust_nareas()`,
//! `rmem_swiotlb_setup()` (`kernel/dma/swiotlb.c`) and `arch_setup_dma_ops()` (`arch/arm64/mm/dma-mapping.c`), 5.10 to 7.3.

use super::full::LARGEST;
use super::line::{Context, hex, number};
use super::{Kind, Said};
use crate::model::pool::{SEGMENT_SLOTS, SLOT};
use crate::size::exact;

/// "Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer".
pub(super) fn missing(context: &Context) -> Said {
    let fatal = match context.is_at_least(6, 0) {
        Some(true) => "The mapping failed.",
        Some(false) => "This kernel panics with it.",
        None => "The mapping failed; kernels before 6.0 panic instead.",
    };

    Said::new(Kind::NoPool)
            .means(format!("A buffer had to bounce, and there is no pool: {}. {fatal}", context.why_no_pool()))
            .helps("See why the pool was not made: \"software IO TLB: …\" at the beginning of the log.")
            .helps("Boot without swiotlb=noforce; if memory was too short for the pool, with a smaller one: swiotlb=512 (1 MiB).")
}

/// "Cannot allocate SWIOTLB buffer" (5.10), "No low mem".
pub(super) fn not_allocated(context: &Context) -> Said {
    if context.asks_for("noforce") { not_wanted() } else { not_made() }
}

/// `swiotlb_print_info()` says "No low mem" of any pool without slots.
fn not_wanted() -> Said {
    Said::new(Kind::PoolNotMade)
        .means(
            "There is no pool, as swiotlb=noforce on the command line asks; memory was not looked for. What has to bounce fails, and \
             arm64's kmalloc then builds its caches at the line size, so that small buffers need not bounce.",
        )
        .helps("Nothing, unless the memory is wanted that smaller caches save: then drop swiotlb=noforce.")
}

/// `swiotlb_init_remap: Failed to allocate …`; other lines that begin so are not about a pool that is missing.
pub(super) fn failed(rest: &str, _: &Context) -> Option<Said> {
    let (_, what) = rest.split_once(": ")?;
    (what.starts_with("Failed to allocate") || what.starts_with("Failed to remap")).then(not_made)
}

fn not_made() -> Said {
    Said::new(Kind::PoolNotMade)
        .means(
            "There was no contiguous memory for the pool where devices with narrow DMA masks reach it. Whatever has to bounce later \
             fails, and arm64's kmalloc then builds its caches at the line size: the memory that small caches save is lost.",
        )
        .helps("A smaller pool: swiotlb=512 (1 MiB; the kernel rounds up to 128 slots for each CPU).")
        .helps("Less reserved low memory: crashkernel=, cma=, reserved-memory nodes below 4 GiB.")
}

/// "mapped [mem %pa-%pa] (%luMB)".
pub(super) fn mapped(rest: &str, _: &Context) -> Option<Said> {
    let (start, rest) = hex(rest)?;
    let (end, rest) = hex(rest.strip_prefix('-')?)?;
    if !rest.starts_with(']') {
        return None;
    }
    let bytes = end.checked_sub(start).filter(|bytes| *bytes > 0)?;
    let slots = bytes / SLOT;
    let four_gib = if end <= 1 << 32 {
        "below 4 GiB, where devices with 32 address bits reach it"
    } else {
        "NOT wholly below 4 GiB: devices with 32 address bits cannot use it"
    };
    let said = Said::new(Kind::Pool).means(format!(
        "The pool: {slots} slots of 2 KiB ({}), {four_gib}. Room for {slots} small buffers at once, or {} behind an IOMMU with 4 KiB \
         granules; no single mapping beyond {LARGEST} bytes.",
        exact(slots * SLOT),
        slots / 2
    ));
    Some(if end <= 1 << 32 {
        said
    } else {
        said.helps("CONFIG_ZONE_DMA32 and no disable_dma32=on, if such a device has to bounce.")
    })
}

/// "area num %d".
pub(super) fn areas(rest: &str, _: &Context) -> Option<Said> {
    let (areas, _) = number(rest)?;
    Some(Said::new(Kind::Areas).means(format!(
        "The pool has {areas} areas, each with a lock of its own: one for each possible CPU, rounded up to a power of two, unless swiotlb=SLOTS,AREAS asked for others. A CPU begins its \
         search in its own and goes on to the others, so that a pool has no less room for them. Each has at least {SEGMENT_SLOTS} \
         slots: no pool is smaller than {}.",
        exact(areas.saturating_mul(u64::from(SEGMENT_SLOTS) * SLOT))
    )))
}

/// "adjusted to %luMB", "adjusted %lu -> %lu slabs", "roundup to %luMB".
pub(super) fn resized(rest: &str, _: &Context) -> Option<Said> {
    let said = Said::new(Kind::Resized);
    if let Some(rest) = rest.strip_prefix("roundup to ") {
        let (mib, _) = number(rest)?;
        return Some(said.means(format!(
            "The pool is larger than asked for, {mib} MiB: a power of two, and 128 slots for each area. A smaller swiotlb= changes nothing \
             below that; fewer areas do: swiotlb=SLOTS,1."
        )));
    }
    let rest = rest.strip_prefix("adjusted ")?;
    if let Some(rest) = rest.strip_prefix("to ") {
        let (mib, _) = number(rest)?;
        return Some(said.means(format!(
            "The default pool was reduced to {mib} MiB, because no device of this machine needs it to reach memory: on arm64 since 6.7 1 \
             MiB for each GiB of memory, for small kmalloc buffers alone. A swiotlb=SLOTS on the command line is not changed."
        )));
    }
    let (from, rest) = number(rest)?;
    let (to, _) = number(rest.strip_prefix(" -> ")?)?;
    Some(
        said.means(format!(
            "Contiguous memory for {from} slots was not to be had at boot; the kernel halved the pool until it fitted: {to} slots ({}).",
            exact(to.saturating_mul(SLOT))
        ))
        .helps("If mappings find the pool full: less reserved low memory (crashkernel=, cma=, reserved-memory)."),
    )
}

/// "created restricted DMA pool at %pa, size %ld MiB".
pub(super) fn restricted(rest: &str, _: &Context) -> Option<Said> {
    let (_, rest) = hex(rest)?;
    let (mib, _) = number(rest.strip_prefix(", size ")?)?;
    let slots = mib.saturating_mul((1 << 20) / SLOT);
    Some(Said::new(Kind::RestrictedPool).means(format!(
        "A restricted-dma-pool of {slots} slots: everything bounces that its devices map, and their coherent memory comes from it too. It has \
         one area and never grows; when it is full, its line says \"total {slots}\", and swiotlb= does not change it, only the node in \
         reserved-memory does."
    )))
}

/// "%d < %d)": `ARCH_DMA_MINALIGN`, and the line size.
pub(super) fn long_lines(rest: &str, _: &Context) -> Option<Said> {
    let (minalign, rest) = number(rest)?;
    let (line, rest) = number(rest.strip_prefix(" < ")?)?;
    if !rest.starts_with(')') {
        return None;
    }
    Some(
        Said::new(Kind::LongLines)
            .means(format!(
                "This CPU says that cache maintenance may touch {line} bytes at once (CTR_EL0.CWG), and this device is not coherent. Memory for \
                 DMA is only kept {minalign} bytes apart: what else lies in the same {line} bytes may be corrupted. Lengths of {} bytes \
                 and more are never bounced for it.",
                minalign.saturating_mul(2)
            ))
            .helps(
                "Usually the device is coherent and the firmware forgot to say so: dma-coherent in the device tree, _CCA in ACPI. Virtual \
                 machines on such CPUs (A64FX) print it for each device whose node lacks dma-coherent.",
            )
            .helps("If it really is not coherent: a kernel with a larger ARCH_DMA_MINALIGN."),
    )
}
