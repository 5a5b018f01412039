//! The table of boots in which truth tables are made, and the tables made in each.

use tracer_ebpf::decide::{BIDIRECTIONAL, FROM_DEVICE, TO_DEVICE};

use crate::machine::{LONG_LINES, warns_of_lines};

/// One boot, of a machine that is not coherent.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// By which it is asked for and shown.
    pub(crate) name: &'static str,
    /// Model of the CPUs.
    pub(super) cpu: &'static str,
    /// What `cache_line_size()` must be, bytes.
    pub(super) line: u32,
    /// Cache lines said by the device tree instead of `CTR_EL0`.
    pub(super) line_in_tree: bool,
    /// PCI devices behind an SMMU.
    pub(super) smmu: bool,
    /// There is a pool to bounce through; else what may not stay is refused.
    pub(super) pool: bool,
    /// What is made.
    pub(crate) tables: &'static [Made],
}

/// One table.
#[derive(Debug)]
pub(crate) struct Made {
    /// By which it is shown, and its file is called.
    pub(crate) name: &'static str,
    /// The module's parameters.
    parameters: &'static str,
    /// What the device is.
    pub(super) coherence: Coherence,
    /// The device maps through an IOMMU.
    pub(super) iommu: bool,
}

/// Whether a device is coherent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coherence {
    /// As the kernel makes of a device tree that does not say so.
    Kernel,
    /// The module says that it is.
    Yes,
    /// The module says that it is not.
    No,
}

impl Coherence {
    /// What the device must turn out to be. From 7.3 on, a CPU whose caches need no maintenance (`CLIDR_EL1.LoC` is 0, as of
    /// QEMU's a64fx) makes every device coherent that firmware describes, whatever it says.
    pub(super) fn is_coherent(self, kernel_version: (u32, u32), level_of_coherence: u32) -> bool {
        match self {
            Self::Kernel => kernel_version >= (7, 3) && level_of_coherence == 0,
            Self::Yes => true,
            Self::No => false,
        }
    }
}

const fn made(name: &'static str, parameters: &'static str, coherence: Coherence, iommu: bool) -> Made {
    Made { name, parameters, coherence, iommu }
}

// The kernel sees nothing of the module's own device but that it is there.
const PLATFORM: Made = made("platform", "device=platform", Coherence::No, false);
const PLATFORM_COHERENT: Made = made("platform-coherent", "device=platform coherent=1", Coherence::Yes, false);
const DIRECT: &[Made] = &[PLATFORM, PLATFORM_COHERENT, made("pci", "device=pci", Coherence::Kernel, false)];
const SMMU: &[Made] = &[
    made("pci", "device=pci", Coherence::Kernel, true),
    made("pci-segments", "device=pci max_segment=12288 boundary=16383", Coherence::Kernel, true),
    made("pci-coherent", "device=pci coherent=1", Coherence::Yes, true),
];
// What 7.3 makes coherent is tried as not coherent, too.
const DIRECT_A64FX: &[Made] = &[
    PLATFORM,
    PLATFORM_COHERENT,
    made("pci", "device=pci", Coherence::Kernel, false),
    made("pci-noncoherent", "device=pci coherent=0", Coherence::No, false),
];
const SMMU_A64FX: &[Made] = &[
    made("pci", "device=pci", Coherence::Kernel, true),
    made("pci-noncoherent", "device=pci coherent=0", Coherence::No, true),
    made("pci-coherent", "device=pci coherent=1", Coherence::Yes, true),
];

/// Every boot, in the order in which they run.
pub(crate) const ALL: [Scenario; 8] = [
    boot("truth-64", "cortex-a72", 64, false, DIRECT),
    boot("truth-64-smmu", "cortex-a72", 64, true, SMMU),
    // No CPU that QEMU knows has CWG = 5: the device tree says what a 128 byte second level would.
    boot("truth-128", "cortex-a72", 128, false, DIRECT),
    boot("truth-128-smmu", "cortex-a72", 128, true, SMMU),
    boot("truth-256", LONG_LINES, 256, false, DIRECT_A64FX),
    boot("truth-256-smmu", LONG_LINES, 256, true, SMMU_A64FX),
    // Without a pool caches begin at the line size that the CPU tells, 64. That the device tree knows of longer lines comes
    // too late for them: some objects do not fill lines, and cannot bounce.
    Scenario { pool: false, ..boot("truth-noforce", "cortex-a72", 128, false, DIRECT) },
    Scenario { pool: false, ..boot("truth-noforce-smmu", "cortex-a72", 128, true, SMMU) },
];

