//! "overflow": an address that a device cannot reach, or that it can reach and that had to bounce for its length.
//!
//! Mirrors `dma_direct_map_page()` / `dma_direct_map_phys()` and `dma_capable()` (`kernel/dma/direct.h`,
//! `include/linux/dma-direct.h`), and `swiotlb_map()` (`kernel/dma/swiotlb.c`), 5.10 to 7.3.

use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, Decider, FROM_DEVICE};

use super::line::{Context, hex, number};
use super::{Kind, Said};

/// `DMA_MAPPING_ERROR`: what `phys_to_dma()` gives for memory that no range of the bus translates.
const NO_TRANSLATION: u64 = u64::MAX;

/// The numbers of the message.
struct Overflow {
    addr: u64,
    size: u64,
    mask: u64,
    bus_limit: u64,
}

/// What follows "DMA addr " or "swiotlb addr ": `%pad+%zu overflow (mask %llx, bus limit %llx)`.
fn parse(rest: &str) -> Option<Overflow> {
    let (addr, rest) = hex(rest)?;
    let (size, rest) = number(rest.strip_prefix('+')?)?;
    let (mask, rest) = hex(rest.strip_prefix(" overflow (mask ")?)?;
    let (bus_limit, rest) = hex(rest.strip_prefix(", bus limit ")?)?;
    rest.starts_with(')').then_some(Overflow { addr, size, mask, bus_limit })
}

impl Overflow {
    /// The last address that the device reaches: `min_not_zero()` of the two.
    fn limit(&self) -> u64 {
        match (self.mask, self.bus_limit) {
            (0, limit) | (limit, 0) => limit,
            (mask, bus) => mask.min(bus),
        }
    }

    fn last(&self) -> u64 {
        self.addr.saturating_add(self.size.saturating_sub(1))
    }

    fn is_reached(&self) -> bool {
        self.addr != NO_TRANSLATION && self.last() <= self.limit()
    }

    /// The device or the bus, whichever is narrower.
    fn who_limits(&self) -> &'static str {
        if self.bus_limit != 0 && (self.mask == 0 || self.bus_limit < self.mask) {
            "the bus that the device is on (dma-ranges)"
        } else {
            "the device's DMA mask"
        }
    }
}

/// "DMA addr … overflow".
pub(super) fn overflow(rest: &str, context: &Context) -> Option<Said> {
    let overflow = parse(rest)?;
    let said = if overflow.addr == NO_TRANSLATION {
        Said::new(Kind::OutOfReach)
            .means("The buffer lies in memory that none of the bus's dma-ranges translates, so that it has no DMA address at all.")
            .means(NO_POOL_ACTIVE)
            .helps("Complete dma-ranges in the device tree, or give the kernel a pool: boot without swiotlb=noforce.")
    } else if overflow.is_reached() {
        reached(&overflow, context)
    } else {
        Said::new(Kind::OutOfReach)
            .means(format!(
                "The buffer ends at {:#x}, and {} ends at {:#x}: the device cannot reach it.",
                overflow.last(),
                overflow.who_limits(),
                overflow.limit()
            ))
            .means(format!("{NO_POOL_ACTIVE} The pool is missing: {}.", context.why_no_pool()))
            .helps("Boot without swiotlb=noforce, or with swiotlb=512 at least.")
            .helps(
                "If the device can do more than that, its driver or the device tree says too little: dma_set_mask_and_coherent(), \
                 dma-ranges.",
            )
    };
    Some(said.of_size(overflow.size))
}

const NO_POOL_ACTIVE: &str = "It would have bounced, but there is no active pool for this device; the mapping failed. The kernel says this once per boot.";

/// In reach: what else makes a buffer bounce on this path.
fn reached(overflow: &Overflow, context: &Context) -> Said {
    let lines = lines_that_bounce(overflow.size);
    let in_reach = format!(
        "\"overflow\" misleads: the buffer ends at {:#x}, and the device reaches up to {:#x}.",
        overflow.last(),
        overflow.limit()
    );
    if lines.is_empty() {
        return Said::new(Kind::OutOfReach)
            .means(in_reach)
            .means(format!(
                "{} bytes do not bounce for kmalloc's alignment either, whatever the line size. What is left: device memory \
                 (DMA_ATTR_MMIO) where everything must bounce (swiotlb=force), or memory that the device may not see (confidential \
                 computing).",
                overflow.size
            ))
            .helps("Without swiotlb=force and outside of a confidential guest this cannot happen.");
    }
    let lines = lines.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let said = Said::new(Kind::UnalignedWithoutPool)
        .means(in_reach)
        .means(format!(
            "Since 6.5 the same words are printed when a buffer has to bounce because it may be a small kmalloc object that shares a \
             cache line, and there is no pool. {} bytes, not only read by the device, bounce with cache lines of {lines} bytes when \
             kmalloc's caches begin below that.",
            overflow.size
        ))
        .means(format!(
            "There should be no such caches without a pool: kmalloc's caches were built for shorter lines than the firmware described \
             later (a device tree or PPTT with lines longer than CTR_EL0.CWG says), or the pool vanished after boot. The pool: {}.",
            context.why_no_pool()
        ))
        .helps("Boot with a pool: drop swiotlb=noforce, or swiotlb=512. A small buffer takes one slot of 2 KiB.")
        .helps("Or make the firmware describe the lines as CTR_EL0.CWG does; `bouncescope doctor` shows both.");
    match context.is_at_least(6, 5) {
        Some(false) => {
            said.means("The release in this log is older than 6.5: only a tree with that change backported does it.")
        }
        _ => said,
    }
}

/// Line sizes with which so many bytes bounce when caches begin at 8.
fn lines_that_bounce(size: u64) -> Vec<u32> {
    let bounces = |line: &u32| {
        let decider =
            Decider { bounce_unaligned: 1, cache_line_size: *line, minalign: 8, dma_minalign: ARM64_DMA_MINALIGN };
        decider.needs_bounce(false, FROM_DEVICE, size)
    };
    [32, 64, 128, 256].into_iter().filter(bounces).collect()
}

/// "swiotlb addr … overflow": a slot was found, and the device cannot reach it.
pub(super) fn pool(rest: &str, _: &Context) -> Option<Said> {
    let overflow = parse(rest)?;
    let said = Said::new(Kind::PoolOutOfReach).of_size(overflow.size).means(format!(
        "The buffer was bounced, and the slot it got ends at {:#x}, beyond {:#x}, where {} ends: the pool itself is out of the \
         device's reach. Its size does not matter.",
        overflow.last(),
        overflow.limit(),
        overflow.who_limits()
    ));
    Some(
        said.helps(
            "The pool must lie lower: CONFIG_ZONE_DMA with a limit that suits the device (dma-ranges of the narrowest bus), no \
             disable_dma32, or a pool of its own for this device (restricted-dma-pool in the device tree).",
        )
        .helps("Or the device's mask is set too small: dma_set_mask_and_coherent() in its driver."),
    )
}
