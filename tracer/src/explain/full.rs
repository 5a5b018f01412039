//! "swiotlb buffer is full": which of the four things that this can mean it was.
//!
//! Mirrors `swiotlb_tbl_map_single()` and `swiotlb_search_pool_area()` in `kernel/dma/swiotlb.c`, 5.10 to 7.3.

use super::line::{Context, number};
use super::{Kind, Said};
use crate::model::pool::{SEGMENT_SLOTS, SLOT};
use crate::size::exact;

/// The most that a pool of any size gives in one piece, bytes.
pub(super) const LARGEST: u64 = SEGMENT_SLOTS as u64 * SLOT;

/// Pools are not made larger than this by what is proposed here, slots: 1 GiB.
const MOST_PROPOSED: u64 = 1 << 19;

/// What follows "swiotlb buffer is full (sz: ": `%zd bytes), total %lu (slots), used %lu (slots)`; before 4.20 nothing after
/// the bytes.
pub(super) fn full(rest: &str, context: &Context) -> Option<Said> {
    let (size, rest) = number(rest)?;
    let rest = rest.strip_prefix(" bytes)")?;
    let slots = size.div_ceil(SLOT).max(1);
    let Some((total, used)) = how_full(rest) else {
        // Cut in the middle of the numbers is damaged; an old kernel's line ends here.
        return rest.trim().is_empty().then(|| unknown(size, slots));
    };
    let said = if total == 0 {
        no_pool(context)
    } else if size > LARGEST {
        never_fits(size, total, used)
    } else if used.saturating_add(slots) > total {
        full_indeed(slots, total, used)
    } else {
        not_in_one_piece(size, slots, total, used)
    };
    Some(about_size(said, size, context).of_size(size))
}

fn how_full(rest: &str) -> Option<(u64, u64)> {
    let (total, rest) = number(rest.strip_prefix(", total ")?)?;
    let (used, rest) = number(rest.strip_prefix(" (slots), used ")?)?;
    rest.starts_with(" (slots)").then_some((total, used))
}

/// What `sz` is: `alloc_size` up to 6.8, and from 6.10 on the length with all that was added to it.
fn about_size(said: Said, size: u64, context: &Context) -> Said {
    if said.kind == Kind::NoPool {
        return said;
    }
    match context.is_at_least(6, 10) {
        Some(true) => said.means(format!(
            "On this kernel (6.10 or later) \"sz\" is the length with the padding in front and rounded up to the IOMMU's granule: \
             the driver mapped {size} bytes or fewer."
        )),
        Some(false) => said.means(
            "On this kernel (before 6.10) \"sz\" is the length as the caller rounded it; a device with min_align_mask (NVMe) may have \
             needed one slot more.",
        ),
        None => said,
    }
}

fn unknown(size: u64, slots: u64) -> Said {
    let said = Said::new(Kind::FullUnknown).of_size(size);
    if size > LARGEST {
        return said
            .means(format!("{} were asked for in one piece; no pool gives more than {LARGEST}.", bytes(size)))
            .helps(NO_POOL_SIZE_HELPS);
    }
    said.means(format!(
        "{} were asked for: {}. This line does not say how full the pool was.",
        bytes(size),
        in_slots(slots)
    ))
    .helps("A larger pool, if io_tlb_used in /sys/kernel/debug/swiotlb comes near io_tlb_nslabs: swiotlb=SLOTS.")
}

fn no_pool(context: &Context) -> Said {
    Said::new(Kind::NoPool)
        .means(format!("There is no pool at all ({}), and this buffer had to bounce.", context.why_no_pool()))
        .helps("Boot without swiotlb=noforce, or with an explicit pool: swiotlb=512 (1 MiB; the kernel rounds up).")
}

const NO_POOL_SIZE_HELPS: &str = "No swiotlb= helps. The driver must map less at once (dma_max_mapping_size(), dma_opt_mapping_size()), or \
     the buffer must not need to bounce: a wider DMA mask, an IOMMU, memory from a zone that the device reaches, or, for an \
     imported dma-buf, no mapping for a device that does not do the DMA.";