const fn boot(name: &'static str, cpu: &'static str, line: u32, smmu: bool, tables: &'static [Made]) -> Scenario {
    Scenario { name, cpu, line, line_in_tree: line == 128, smmu, pool: true, tables }
}

impl Scenario {
    /// Init's script.
    pub(super) fn script(&self) -> String {
        self.tables.iter().flat_map(|made| [made.name, " truth ", made.parameters, "\n"]).collect()
    }

    /// What goes onto the kernel's command line.
    pub(super) fn parameters(&self) -> &'static str {
        if self.pool { "" } else { "swiotlb=noforce" }
    }

    /// What `kmalloc(8)` must give, bytes.
    pub(super) fn smallest_object(&self) -> u64 {
        if self.pool { 8 } else { 64 }
    }

    /// Whether a complaint of the kernel comes with the machine: of long lines, or of the first mapping that is refused without
    /// IOMMU (`kernel/dma/direct.[ch]`).
    pub(super) fn explains(&self, trouble: &str) -> bool {
        let refusal = !self.pool && !self.smmu && trouble.contains("kernel/dma/direct.");
        warns_of_lines(self.line, trouble) || trouble.contains("WARNING: ") && refusal
    }
}

/// What every table must have, whichever kernel made it.
pub(super) mod wanted {
    use super::{BIDIRECTIONAL, FROM_DEVICE, TO_DEVICE};

    /// Directions of everything.
    pub(crate) const DIRECTIONS: [u8; 3] = [BIDIRECTIONAL, TO_DEVICE, FROM_DEVICE];
    /// Lengths, from 1 on, of buffers that are objects of their own.
    pub(crate) const LONGEST: u64 = 1024;
    /// Lengths, from 1 on, of buffers inside larger objects.
    pub(crate) const LONGEST_PART: u64 = 256;
    /// Different lists, at least.
    pub(crate) const LISTS: usize = 73;
    /// Mappings held at once that there must be for some length, besides more than the pool has slots.
    pub(crate) const HELD: [u64; 3] = [1, 10, 100];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_size_is_tried_on_both_paths() {
        for line in [64, 128, 256] {
            let paths: Vec<_> =
                ALL.iter().filter(|boot| boot.line == line && boot.pool).map(|boot| boot.smmu).collect();
            assert_eq!(paths, [false, true]);
        }
    }

    #[test]
    fn a_script_names_mode_and_parameters() {
        assert_eq!(
            ALL[1].script(),
            "pci truth device=pci\npci-segments truth device=pci max_segment=12288 boundary=16383\npci-coherent truth device=pci coherent=1\n"
        );
    }

    #[test]
    fn caches_without_maintenance_make_devices_coherent_from_7_3_on() {
        assert!(Coherence::Kernel.is_coherent((7, 3), 0));
        assert!(!Coherence::Kernel.is_coherent((7, 3), 2) && !Coherence::Kernel.is_coherent((6, 12), 0));
        assert!(!Coherence::No.is_coherent((7, 3), 0) && Coherence::Yes.is_coherent((6, 12), 2));
    }

    #[test]
    fn only_lines_longer_than_the_architecture_s_explain_a_warning() {
        let warning =
            "console: [ 1.0] WARNING: CPU: 0 PID: 1 at arch/arm64/mm/dma-mapping.c:55 arch_setup_dma_ops+0x5c";
        assert!(ALL[4].explains(warning) && !ALL[4].explains("console: Kernel panic"));
        assert!(!ALL[0].explains(warning) && !ALL[2].explains(warning));
    }

    #[test]
    fn only_a_kernel_without_pool_may_warn_of_a_refusal() {
        let warning =
            "console: [ 3.4] WARNING: kernel/dma/direct.c:718 at dma_direct_map_phys+0x32c/0x360, CPU#1: init/1";
        let explaining = ALL.iter().filter(|boot| boot.explains(warning)).map(|boot| boot.name);
        assert_eq!(explaining.collect::<Vec<_>>(), ["truth-noforce"]);
    }
}
