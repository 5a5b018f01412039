//! What a request comes to: how many slots, how far into them the buffer begins, and which slots may be the first.
//!
//! Mirrors the arithmetic of `swiotlb_tbl_map_single()`, `swiotlb_align_offset()` and the head of
//! `swiotlb_search_pool_area()` in `kernel/dma/swiotlb.c`. No pool and no search here.

use super::{Request, SEGMENT_SLOTS, SLOT, SlotRule};

/// Bits of an address within a slot.
const SLOT_MASK: u64 = SLOT - 1;
/// Both masks are `unsigned int` in the kernel, whatever a capture says.
const MASK_BITS: u64 = u32::MAX as u64;

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Slots, padding included; 1 to [`SEGMENT_SLOTS`].
    pub(super) slots: u32,
    /// Bytes from the first slot's beginning to the buffer's: whole slots of padding, and an offset into a slot.
    pub(super) offset: u64,
    /// Bits that must be 0 in the first slot's address.
    pub(super) align_mask: u64,
    /// Bits of the first slot's address that must be those of the buffer's, none of which is in `align_mask`.
    keep_mask: u64,
    /// What they must be; the kernel does not look at `keep_mask` for a buffer at physical address 0.
    kept: u64,
    /// Slots from one candidate to the next.
    pub(super) stride: u32,
}

impl Demand {
    /// `None` for what no segment has room for.
    pub(super) fn new(request: &Request, rule: SlotRule, page_size: u64) -> Option<Self> {
        let segment = u64::from(SEGMENT_SLOTS) * SLOT;
        if request.size > segment {
            return None;
        }
        if request.is_memory {
            return Some(Self::of_memory(request, rule, page_size));
        }
        let (align_mask, min_align_mask) = (request.align_mask & MASK_BITS, request.min_align_mask & MASK_BITS);
        let align = |bytes: u64| (bytes + align_mask) & !align_mask;
        let preserved = request.phys & min_align_mask;
        let (offset, bytes) = match rule {
            SlotRule::PoolAligned => {
                let offset = preserved & (align_mask | SLOT_MASK);
                (offset, align(request.size + offset))
            }
            SlotRule::CallerAligned => {
                let offset = preserved & SLOT_MASK;
                (offset, align(request.size) + offset)
            }
        };
        if bytes > segment {
            return None;
        }
        // Pages stay page-aligned where nothing else is asked for.
        let of_pages = align_mask == 0 && min_align_mask == 0 && bytes >= page_size;
        let align_mask = SLOT_MASK | if of_pages { page_size.saturating_sub(1) & MASK_BITS } else { align_mask };
        let keep_mask = if request.phys == 0 { 0 } else { min_align_mask & !align_mask };
        // The stride heeds min_align_mask even for address 0.
        let stride = align_mask.max(min_align_mask & !align_mask) / SLOT + 1;
        Some(Self {
            // The kernel asserts that there is a length; a capture may say anything.
            slots: bytes.div_ceil(SLOT).max(1) as u32,
            offset,
            align_mask,
            keep_mask,
            kept: request.phys & keep_mask,
            stride: stride as u32,
        })
    }

    /// What `swiotlb_alloc()` looks for: as many slots as the pages have, aligned to the power of two that they fit into
    /// (`get_order()`, from 6.9 on, and here from 6.10 on, as the rule changes), or to pages before; from one page on nothing of the address is kept.
    fn of_memory(request: &Request, rule: SlotRule, page_size: u64) -> Self {
        let page = page_size.max(SLOT);
        let aligned = match rule {
            SlotRule::PoolAligned => request.size.max(page).next_power_of_two(),
            SlotRule::CallerAligned => page,
        };
        let align_mask = SLOT_MASK | (aligned - 1);
        let stride = align_mask.max(request.min_align_mask & MASK_BITS & !align_mask) / SLOT + 1;
        let slots = request.size.div_ceil(SLOT).max(1) as u32;
        Self { slots, offset: 0, align_mask, keep_mask: 0, kept: 0, stride: stride as u32 }
    }

