//! The pool that an arm64 kernel makes of itself, without `swiotlb=` on its command line.
//!
//! Mirrors `mem_init()` in `arch/arm64/mm/init.c` (`arch_mm_preinit()` from 6.16 on) with `swiotlb_adjust_size()` in
//! `kernel/dma/swiotlb.c`.

use crate::facts::KernelFacts;
use crate::model::pool::{SLOT, rounded_slots};

/// `IO_TLB_DEFAULT_SIZE`, bytes.
const FULL: u64 = 64 << 20;
/// `arm64_dma_phys_limit` where nothing narrows it: the end of what 32 bits reach.
const DMA_LIMIT: u64 = 4 << 30;

/// The default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultPool {
    /// Slots; 0 where the kernel makes no pool.
    pub slots: u64,
    /// Areas.
    pub areas: u32,
    /// The rule that it comes from, in words.
    pub rule: String,
}

impl DefaultPool {
    /// Of the captured kernel; where its pool was made without a size on the command line, that is it.
    pub fn of(kernel: &KernelFacts) -> Self {
        if kernel.pool.slots > 0 && !is_sized(&kernel.cmdline) {
            let rule = "the captured pool, which nothing on the kernel's command line gave its size".to_owned();
            return Self { slots: kernel.pool.slots, areas: kernel.pool.areas.max(1), rule };
        }
        let start = kernel.linear_map.map_or(0, |map| map.phys_base);
        // Without a linear map in the capture the memory may begin anywhere: it is taken to begin at 0.
        let beyond_limit = start.saturating_add(kernel.memory) > DMA_LIMIT;
        let (wanted, rule) = match (beyond_limit, kernel.bounce_unaligned_kmalloc, is_reduced(&kernel.release)) {
            (true, _, _) => (FULL, "memory reaches beyond 4 GiB, which not all devices reach: 64 MiB"),
            (false, false, _) => (0, "all memory is below 4 GiB, and nothing bounces for alignment: none"),
            (false, true, false) => (FULL, "6.5 and 6.6 make 64 MiB to bounce small buffers through"),
            (false, true, true) => (
                kernel.memory.div_ceil(1024).min(FULL),
                "since 6.7, with all memory below 4 GiB: 1 MiB for each GiB, at most 64 MiB",
            ),
        };
        let (slots, areas) =
            if wanted == 0 { (0, 1) } else { rounded_slots(wanted.div_ceil(SLOT), kernel.possible_cpus) };
        let whose = match kernel.machine.as_str() {
            "aarch64" => String::new(),
            other => format!("as if this were arm64 and not {other}, "),
        };
        Self { slots, areas, rule: format!("{whose}{rule} (mem_init() in arch/arm64/mm/init.c)") }
    }
}

/// The command line says how large the pool is, or that there is none.
fn is_sized(cmdline: &str) -> bool {
    let values =
        cmdline.split_whitespace().take_while(|word| *word != "--").filter_map(|word| word.strip_prefix("swiotlb="));
    values.into_iter().any(|value| value.starts_with(|c: char| c.is_ascii_digit()) || value.contains("noforce"))
}

/// Whether "arm64: mm: reduce swiotlb size if no bouncing needed" (6.7) is in it; Android's 6.6 has it too. An unknown kernel
/// is taken to be new.
fn is_reduced(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= (6, 7) || release.contains("android15-"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{LinearMap, PoolFacts};

    fn slots(release: &str, memory_mib: u64, phys_base: u64, bounces: bool) -> u64 {
        let kernel = KernelFacts {
            release: release.into(),
            memory: memory_mib << 20,
            possible_cpus: 2,
            bounce_unaligned_kmalloc: bounces,
            linear_map: Some(LinearMap { virt_base: 0, phys_base }),
            ..KernelFacts::default()
        };
        DefaultPool::of(&kernel).slots
    }

    #[test]
    fn a_kernel_that_reaches_all_memory_has_a_mebibyte_for_each_gibibyte() {
        assert_eq!(slots("6.12.1", 970, 1 << 30, true), 512);
        assert_eq!(slots("7.3.4", 2900, 0, true), 2048, "3 MiB, rounded up to a power of two");
        assert_eq!(slots("6.6.30-android15-8", 970, 0, true), 512);
    }

    #[test]
    fn of_another_machine_it_is_said_to_be_that_of_arm64() {
        let rule =
            |machine: &str| DefaultPool::of(&KernelFacts { machine: machine.into(), ..KernelFacts::default() }).rule;
        assert!(
            rule("x86_64").starts_with("as if this were arm64 and not x86_64")
                && rule("aarch64").starts_with("all memory")
        );
    }

    #[test]
    fn before_that_it_was_64_mib_and_before_6_5_none() {
        assert_eq!(slots("6.6.17", 970, 0, true), 32768);
        assert_eq!(slots("6.1.0", 970, 0, false), 0);
    }

    #[test]
    fn memory_beyond_4_gib_has_64_mib_whatever_the_version() {
        for release in ["6.1.0", "6.6.1", "6.12.1"] {
            assert_eq!(slots(release, 3500, 1 << 30, release != "6.1.0"), 32768, "{release}");
        }
    }

    #[test]
    fn a_captured_pool_that_nobody_sized_is_the_default() {
        let with = |cmdline: &str| {
            let pool = PoolFacts { slots: 4096, areas: 4, ..PoolFacts::default() };
            let kernel = KernelFacts {
                cmdline: cmdline.into(),
                memory: 1 << 30,
                possible_cpus: 4,
                bounce_unaligned_kmalloc: true,
                pool,
                ..KernelFacts::default()
            };
            DefaultPool::of(&kernel).slots
        };
        assert_eq!(["quiet swiotlb=force", "swiotlb=4096"].map(with), [4096, 512]);
    }
}
