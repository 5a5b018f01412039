//! `DMA_ATTR_*`: the bits, and their names in the kernel's own trace. The one table of them.

/// `DMA_ATTR_SKIP_CPU_SYNC`: the caller maintains the caches, or need not.
pub const SKIP_CPU_SYNC: u64 = 1 << 5;
/// `DMA_ATTR_MMIO` (6.18 on): device registers, no memory: never bounced, never maintained. Recordings of earlier kernels have it of what
/// `dma_map_resource()` mapped.
pub const MMIO: u64 = 1 << 10;
/// `DMA_ATTR_DEBUGGING_IGNORE_CACHELINES` (7.x; `DMA_ATTR_CPU_CACHE_CLEAN` before, down to late releases of 6.18): the driver says that it
/// shares the buffer's lines and knows how that goes well. The bit meant nothing before.
pub const SHARES_LINES: u64 = 1 << 11;
/// `DMA_ATTR_REQUIRE_COHERENT` (7.x): refused by a device that is not coherent, and never bounced.
pub const REQUIRE_COHERENT: u64 = 1 << 12;

/// Bits and names, as `decode_dma_attrs()` prints them (`include/trace/events/dma.h`). A kernel prints those that it defines
/// (`include/linux/dma-mapping.h`): bits 1 to 9 since before 6.12, which has the first of these events, 10 since 6.18, the others up to
/// 7.3. One bit was renamed; no bit changed its meaning, and no name its bit.
pub const NAMES: [(u32, &str); 14] = [
    (1, "WEAK_ORDERING"),
    (2, "WRITE_COMBINE"),
    (4, "NO_KERNEL_MAPPING"),
    (5, "SKIP_CPU_SYNC"),
    (6, "FORCE_CONTIGUOUS"),
    (7, "ALLOC_SINGLE_PAGES"),
    (8, "NO_WARN"),
    (9, "PRIVILEGED"),
    (10, "MMIO"),
    (11, "CACHE_CLEAN"),
    (11, "CACHELINES_OVERLAP"),
    (12, "REQUIRE_COHERENT"),
    (13, "CC_SHARED"),
    (14, "ALLOC_CC_SHARED"),
];

/// The bit of a name; `None` where no kernel up to 7.3 has it.
pub fn by_name(name: &str) -> Option<u64> {
    NAMES.iter().find(|(_, known)| *known == name).map(|(bit, _)| 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_bit_and_the_constants_are_theirs() {
        for (n, (bit, name)) in NAMES.iter().enumerate() {
            assert_eq!(by_name(name), Some(1 << bit));
            assert!(NAMES[..n].iter().all(|(_, other)| other != name), "{name}");
        }
        let of = ["SKIP_CPU_SYNC", "MMIO", "CACHE_CLEAN", "CACHELINES_OVERLAP", "REQUIRE_COHERENT"].map(by_name);
        assert_eq!(of.map(Option::unwrap), [SKIP_CPU_SYNC, MMIO, SHARES_LINES, SHARES_LINES, REQUIRE_COHERENT]);
        assert_ne!(by_name("REQUIRE_COHERENT"), by_name("CC_SHARED"));
        assert_eq!(by_name("LATER"), None);
    }
}