fn never_fits(size: u64, total: u64, used: u64) -> Said {
    let segments = size.div_ceil(LARGEST);
    Said::new(Kind::NeverFits)
        .means(format!(
            "{} can never bounce: a mapping must lie in one segment of {SEGMENT_SLOTS} slots (IO_TLB_SEGSIZE), {LARGEST} bytes, \
             and this one needs {} slots, the room of {segments} segments. The pool was not full: {used} of {total} slots were in use.",
            bytes(size),
            size.div_ceil(SLOT),
        ))
        .means(
            "It is not small kmalloc buffers: so large a buffer bounces only because the device cannot reach it (DMA mask, bus \
             limit), or because everything bounces (swiotlb=force, restricted-dma-pool, an untrusted device).",
        )
        .helps(NO_POOL_SIZE_HELPS)
}

fn full_indeed(slots: u64, total: u64, used: u64) -> Said {
    let free = total.saturating_sub(used);
    let needed = used.saturating_add(slots).min(MOST_PROPOSED);
    let proposed = needed.max(total.saturating_mul(2).min(MOST_PROPOSED)).next_power_of_two();
    let enough = if needed == MOST_PROPOSED { String::new() } else { format!(" (this moment needed {needed})") };
    Said::new(Kind::Full)
        .means(format!(
            "The pool was full: {used} of {total} slots of 2 KiB in use, {free} free, and this mapping needs {}.",
            in_slots(slots)
        ))
        .helps(format!(
            "A larger pool: swiotlb={proposed} ({}){enough}; on arm64 64 MiB, swiotlb=32768, is the largest default.",
            exact(proposed.saturating_mul(SLOT))
        ))
        .helps(
            "First see who holds the slots: `bouncescope record`, then `bouncescope replay --advise`. Mappings that are held for \
             long, or a device that needs no bouncing with the right DMA mask, are cheaper to mend than the pool.",
        )
}

fn not_in_one_piece(size: u64, slots: u64, total: u64, used: u64) -> Said {
    let free = total - used;
    let said = Said::new(Kind::NotInOnePiece).means(format!(
        "{free} of {total} slots were free when the message was made, and {} were needed, side by side in one segment of \
         {SEGMENT_SLOTS}.",
        in_slots(slots)
    ));
    let fewest = fewest_that_block(size, slots, total);
    let said = if slots == 1 {
        said.means(
            "One slot fits wherever one is free. So the pool was full at the moment of the search and slots came back before the \
             message, or the slot had to be aligned: min_align_mask of the device, or the IOMMU's granule.",
        )
    } else if used < fewest {
        said.means(format!(
            "Fragmentation alone needs at least {fewest} slots in use, in the worst places, and {used} were: so the slots had to be \
             aligned (min_align_mask, the IOMMU's granule), or the pool was fuller a moment before."
        ))
    } else {
        said.means("The free slots lie apart: the pool is fragmented.")
    };
    let proposed = total.saturating_mul(2).min(MOST_PROPOSED).next_power_of_two();
    said.helps(format!(
        "A larger pool makes it rare, not impossible: swiotlb={proposed} ({}). Shorter mappings (dma_opt_mapping_size()) find room \
         sooner.",
        exact(proposed.saturating_mul(SLOT))
    ))
}

/// The fewest slots in use that leave no room for `slots` in any segment: one in each place where they could lie without
/// overlapping. From a page on they begin at pages (4 KiB) where nothing else is asked for.
fn fewest_that_block(size: u64, slots: u64, total: u64) -> u64 {
    let apart = if size >= 4096 { slots.next_multiple_of(2) } else { slots };
    (total / u64::from(SEGMENT_SLOTS)).saturating_mul(u64::from(SEGMENT_SLOTS) / apart.max(1))
}

fn bytes(size: u64) -> String {
    format!("{size} bytes")
}

fn in_slots(slots: u64) -> String {
    if slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") }
}
