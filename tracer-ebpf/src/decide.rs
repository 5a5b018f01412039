//! The bounce decider: does a DMA mapping of this length have to go through swiotlb because its buffer may be a small
//! kmalloc object?
//!
//! Mirrors `dma_kmalloc_needs_bounce()` and its parts in `include/linux/dma-map-ops.h` and `kmalloc_size_roundup()` in
//! `mm/slab_common.c`, unchanged from Linux 6.5 to 7.3. This is the only place where the rule is written.

/// `DMA_BIDIRECTIONAL` of `enum dma_data_direction`.
pub const BIDIRECTIONAL: u8 = 0;
/// `DMA_TO_DEVICE`.
pub const TO_DEVICE: u8 = 1;
/// `DMA_FROM_DEVICE`.
pub const FROM_DEVICE: u8 = 2;

/// `ARCH_DMA_MINALIGN` of arm64, bytes (`arch/arm64/include/asm/cache.h`).
pub const ARM64_DMA_MINALIGN: u32 = 128;

/// What a kernel's decider depends on besides the mapping itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Decider {
    /// `CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC`; 0 means that nothing ever bounces for alignment.
    pub bounce_unaligned: u32,
    /// `dma_get_cache_alignment()`, bytes: `cache_line_size()` on arm64 since 6.5.
    pub cache_line_size: u32,
    /// Minimum alignment the kmalloc caches were created with (`__kmalloc_minalign()`), bytes, a power of two.
    pub minalign: u32,
    /// `ARCH_DMA_MINALIGN`, bytes: lengths of twice this and more are taken to be aligned.
    pub dma_minalign: u32,
}

impl Decider {
    /// Whether a mapping of `len` bytes must bounce: `dma_kmalloc_needs_bounce()`.
    #[inline(always)]
    pub const fn needs_bounce(&self, coherent: bool, direction: u8, len: u64) -> bool {
        !self.kmalloc_safe(coherent, direction) && !self.size_aligned(len)
    }

    /// Whether no kmalloc buffer can be hurt by this device and direction: `dma_kmalloc_safe()`.
    #[inline(always)]
    pub const fn kmalloc_safe(&self, coherent: bool, direction: u8) -> bool {
        self.bounce_unaligned == 0 || coherent || direction == TO_DEVICE
    }

    /// Whether an object of `len` bytes fills whole cache lines: `dma_kmalloc_size_aligned()`.
    #[inline(always)]
    pub const fn size_aligned(&self, len: u64) -> bool {
        if len >= 2 * self.dma_minalign as u64 {
            return true;
        }
        let line = self.cache_line_size as u64;
        line == 0 || size_roundup(len, self.minalign).is_multiple_of(line)
    }
}

/// Object size of the kmalloc cache that serves `len` bytes when caches start at `minalign`, bytes; 0 for 0.
///
/// `kmalloc_size_roundup()` below `KMALLOC_MAX_CACHE_SIZE`, with the aliasing that `create_kmalloc_caches()` does when
/// `minalign` is above `KMALLOC_MIN_SIZE` (8): each bucket serves through the bucket of its size rounded up to `minalign`.
#[inline(always)]
pub const fn size_roundup(len: u64, minalign: u32) -> u64 {
    if len == 0 {
        return 0;
    }
    let bucket = bucket(len);
    if minalign <= 8 {
        return bucket;
    }
    let align = minalign as u64;
    self::bucket((bucket + align - 1) & !(align - 1))
}

/// The smallest of the kmalloc sizes 8, 16, 32, 64, 96, 128, 192, 256, 512, … that holds `len` bytes (`len` > 0).
#[inline(always)]
const fn bucket(len: u64) -> u64 {
    if len <= 8 {
        8
    } else if len <= 16 {
        16
    } else if len <= 32 {
        32
    } else if len <= 64 {
        64
    } else if len <= 96 {
        96
    } else if len <= 128 {
        128
    } else if len <= 192 {
        192
    } else {
        // next_power_of_two() without the loop or intrinsic that the BPF back end may not have.
        let mut n = len - 1;
        n |= n >> 1;
        n |= n >> 2;
        n |= n >> 4;
        n |= n >> 8;
        n |= n >> 16;
        n |= n >> 32;
        n + 1
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn decider(line: u32, minalign: u32) -> Decider {
        Decider { bounce_unaligned: 1, cache_line_size: line, minalign, dma_minalign: ARM64_DMA_MINALIGN }
    }

    /// Inclusive ranges of lengths 0..=1024 that bounce FROM_DEVICE on a non-coherent device.
    fn bouncing(line: u32, minalign: u32) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for len in 0..=1024 {
            if decider(line, minalign).needs_bounce(false, FROM_DEVICE, len) {
                match ranges.last_mut() {
                    Some((_, end)) if *end + 1 == len => *end = len,
                    _ => ranges.push((len, len)),
                }
            }
        }
        ranges
    }

    #[test]
    fn bouncing_lengths_per_line_size_with_caches_from_8() {
        assert_eq!(bouncing(16, 8), [(1, 8)]);
        assert_eq!(bouncing(32, 8), [(1, 16)]);
        assert_eq!(bouncing(64, 8), [(1, 32), (65, 96)]);
        assert_eq!(bouncing(128, 8), [(1, 96), (129, 192)]);
        assert_eq!(bouncing(256, 8), [(1, 192)]);
    }

    #[test]
    fn bouncing_lengths_with_mte_caches_from_16() {
        assert_eq!(bouncing(16, 16), []);
        assert_eq!(bouncing(32, 16), [(1, 16)]);
        assert_eq!(bouncing(64, 16), [(1, 32), (65, 96)]);
    }

    #[test]
    fn caches_built_at_the_line_size_never_bounce() {
        for line in [16, 32, 64, 128, 256] {
            assert_eq!(bouncing(line, line), [], "line {line}");
        }
    }

    #[test]
    fn a_line_size_learnt_after_the_caches_were_built_still_bounces() {
        assert_eq!(bouncing(128, 64), [(1, 64), (129, 192)]);
    }

    #[test]
    fn to_device_coherent_and_unconfigured_never_bounce() {
        for len in 0..=1024 {
            assert!(!decider(64, 8).needs_bounce(false, TO_DEVICE, len));
            assert!(!decider(64, 8).needs_bounce(true, FROM_DEVICE, len));
            let off = Decider { bounce_unaligned: 0, ..decider(64, 8) };
            assert!(!off.needs_bounce(false, BIDIRECTIONAL, len));
        }
    }

    #[test]
    fn size_roundup_gives_the_cache_that_serves() {
        assert_eq!(
            [1, 8, 9, 33, 65, 97, 129, 193, 257, 8193].map(|n| size_roundup(n, 8)),
            [8, 8, 16, 64, 96, 128, 192, 256, 512, 16384]
        );
        assert_eq!([1, 65, 97, 129].map(|n| size_roundup(n, 64)), [64, 128, 128, 192]);
        assert_eq!([1, 129].map(|n| size_roundup(n, 128)), [128, 256]);
        assert_eq!(size_roundup(0, 8), 0);
    }
}
