//! The kmalloc caches that exist for a minimum alignment, and what an allocation gets from them.
//!
//! Mirrors `create_kmalloc_caches()` and `kmalloc_slab()` in `mm/slab_common.c` with `CONFIG_SLUB` (6.5 to 7.3).

use tracer_ebpf::decide::size_roundup;

/// More than any kernel's `KMALLOC_MAX_SIZE` (512 MiB with 64 KiB pages), bytes.
const LARGEST: u64 = 1 << 30;

/// Bytes that `kmalloc(bytes)` gets: the object size of its cache, or whole pages beyond the largest cache
/// (`KMALLOC_MAX_CACHE_SIZE`, two pages). 0 for 0; what no kernel would give is returned as it is.
pub fn bytes_given(bytes: u64, minalign: u32, page_size: u64) -> u64 {
    if bytes > LARGEST {
        bytes
    } else if bytes > page_size.saturating_mul(2) {
        bytes.div_ceil(page_size.max(1)).next_power_of_two() * page_size.max(1)
    } else {
        size_roundup(bytes, minalign)
    }
}

/// Object sizes of the caches that exist, ascending, bytes.
pub fn cache_sizes(minalign: u32, page_size: u64) -> Vec<u64> {
    let largest = page_size.saturating_mul(2).min(LARGEST);
    let next = |size: &u64| (*size < largest).then(|| size_roundup(size + 1, minalign));
    std::iter::successors(next(&0), next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_start_at_the_minimum_alignment() {
        assert_eq!(cache_sizes(8, 4096), [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(cache_sizes(16, 4096)[..6], [16, 32, 64, 96, 128, 192]);
        assert_eq!(cache_sizes(64, 4096)[..4], [64, 128, 192, 256]);
        assert_eq!(cache_sizes(128, 4096)[..3], [128, 256, 512]);
        assert_eq!(cache_sizes(256, 4096)[..2], [256, 512]);
    }

    #[test]
    fn beyond_the_largest_cache_whole_pages_are_given() {
        assert_eq!(bytes_given(8192, 8, 4096), 8192);
        assert_eq!(bytes_given(8193, 8, 4096), 16384);
        assert_eq!(bytes_given(20_000, 8, 4096), 32768);
        assert_eq!(bytes_given(0, 8, 4096), 0);
    }

    #[test]
    fn pages_of_any_size_bound_the_caches() {
        assert_eq!(cache_sizes(8, 65536).last(), Some(&131_072));
        assert_eq!(bytes_given(32769, 8, 16384), 65536);
    }

    #[test]
    fn absurd_numbers_are_answered() {
        assert_eq!(bytes_given(u64::MAX, u32::MAX, u64::MAX), u64::MAX);
        assert_eq!(bytes_given(5, 8, 0), 8);
        assert_eq!(cache_sizes(8, 0), Vec::<u64>::new());
        assert_eq!(cache_sizes(8, u64::MAX).last(), Some(&LARGEST));
    }
}
