//! What an architecture means for DMA, in one table.

use tracer_ebpf::decide::ARM64_DMA_MINALIGN;

use crate::release::Release;

/// An architecture of Linux, as far as bouncing depends on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// `uname -m`.
    pub machine: &'static str,
    /// `ARCH_DMA_MINALIGN`, bytes (`arch/*/include/asm/cache.h`; where there is none, `include/linux/slab.h` takes that of kmalloc).
    pub dma_minalign: u32,
    /// Since this release it selects `CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC` (`arch/*/Kconfig`): small buffers bounce. `None`: never.
    pub bounces_small_since: Option<Release>,
    /// It selects none of `ARCH_HAS_SYNC_DMA_FOR_DEVICE`, `…_FOR_CPU` and `…_FOR_CPU_ALL`, so that every device is coherent.
    pub always_coherent: bool,
    /// What a mapping's short lengths are compared with (`dma_get_cache_alignment()`).
    pub line: Line,
}

/// Where an architecture's `dma_get_cache_alignment()` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `cache_line_size()`: what firmware describes, else the register `CTR_EL0` (`arch/arm64/kernel/cacheinfo.c`).
    CacheType,
    /// `ARCH_DMA_MINALIGN`; 1 on a CPU without cache maintenance, where every device is coherent (`dma_cache_alignment`,
    /// `arch/riscv/mm/dma-noncoherent.c`).
    MinAlign,
    /// It decides nothing.
    Nothing,
}

const ARM64: Architecture = Architecture {
    machine: "aarch64",
    dma_minalign: ARM64_DMA_MINALIGN,
    bounces_small_since: Some(Release { major: 6, minor: 5 }),
    always_coherent: false,
    line: Line::CacheType,
};

const RISCV64: Architecture = Architecture {
    machine: "riscv64",
    dma_minalign: 64,
    // With RISCV_DMA_NONCOHERENT and SWIOTLB.
    bounces_small_since: Some(Release { major: 6, minor: 6 }),
    always_coherent: false,
    line: Line::MinAlign,
};

const X86_64: Architecture = Architecture {
    machine: "x86_64",
    dma_minalign: 8,
    bounces_small_since: None,
    always_coherent: true,
    line: Line::Nothing,
};

/// One that nothing is known of: no device needs to be coherent, and no small buffer bounces.
static UNKNOWN: Architecture = Architecture {
    machine: "",
    dma_minalign: 8,
    bounces_small_since: None,
    always_coherent: false,
    line: Line::Nothing,
};

/// Those that are known, arm64 first.
pub static ARCHITECTURES: [Architecture; 6] = [
    ARM64,
    RISCV64,
    X86_64,
    Architecture { machine: "i686", ..X86_64 },
    Architecture { machine: "s390x", ..X86_64 },
    Architecture { machine: "ppc64le", ..X86_64 },
];

impl Architecture {
    /// The one that `uname -m` calls so; one without a name where it is not known.
    pub fn of(machine: &str) -> &'static Self {
        ARCHITECTURES.iter().find(|one| one.machine == machine).unwrap_or(&UNKNOWN)
    }

    /// Whether it ever bounces a buffer for being small.
    pub fn bounces_small(&self) -> bool {
        self.bounces_small_since.is_some()
    }

    /// It is arm64, whose default pools the model knows.
    pub fn is_arm64(&self) -> bool {
        *self == ARM64
    }

    /// It is 64-bit x86, whose default pools the model knows.
    pub fn is_x86(&self) -> bool {
        *self == X86_64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_name() {
        for (n, one) in ARCHITECTURES.iter().enumerate() {
            assert_eq!(ARCHITECTURES.iter().position(|other| other.machine == one.machine), Some(n));
            assert_eq!(Architecture::of(one.machine), one);
        }
        assert_eq!(Architecture::of("loongarch64").machine, "");
        assert!(Architecture::of("x86_64").is_x86() && !Architecture::of("i686").is_x86());
    }

    #[test]
    fn small_buffers_bounce_only_where_devices_may_be_incoherent() {
        assert!(ARCHITECTURES.iter().all(|one| !(one.always_coherent && one.bounces_small())));
        assert!(ARCHITECTURES.iter().all(|one| (one.line == Line::Nothing) != one.bounces_small()));
    }
}
