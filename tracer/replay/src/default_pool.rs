//! Which pool the captured kernel makes of `swiotlb=`, or without it: its facts, for [`bouncescope_model::pool::Boot`], which has the
//! arithmetic.
//!
//! Mirrors `mem_init()` in `arch/arm64/mm/init.c` (`arch_mm_preinit()` from 6.16 on), and of x86 `pci_swiotlb_detect()` in
//! `arch/x86/kernel/pci-dma.c` and `mem_encrypt_setup_arch()` in `arch/x86/mm/mem_encrypt.c` (6.1 to 7.3).

use bouncescope_capture::facts::KernelFacts;
use bouncescope_capture::facts::Release;
use bouncescope_model::architecture::Architecture;
use bouncescope_model::pool::{Asked, Boot, ByDefault, DEFAULT_SLOTS, Made, PoolParameter, SLOT};

/// The end of what 32 bits reach: without a device tree or table that narrows it, the end of the zone that all devices reach
/// (`arm64_dma_phys_limit`).
const DMA_LIMIT: u64 = 4 << 30;

/// How a kernel makes its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRule {
    boot: Boot,
    /// The pool of the captured kernel, where no number gave it its size: it is the default.
    captured: Option<(u64, u32)>,
    /// The largest default that the facts allow, where they do not tell it: slots.
    at_most: Option<u64>,
    rule: String,
    /// The rule is the architecture's own, and not arm64's for want of it.
    is_own: bool,
}

/// The pool that a kernel makes by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultPool {
    /// Slots; 0 where the kernel makes no pool.
    pub slots: u64,
    /// Areas.
    pub areas: u32,
    /// It may have as many, where the capture does not tell enough of the memory.
    pub at_most: Option<u64>,
    /// The rule that it comes from, in words.
    pub rule: String,
}

impl PoolRule {
    /// Of the captured kernel.
    pub fn of(kernel: &KernelFacts) -> Self {
        let has_areas = kernel.release_numbers().is_none_or(|release| release.is_at_least(6, 0));
        let configured = kernel.config.get("CONFIG_SWIOTLB_DEFAULT_SIZE_MB").and_then(|mib| mib.parse::<u64>().ok());
        let default_slots = configured.map_or(DEFAULT_SLOTS, |mib| mib.clamp(1, 64) * (1 << 20) / SLOT);
        let memory = Memory::of(kernel);
        let (default, rule) = by_default(kernel, &memory, default_slots);
        let boot = Boot { possible_cpus: kernel.possible_cpus, has_areas, default_slots, default };
        let architecture = Architecture::of(&kernel.machine);
        let is_own = architecture.is_arm64() || architecture.is_x86();
        let parameter = PoolParameter::parse(&kernel.cmdline);
        let is_sized = parameter.noforce || parameter.slots.is_some_and(|slots| !boot.sized(slots).is_default);
        if kernel.pool.slots > 0 && !is_sized {
            let rule = "the captured pool, whose size was not set on the kernel's command line".to_owned();
            let captured = Some((kernel.pool.slots, kernel.pool.areas.max(1)));
            return Self { boot, captured, at_most: None, rule, is_own };
        }
        let whose = if is_own { String::new() } else { format!("as if this were arm64 and not {}, ", kernel.machine) };
        // A hole in the memory, or what firmware keeps of it, may make it reach further.
        let full = Boot { default: ByDefault::Full, ..boot }.made(Asked::default()).slots;
        let depends = memory.is_estimate && !matches!(default, ByDefault::Enlarged(_));
        let at_most = depends.then_some(full).filter(|full| *full > boot.made(Asked::default()).slots);
        let rule = format!("{whose}{rule}");
        Self { boot, captured: None, at_most, rule, is_own }
    }

    /// The pool without `swiotlb=`.
    pub fn default(&self) -> DefaultPool {
        let made = self.boot.made(Asked::default());
        let (slots, areas) = self.captured.unwrap_or((made.slots, made.areas));
        DefaultPool { slots, areas, at_most: self.at_most, rule: self.rule.clone() }
    }

    /// The pool with `swiotlb=slots`.
    pub fn sized(&self, slots: u64) -> Made {
        let made = self.boot.sized(slots);
        if made.is_default && !self.is_own {
            return Boot { default: ByDefault::Full, ..self.boot }.sized(slots);
        }
        if made.is_default {
            let DefaultPool { slots, areas, .. } = self.default();
            return Made { slots, areas, is_default: true };
        }
        made
    }

