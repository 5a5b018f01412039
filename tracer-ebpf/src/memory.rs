//! What memory a buffer lies in, as the programs put it into one number of a record.

/// It was not looked up, or could not be read.
pub const UNKNOWN: u64 = 0;
/// In pages that are no slab.
pub const PAGES: u64 = 1;

/// Bits of a slab's page number: the largest slab has far fewer pages (`MAX_PAGE_ORDER`, `include/linux/mmzone.h`).
const PAGE_BITS: u32 = 12;

/// A compound page's tail says either where its head is, with bit 0 set, or from 7.1 on by which mask its own address becomes that
/// of the head (`compound_info_has_mask()`, `include/linux/page-flags.h`). No page is described up here, where all masks are.
const MASKS: u64 = 0xffff_ffff_ff00_0000;

/// In the slab of a cache, on this page of the slab. Of the address of its `struct kmem_cache` the lower 52 bits are kept.
#[inline(always)]
pub const fn in_slab(cache: u64, page: u64) -> u64 {
    cache << PAGE_BITS | page & ((1 << PAGE_BITS) - 1)
}

/// What names the cache of address `cache` in [`in_slab`].
#[inline(always)]
pub const fn key(cache: u64) -> u64 {
    cache << PAGE_BITS >> PAGE_BITS
}

/// The cache's [`key`] and the page of the slab; `None` outside slabs.
pub const fn slab(memory: u64) -> Option<(u64, u32)> {
    if memory == UNKNOWN || memory == PAGES {
        return None;
    }
    Some((memory >> PAGE_BITS, memory as u32 & ((1 << PAGE_BITS) - 1)))
}

/// `compound_head()` of `include/linux/page-flags.h`, 5.10 to 7.3: `page` is the address of a `struct page`, `info` its
/// `compound_head` or `compound_info`.
#[inline(always)]
pub const fn head(page: u64, info: u64) -> u64 {
    if info & 1 == 0 {
        page
    } else if info >= MASKS {
        page & info
    } else {
        info - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_and_its_page_come_back_and_nothing_else_is_a_slab() {
        let cache = 0xffff_0000_0200_1d00;
        assert_eq!(slab(in_slab(cache, 7)), Some((key(cache), 7)));
        assert_eq!(slab(in_slab(cache, 0)), Some((key(cache), 0)));
        assert_eq!((slab(UNKNOWN), slab(PAGES)), (None, None));
    }

    #[test]
    fn a_tail_says_where_its_head_is_by_address_or_by_mask() {
        let head_page = 0xffff_fdff_c010_0200;
        let tail = head_page + 3 * 64;
        assert_eq!(head(head_page, 0), head_page);
        assert_eq!(head(head_page, 0xffff_0000_0200_1d00), head_page, "a slab's head has its cache there");
        assert_eq!(head(tail, head_page + 1), head_page);
        // Of 8 pages of 64 bytes each.
        assert_eq!(head(tail, !(8 * 64 - 1) | 1), head_page);
    }
}
