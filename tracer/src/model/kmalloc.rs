//! The kmalloc caches that exist for a minimum alignment, and what an allocation gets from them.
//!
//! Mirrors `create_kmalloc_caches()` and `kmalloc_slab()` in `mm/slab_common.c` with `CONFIG_SLUB` (6.5 to 7.3).

use tracer_ebpf::decide::size_roundup;

/// Bytes that `kmalloc(bytes)` gets: the object size of its cache, or whole pages beyond the largest cache
/// (`KMALLOC_MAX_CACHE_SIZE`, two pages). 0 for 0.
pub fn bytes_given(bytes: u64, minalign: u32, page_size: u64) -> u64 {
    if bytes > 2 * page_size {
        return bytes.div_ceil(page_size).next_power_of_two() * page_size;
    }
    size_roundup(bytes, minalign)
}

/// Object sizes of the caches that exist, ascending, bytes.
pub fn cache_sizes(minalign: u32, page_size: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = Vec::new();
    let mut next = 1;
    while next <= 2 * page_size {
        let size = size_roundup(next, minalign);
        sizes.push(size);
        next = size + 1;
    }
    sizes
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
}