    /// The number that makes a pool of exactly so many slots, as [`Boot::parameter_for`].
    pub fn parameter_for(&self, slots: u64) -> Option<u64> {
        self.boot.parameter_for(slots)
    }

    /// Every size that the kernel could make, as [`Boot::sizes`].
    pub fn sizes(&self, most: u64) -> impl Iterator<Item = u64> + use<> {
        self.boot.sizes(most)
    }

    /// What is made of `swiotlb=slots` where it is not what was asked for, in words.
    pub fn unlike_asked(&self, slots: u64) -> Option<String> {
        let made = self.sized(slots);
        if made.slots == slots {
            return None;
        }
        let why = match made.is_default {
            true if made.slots == 0 => {
                "the kernel cannot tell that number from its default, and makes no pool by default"
            }
            true => "the kernel cannot tell that number from its default, and makes its default pool",
            false => "the kernel rounds up: a power of two, at least 128 for each possible CPU",
        };
        let instead = match self.parameter_for(slots).filter(|_| made.is_default) {
            Some(number) => format!("; swiotlb={number} makes {slots}"),
            None => String::new(),
        };
        Some(format!("swiotlb={slots} makes {} slots: {why}{instead}", made.slots))
    }
}

/// The memory, as far as the capture tells.
struct Memory {
    /// `memblock_phys_mem_size()`, bytes.
    bytes: u64,
    /// Some of it lies beyond the zone that all devices reach.
    is_beyond_limit: bool,
    /// Neither is known for certain.
    is_estimate: bool,
}

impl Memory {
    fn of(kernel: &KernelFacts) -> Self {
        if let Some(physical) = kernel.physical_memory {
            let bytes = if physical.bytes > 0 { physical.bytes } else { kernel.memory };
            let is_beyond_limit = physical.beyond_dma_zone.unwrap_or(physical.end > DMA_LIMIT);
            return Self { bytes, is_beyond_limit, is_estimate: false };
        }
        // `MemTotal` is what the kernel left of the memory, which may have holes. Without a linear map it may begin anywhere, and is taken
        // to begin at 0.
        let start = kernel.linear_map.map_or(0, |map| map.phys_base);
        let is_beyond_limit = start.saturating_add(kernel.memory) > DMA_LIMIT;
        Self { bytes: kernel.memory, is_beyond_limit, is_estimate: !is_beyond_limit }
    }
}

/// The rule, and it in words.
fn by_default(kernel: &KernelFacts, memory: &Memory, default_slots: u64) -> (ByDefault, String) {
    let full = format!("{} MiB", (default_slots * SLOT) >> 20);
    let (default, rule, place) = if Architecture::of(&kernel.machine).is_x86() {
        by_default_on_x86(kernel, memory, &full)
    } else {
        let (default, rule) = by_default_on_arm64(kernel, memory, default_slots);
        (default, rule, "mem_init() in arch/arm64/mm/init.c")
    };
    (default, format!("{rule} ({place})"))
}

/// The rule of x86, it in words, and where the kernel has it. That a host which encrypts its own memory (SME) has a pool too is left out: one
/// with no memory beyond 4 GiB is not known of.
fn by_default_on_x86(kernel: &KernelFacts, memory: &Memory, full: &str) -> (ByDefault, String, &'static str) {
    const DETECT: &str = "pci_swiotlb_detect() in arch/x86/kernel/pci-dma.c";
    const ENCRYPTED: &str = "mem_encrypt_setup_arch() in arch/x86/mm/mem_encrypt.c";
    // The zones of x86 below 4 GiB are those that devices of 24 and 32 bits reach: `MAX_DMA32_PFN` alone decides.
    let is_beyond_limit = match kernel.physical_memory {
        Some(physical) => physical.end > DMA_LIMIT,
        None => memory.is_beyond_limit,
    };
    let asks = |word: &str| {
        let kernel_part = kernel.cmdline.split_whitespace().take_while(|&word| word != "--");
        kernel_part.filter_map(|part| part.strip_prefix("iommu=")).any(|words| words.split(',').any(|one| one == word))
    };
    let is_forced = PoolParameter::parse(&kernel.cmdline).force;
    if let Some(guest) = &kernel.encrypted_guest {
        let rule = format!("the memory of this guest is encrypted ({guest}): 6 % of it, {full} to 1 GiB");
        return (ByDefault::Enlarged(memory.bytes), rule, ENCRYPTED);
    }
    let (default, rule) = match (is_beyond_limit && !asks("off"), asks("soft"), is_forced) {
        (true, ..) => (ByDefault::Full, format!("memory reaches beyond 4 GiB, which not all devices reach: {full}")),
        (false, true, _) => (ByDefault::Full, format!("iommu=soft: {full}")),
        (false, false, true) => (ByDefault::Full, format!("swiotlb=force: {full}")),
        (false, false, false) if is_beyond_limit => (ByDefault::None, "iommu=off: none".to_owned()),
        (false, false, false) => {
            (ByDefault::None, "all memory is below 4 GiB, and x86 bounces nothing for its length: none".to_owned())
        }
    };
    (default, rule, DETECT)
}