    /// Whether the same slots are looked for, as far as finding them goes.
    pub(super) fn is_met_by_the_same(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.slots, one.align_mask, one.keep_mask, one.kept, one.stride);
        place(self) == place(other)
    }

    /// Where a search looks next from `end` on that comes to `slot` and finds nothing before `end`: it moves by one slot where it must not
    /// begin, and by the stride where it may. `None` where the masks leave no regular pattern, which no kernel's do.
    pub(super) fn next_look(&self, slot: u32, end: u32) -> Option<u32> {
        let period = (self.align_mask | self.keep_mask).checked_add(1).filter(|bytes| bytes.is_power_of_two())? / SLOT;
        let period = u32::try_from(period.max(1)).ok()?;
        let kept = (self.kept / SLOT) as u32 & (period - 1);
        let first = slot.checked_add(kept.wrapping_sub(slot) & (period - 1))?;
        if first >= end {
            return Some(end);
        }
        // From one place where it may begin, over the stride, on to the next such place.
        let between = self.stride.checked_next_multiple_of(period)?;
        let last = first + (end - 1 - first) / between * between;
        Some(last.saturating_add(self.stride).max(end))
    }

    /// Whether the slot at this address may be the first.
    pub(super) fn allows(&self, addr: u64) -> bool {
        addr & self.align_mask == 0 && addr & self.keep_mask == self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(rule: SlotRule, phys: u64, size: u64, align_mask: u64, min_align_mask: u64) -> Option<(u32, u64, u32)> {
        let request = Request { cpu: 0, phys, size, align_mask, min_align_mask, is_memory: false };
        Demand::new(&request, rule, 4096).map(|demand| (demand.slots, demand.offset, demand.stride))
    }

    const NEW: SlotRule = SlotRule::PoolAligned;
    const OLD: SlotRule = SlotRule::CallerAligned;

    #[test]
    fn a_small_buffer_takes_one_slot_and_behind_an_iommu_a_granule() {
        for rule in [OLD, NEW] {
            assert_eq!(demand(rule, 0x1008, 8, 0, 0), Some((1, 0, 1)));
            assert_eq!(demand(rule, 0x1008, 8, 4095, 0), Some((2, 0, 2)));
            assert_eq!(demand(rule, 0x1008, 8, 16383, 0), Some((8, 0, 8)));
            assert_eq!(demand(rule, 0x1008, 8, 65535, 0), Some((32, 0, 32)));
        }
    }

    #[test]
    fn a_preserved_offset_may_cost_a_slot() {
        assert_eq!(demand(NEW, 0x1200, 512, 0, 4095), Some((1, 0x200, 2)));
        assert_eq!(demand(NEW, 0x17ff, 2, 0, 4095), Some((2, 0x7ff, 2)));
    }

    #[test]
    fn behind_an_iommu_the_pool_pads_before_it_rounds_and_the_caller_rounded_before() {
        assert_eq!(demand(NEW, 0x1e00, 512, 4095, 4095), Some((2, 0xe00, 2)), "offset and length share a granule");
        assert_eq!(demand(OLD, 0x1e00, 512, 4095, 4095), Some((3, 0x600, 2)), "a granule, and an offset into a slot");
    }

    #[test]
    fn pages_are_looked_for_at_pages_only_without_other_masks() {
        assert_eq!(demand(NEW, 0x1008, 4095, 0, 0).map(|(_, _, stride)| stride), Some(1));
        assert_eq!(demand(NEW, 0x1008, 4096, 0, 0).map(|(_, _, stride)| stride), Some(2));
        assert_eq!(demand(NEW, 0x1008, 4096, 0, 511).map(|(_, _, stride)| stride), Some(1));
    }

    #[test]
    fn a_segment_is_the_most() {
        assert_eq!(demand(NEW, 0x1000, 256 * 1024, 0, 0).map(|(slots, ..)| slots), Some(128));
        assert_eq!(demand(NEW, 0x1000, 256 * 1024 + 1, 0, 0), None);
        assert_eq!(demand(NEW, 0x1200, 256 * 1024, 0, 4095), None, "the offset counts too");
    }

    #[test]
    fn coherent_memory_takes_its_pages_and_is_aligned_to_a_power_of_two() {
        let memory = |rule, size| {
            let request = Request { cpu: 0, phys: 0, size, align_mask: 0, min_align_mask: 4095, is_memory: true };
            Demand::new(&request, rule, 4096).map(|demand| (demand.slots, demand.align_mask, demand.stride))
        };
        assert_eq!(memory(NEW, 4096), Some((2, 4095, 2)));
        assert_eq!(memory(NEW, 12288), Some((6, 16383, 8)), "it is not rounded up");
        assert_eq!(memory(OLD, 12288), Some((6, 4095, 2)));
        assert_eq!(memory(NEW, 256 * 1024), Some((128, 256 * 1024 - 1, 128)));
        assert_eq!(memory(NEW, 260 * 1024), None);
    }

    #[test]
    fn absurd_numbers_are_answered() {
        for rule in [OLD, NEW] {
            assert_eq!(demand(rule, u64::MAX, u64::MAX, u64::MAX, u64::MAX), None);
            assert_eq!(demand(rule, u64::MAX, 8, u64::MAX, u64::MAX), None);
            assert_eq!(demand(rule, 0, 0, 0, 0), Some((1, 0, 1)));
        }
    }
}
