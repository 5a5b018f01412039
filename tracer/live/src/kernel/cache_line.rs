//! `dma_get_cache_alignment()`, which decides what bounces: on arm64 `cache_line_size()`, elsewhere a constant.

use super::root::Root;
use bouncescope_model::architecture::{Architecture, Line};

/// A size, and how it was learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLine {
    /// Bytes.
    pub size: u32,
    /// For people: the file or register.
    pub source: String,
    /// Nothing told it: the size is a guess.
    pub guessed: bool,
    /// What the CPU itself says, bytes.
    pub of_cpu: Option<u32>,
}

/// The line size that `machine`'s kernel uses.
///
/// arm64 (`cache_line_size()` in `arch/arm64/kernel/cacheinfo.c`): the largest `coherency_line_size` of any cache when
/// the firmware (device tree, ACPI PPTT) gave one, else `4 << CTR_EL0.CWG`, else `ARCH_DMA_MINALIGN`. sysfs shows a
/// cache's `coherency_line_size` only when it is not 0, and on arm64 nothing but firmware sets it, so that the maximum
/// over sysfs is `coherency_max_size`.
///
/// riscv (`dma_cache_alignment` in `arch/riscv/mm/dma-noncoherent.c`): `ARCH_DMA_MINALIGN`; 1 on a CPU without cache maintenance, where no
/// device may be non-coherent. Elsewhere it is no part of the decision and taken from sysfs alone.
pub fn read(root: &Root, machine: &str) -> CacheLine {
    let architecture = Architecture::of(machine);
    match architecture.line {
        Line::CacheType => with_register(largest_coherency_line(root), cache_type_register()),
        Line::MinAlign => {
            let source = "ARCH_DMA_MINALIGN; riscv asks no cache".to_owned();
            CacheLine { size: architecture.dma_minalign, source, guessed: false, of_cpu: None }
        }
        Line::Nothing => with_register(largest_coherency_line(root), None),
    }
}

/// With what firmware described, bytes, and `CTR_EL0` of the CPU that this runs on. The kernel reads it on the one that boots it; where CPUs
/// differ, reads from user space are made to give the largest of all (`CTR_EL0_CWG_SHIFT` in `arch/arm64/kernel/cpufeature.c`).
fn with_register(described: Option<u32>, register: Option<u64>) -> CacheLine {
    let cpu = register.map(from_cache_type);
    let of_cpu = cpu.as_ref().map(|(size, _)| *size);
    let (size, source) = match (described, cpu) {
        (Some(size), _) => (size, "coherency_line_size in /sys/devices/system/cpu/cpu*/cache".to_owned()),
        (None, Some(cpu)) => cpu,
        (None, None) => return CacheLine { size: 64, source: "assumed".to_owned(), guessed: true, of_cpu },
    };
    CacheLine { size, source, guessed: false, of_cpu }
}

/// The largest line of any cache of any CPU, bytes; `None` when the firmware described none.
fn largest_coherency_line(root: &Root) -> Option<u32> {
    const CPUS: &str = "sys/devices/system/cpu";
    let is_cpu = |name: &String| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok());
    let caches = root.names(CPUS).filter(is_cpu).flat_map(|cpu| {
        let dir = format!("{CPUS}/{cpu}/cache");
        let indices: Vec<_> = root.names(&dir).filter(|name| name.starts_with("index")).collect();
        indices.into_iter().map(move |index| format!("{dir}/{index}/coherency_line_size"))
    });
    caches.filter_map(|path| u32::try_from(root.number(&path)?).ok()).max().filter(|&size| size > 0)
}

/// `cache_type_cwg()` and what `cache_line_size_of_cpu()` makes of it (`arch/arm64/include/asm/cache.h`): bytes, and why.
fn from_cache_type(ctr: u64) -> (u32, String) {
    match ctr >> 24 & 0xf {
        0 => (tracer_ebpf::decide::ARM64_DMA_MINALIGN, "ARCH_DMA_MINALIGN, since CTR_EL0.CWG is 0".to_owned()),
        cwg => (4 << cwg, format!("CTR_EL0.CWG = {cwg}")),
    }
}

#[cfg(target_arch = "aarch64")]
#[expect(clippy::unnecessary_wraps, reason = "other architectures have no such register")]
fn cache_type_register() -> Option<u64> {
    let ctr: u64;
    // SAFETY: reads a register without side effects. Linux lets user space read CTR_EL0 (SCTLR_EL1.UCT), or, on systems
    // with mismatched caches, traps and emulates the read.
    unsafe { std::arch::asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    Some(ctr)
}

#[cfg(not(target_arch = "aarch64"))]
fn cache_type_register() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    #[test]
    fn the_largest_line_of_any_cache_counts() {
        let sample = SampleRoot::new(&[
            ("sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size", "64\n"),
            ("sys/devices/system/cpu/cpu1/cache/index2/coherency_line_size", "128\n"),
            ("sys/devices/system/cpu/cpufreq/cache/index0/coherency_line_size", "512\n"),
        ]);
        assert_eq!(read(&sample.root(), "aarch64").size, 128);
    }

    #[test]
    fn riscv_goes_by_a_constant() {
        let sample = SampleRoot::new(&[("sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size", "128\n")]);
        assert_eq!(read(&sample.root(), "riscv64").size, 64);
    }

    #[test]
    fn caches_without_a_line_size_do_not_count() {
        let sample = SampleRoot::new(&[("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n")]);
        assert_eq!(largest_coherency_line(&sample.root()), None);
    }

    #[test]
    fn the_write_back_granule_is_four_bytes_shifted() {
        assert_eq!(from_cache_type(0x8444_c004).0, 64);
        assert_eq!(from_cache_type(0x8644_c004).0, 256);
        assert_eq!(from_cache_type(0x8044_c004).0, 128);
    }

    #[test]
    fn what_the_cpu_says_is_kept_beside_what_firmware_says() {
        let line = with_register(Some(128), Some(0x8444_c004));
        assert_eq!((line.size, line.of_cpu), (128, Some(64)));
        let line = with_register(None, Some(0x8444_c004));
        assert_eq!((line.size, line.of_cpu), (64, Some(64)));
        assert_eq!(with_register(Some(128), None).of_cpu, None);
    }

    #[test]
    fn a_guess_says_that_it_is_one() {
        let sample = SampleRoot::new(&[]);
        assert!(read(&sample.root(), "s390x").guessed);
    }
}