/// The rule of arm64, and it in words.
fn by_default_on_arm64(kernel: &KernelFacts, memory: &Memory, default_slots: u64) -> (ByDefault, String) {
    let full = format!("{} MiB", (default_slots * SLOT) >> 20);
    if let Some(guest) = &kernel.encrypted_guest {
        return (ByDefault::Full, format!("the memory of this guest is encrypted ({guest}): {full}"));
    }
    match (memory.is_beyond_limit, kernel.bounce_unaligned_kmalloc, is_reduced(&kernel.release)) {
        (true, ..) => (ByDefault::Full, format!("memory reaches beyond 4 GiB, which not all devices reach: {full}")),
        (false, false, _) => {
            (ByDefault::None, "all memory is below 4 GiB, and nothing bounces for alignment: none".to_owned())
        }
        (false, true, false) => (ByDefault::Full, format!("6.5 and 6.6 make {full} to bounce small buffers through")),
        (false, true, true) => (
            ByDefault::Reduced(memory.bytes),
            format!("since 6.7, with all memory below 4 GiB: 1 MiB for each GiB, at most {full}"),
        ),
    }
}

/// Whether "arm64: mm: reduce swiotlb size if no bouncing needed" (6.7) is in it; Android's 6.6 has it too. An unknown kernel
/// is taken to be new.
fn is_reduced(name: &str) -> bool {
    Release::of(name).is_none_or(|release| release.is_at_least(6, 7)) || name.contains("android15-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::{LinearMap, PhysicalMemory, PoolFacts};

    fn kernel(release: &str, memory_mib: u64, phys_base: u64, bounces: bool) -> KernelFacts {
        KernelFacts {
            release: release.into(),
            machine: "aarch64".into(),
            memory: memory_mib << 20,
            possible_cpus: 2,
            bounce_unaligned_kmalloc: bounces,
            linear_map: Some(LinearMap { virt_base: 0, phys_base }),
            ..KernelFacts::default()
        }
    }

    fn slots(release: &str, memory_mib: u64, phys_base: u64, bounces: bool) -> u64 {
        PoolRule::of(&kernel(release, memory_mib, phys_base, bounces)).default().slots
    }

    #[test]
    fn a_kernel_that_reaches_all_memory_has_a_mebibyte_for_each_gibibyte() {
        assert_eq!(slots("6.12.1", 970, 1 << 30, true), 512);
        assert_eq!(slots("7.3.4", 2900, 0, true), 2048, "3 MiB, rounded up to a power of two");
        assert_eq!(slots("6.6.30-android15-8", 970, 0, true), 512);
    }

    #[test]
    fn of_another_machine_it_is_said_to_be_that_of_arm64() {
        let rule = |machine: &str| {
            PoolRule::of(&KernelFacts { machine: machine.into(), ..KernelFacts::default() }).default().rule
        };
        assert!(
            rule("riscv64").starts_with("as if this were arm64 and not riscv64")
                && rule("aarch64").starts_with("all memory")
        );
    }

    fn x86(memory_mib: u64, cmdline: &str, encrypted: Option<&str>) -> KernelFacts {
        let physical = PhysicalMemory { end: memory_mib << 20, bytes: memory_mib << 20, beyond_dma_zone: Some(true) };
        KernelFacts {
            machine: "x86_64".into(),
            cmdline: cmdline.into(),
            encrypted_guest: encrypted.map(str::to_owned),
            physical_memory: Some(physical),
            ..kernel("6.12.1", memory_mib, 0, false)
        }
    }

    #[test]
    fn x86_has_a_pool_beyond_4_gib_and_where_it_is_asked_for() {
        let made = |memory_mib, cmdline| PoolRule::of(&x86(memory_mib, cmdline, None)).default();
        let slots = |memory_mib, cmdline| made(memory_mib, cmdline).slots;
        assert_eq!([slots(1024, ""), slots(8192, ""), slots(8192, "iommu=off")], [0, 32768, 0]);
        assert_eq!(
            [slots(1024, "iommu=soft"), slots(1024, "swiotlb=force"), slots(8192, "iommu=off,x swiotlb=force")],
            [32768; 3]
        );
        assert!(made(1024, "").rule.contains("x86 bounces nothing for its length: none (pci_swiotlb_detect()"));
        assert_eq!(made(1024, "").at_most, None);
    }

    #[test]
    fn guests_with_encrypted_memory_have_more_on_x86_and_the_full_default_on_arm64() {
        let made = |memory_mib| PoolRule::of(&x86(memory_mib, "", Some("TDX"))).default();
        assert_eq!([512, 2048, 65536].map(|memory_mib| made(memory_mib).slots), [32768, 65536, 1 << 19]);
        assert!(made(512).rule.contains("(TDX): 6 % of it, 64 MiB to 1 GiB (mem_encrypt_setup_arch()"));
        let realm = KernelFacts { encrypted_guest: Some("a realm".into()), ..kernel("6.14.1", 1024, 1 << 30, true) };
        assert_eq!(PoolRule::of(&realm).default().slots, 32768);
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

    /// Guests of the lab with memory from 1 GiB on, booted without `swiotlb=`: 6.12.118 made these.
    #[test]
    fn the_end_of_memory_and_all_of_it_count_and_not_what_the_kernel_left() {
        let booted = |mem_total_kib: u64, mib: u64, beyond| {
            let physical = PhysicalMemory { end: (1 << 30) + (mib << 20), bytes: mib << 20, beyond_dma_zone: beyond };
            let kernel = KernelFacts {
                memory: mem_total_kib << 10,
                physical_memory: Some(physical),
                ..kernel("6.12.118", 0, 1 << 30, true)
            };
            let pool = PoolRule::of(&kernel).default();
            (pool.slots, pool.at_most)
        };
        assert_eq!(booted(1_020_000, 1050, None), (1024, None));
        assert_eq!(booted(3_088_000, 3100, None), (32768, None));
        assert_eq!(booted(6_100_000, 6144, Some(true)), (32768, None));
        assert_eq!(booted(3_088_000, 3100, Some(false)), (2048, None), "a device tree that lets all devices reach it");
    }

    #[test]
    fn a_capture_that_does_not_tell_where_memory_ends_leaves_a_range() {
        let pool = PoolRule::of(&kernel("6.12.1", 3000, 1 << 30, true)).default();
        assert_eq!((pool.slots, pool.at_most), (2048, Some(32768)));
        let beyond = PoolRule::of(&kernel("6.12.1", 3500, 1 << 30, true)).default();
        assert_eq!((beyond.slots, beyond.at_most), (32768, None));
    }

    #[test]
    fn the_configured_default_is_heeded() {
        let config = [("CONFIG_SWIOTLB_DEFAULT_SIZE_MB".to_owned(), "2".to_owned())].into();
        let beyond = KernelFacts { config, ..kernel("7.3.4", 8000, 0, true) };
        let rule = PoolRule::of(&beyond);
        assert_eq!(rule.default().slots, 1024);
        assert!(rule.default().rule.contains("2 MiB"));
        assert!(rule.sized(1024).is_default && rule.sized(32768).slots == 32768);
    }

    #[test]
    fn a_captured_pool_that_nobody_sized_is_the_default() {
        let with = |cmdline: &str| {
            let pool = PoolFacts { slots: 4096, areas: 4, ..PoolFacts::default() };
            let kernel =
                KernelFacts { cmdline: cmdline.into(), possible_cpus: 4, pool, ..kernel("6.12.1", 1024, 0, true) };
            PoolRule::of(&kernel).default().slots
        };
        let cmdlines = ["quiet swiotlb=force", "swiotlb=4096", "swiotlb=32768,force"];
        assert_eq!(cmdlines.map(with), [4096, 512, 4096], "32768 is as if nothing had been asked for");
    }

    #[test]
    fn what_is_not_made_as_asked_is_said_with_what_makes_it() {
        let rule = PoolRule::of(&kernel("6.12.1", 1000, 1 << 30, true));
        let said = rule.unlike_asked(32768).unwrap();
        assert!(said.contains("makes 512 slots") && said.contains("swiotlb=32640 makes 32768"), "{said}");
        assert!(rule.unlike_asked(100).unwrap().contains("makes 256 slots"));
        assert_eq!(rule.unlike_asked(1024), None);
    }
}
