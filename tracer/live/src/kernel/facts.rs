//! All that the rest of the program wants to know of the running kernel, put together as [`KernelFacts`].
//!
//! What cannot be read never fails the whole: it is inferred where it can be, and said in a note that names the remedy.

use std::collections::BTreeMap;

use super::btf::Btf;
use super::machine;
use super::pool::{self, Surroundings};
use super::root::Root;
use super::slab::KmallocCaches;
use super::{build_config, cache_line, linear_map};
use bouncescope_capture::facts::{KernelFacts, PhysicalMemory};
use bouncescope_model::architecture::Architecture;
use bouncescope_model::pool::PoolParameter;
use bouncescope_model::release::Release;

/// The kernel's facts, and one line for each that could not be read.
pub fn read(root: &Root, btf: Option<&Btf>) -> (KernelFacts, Vec<String>) {
    let mut notes = Vec::new();
    let mut known = |value: Option<u64>, otherwise: u64, what: &str| {
        value.unwrap_or_else(|| {
            notes.push(format!("{what} is not readable, assuming {otherwise}"));
            otherwise
        })
    };
    let page_size = known(machine::page_size(root).map(u64::from), 4096, "the page size (/proc/self/auxv)");
    let cpus = machine::possible_cpus(root).map(u64::from);
    let possible_cpus = known(cpus, 1, "the number of CPUs (/sys/devices/system/cpu/possible)") as u32;
    let memory = known(machine::memory(root), 0, "MemTotal (/proc/meminfo)");
    let release = machine::release(root).unwrap_or_default();
    let machine = machine::machine(root);
    let cmdline = root.text("proc/cmdline").unwrap_or_else(|_| {
        notes.push("the kernel's command line (/proc/cmdline) is not readable: assuming no swiotlb=".to_owned());
        String::new()
    });
    let config = build_config::read(root, &release);
    if config.is_none() {
        notes.push(format!(
            "the kernel's configuration could not be read (/proc/config.gz, /boot/config-{release}); facts that \
             depend on it are inferred"
        ));
    }
    let line = cache_line::read(root, &machine);
    if line.guessed {
        notes.push(format!("cache_line_size() is not known here, assuming {}", line.size));
    }
    if machine::is_xen_guest(root) {
        notes.push(
            "a Xen guest: devices that map through swiotlb-xen bounce by a rule of its own, which is not modelled; verify \
             shows where it differs"
                .to_owned(),
        );
    }
    let encrypted_guest = machine::encrypted_guest(root, pool::boot_log(root).as_deref());
    let around = Surroundings {
        btf,
        release: Release::of(&release).unwrap_or(Release { major: 0, minor: 0 }),
        parameter: PoolParameter::parse(&cmdline),
        possible_cpus,
        dynamic: config.as_ref().map(|config| is_set(config, "CONFIG_SWIOTLB_DYNAMIC")),
        encrypted: encrypted_guest.is_some(),
    };
    let pool = pool::read(root, around, &mut notes);
    let caches = KmallocCaches::read(root);
    let bounces = bounces_unaligned(&machine, around.release, config.as_ref(), caches.as_ref(), &mut notes);
    let smallest = caches.as_ref().and_then(|caches| Some((caches.minalign()?, caches.source)));
    let line_at_boot = line.of_cpu.unwrap_or(line.size);
    let (kmalloc_minalign, kmalloc_minalign_source) = if let Some((minalign, source)) = smallest {
        (minalign, source.to_owned())
    } else {
        notes.push("the kmalloc caches are not readable (/sys/kernel/slab, as root /proc/slabinfo)".to_owned());
        minalign_by_rule(&machine, bounces, pool.slots > 0, line_at_boot)
    };
    let struct_page_size = btf.and_then(linear_map::struct_page_size).unwrap_or(0);
    let (linear_map, vmemmap, mapped) = match linear_map::read(root, memory, page_size, struct_page_size) {
        Ok((linear_map, vmemmap, mapped)) => (Some(linear_map), vmemmap, Some(mapped)),
        Err(error) => {
            notes.push(format!("origins of mappings can't be told: {error}"));
            (None, None, None)
        }
    };
    // What is not mapped is missing from the second.
    let mapped = || Some(PhysicalMemory { beyond_dma_zone: machine::beyond_dma_zone(root), ..mapped? });
    let physical_memory = machine::physical_memory(root).or_else(mapped);
    let facts = KernelFacts {
        version: machine::version(root).unwrap_or_default(),
        cmdline,
        page_size: page_size as u32,
        possible_cpus,
        memory,
        physical_memory,
        cache_line_size: line.size,
        cache_line_source: line.source,
        cpu_line_size: line.of_cpu,
        dma_minalign: Architecture::of(&machine).dma_minalign,
        kmalloc_minalign,
        kmalloc_minalign_source,
        bounce_unaligned_kmalloc: bounces,
        pool,
        linear_map,
        struct_page_size,
        vmemmap,
        encrypted_guest,
        config: config.unwrap_or_default(),
        release,
        machine,
    };
    (facts, notes)
}

fn is_set(config: &BTreeMap<String, String>, option: &str) -> bool {
    config.get(option).is_some_and(|value| value == "y")
}

/// `CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC`. Without the configuration: only since an architecture selects it has it kmalloc caches
/// below `ARCH_DMA_MINALIGN`, whatever a tree calls itself.
fn bounces_unaligned(
    machine: &str,
    release: Release,
    config: Option<&BTreeMap<String, String>>,
    caches: Option<&KmallocCaches>,
    notes: &mut Vec<String>,
) -> bool {
    if let Some(config) = config {
        return is_set(config, "CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC");
    }
    let Some(since) = Architecture::of(machine).bounces_small_since else { return false };
    let (bounces, because) = match caches.and_then(KmallocCaches::minalign) {
        Some(8..=32) => (true, "there are kmalloc caches of 8 to 32 bytes"),
        _ => (release >= since, "of the kernel's release"),
    };
    let answer = if bounces { "set" } else { "not set" };
    notes.push(format!("assuming that CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC is {answer}, because {because}"));
    bounces
}

/// `__kmalloc_minalign()` in `mm/slab_common.c`, for want of the caches themselves.
fn minalign_by_rule(machine: &str, bounces: bool, pool: bool, line: u32) -> (u32, String) {
    match (bounces, pool) {
        (true, true) => (8, "the rule for a kernel with a swiotlb pool".to_owned()),
        (true, false) => (line, "the rule for a kernel without swiotlb pool: cache_line_size() at boot".to_owned()),
        (false, _) => (
            Architecture::of(machine).dma_minalign,
            "ARCH_DMA_MINALIGN, since nothing bounces for alignment".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;
    use bouncescope_capture::facts::SlotRule;

    const AUXV: [u64; 4] = [6, 4096, 0, 0];

    /// What Debian's 6.12 shows on two Cortex-A72 without cache description, with a pool of 1 MiB.
    fn arm64(more: &[(&str, &str)]) -> SampleRoot {
        let sample = SampleRoot::new(&[
            ("proc/sys/kernel/osrelease", "6.12.117+deb12-arm64\n"),
            ("proc/sys/kernel/version", "#1 SMP Debian\n"),
            ("proc/sys/kernel/arch", "aarch64\n"),
            ("proc/cmdline", "console=ttyAMA0 swiotlb=512,force\n"),
            ("proc/meminfo", "MemTotal: 1000000 kB\n"),
            ("sys/devices/system/cpu/possible", "0-1\n"),
            ("sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size", "64\n"),
        ]);
        sample.write("proc/self/auxv", &AUXV.map(u64::to_le_bytes).concat());
        for (path, text) in more {
            sample.write(path, text.as_bytes());
        }
        sample
    }

    const POOL: (&str, &str) = ("sys/kernel/debug/swiotlb/io_tlb_nslabs", "512\n");
    const CONFIG: (&str, &str) = (
        "boot/config-6.12.117+deb12-arm64",
        "CONFIG_SWIOTLB=y\nCONFIG_SWIOTLB_DYNAMIC=y\nCONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC=y\n",
    );
    const CACHE_8: (&str, &str) = ("sys/kernel/slab/kmalloc-8/object_size", "8\n");

    #[test]
    fn everything_readable_gives_facts_without_notes() {
        let (facts, notes) = read(&arm64(&[POOL, CONFIG, CACHE_8]).root(), None);
        // A kcore is made in the tests of `linear_map`.
        assert!(notes.len() == 1 && notes[0].contains("/proc/kcore"), "{notes:?}");
        assert_eq!((facts.linear_map, facts.machine.as_str()), (None, "aarch64"));
        assert_eq!((facts.page_size, facts.possible_cpus, facts.memory), (4096, 2, 1_024_000_000));
        assert_eq!((facts.cache_line_size, facts.dma_minalign, facts.kmalloc_minalign), (64, 128, 8));
        assert!(facts.bounce_unaligned_kmalloc && facts.pool.force && facts.pool.dynamic);
        assert_eq!((facts.pool.slots, facts.pool.areas, facts.pool.slot_rule), (512, 2, SlotRule::PoolAligned));
        assert_eq!(facts.config["CONFIG_SWIOTLB"], "y");
    }

    #[test]
    fn without_configuration_small_caches_show_that_unaligned_buffers_bounce() {
        let (facts, notes) = read(&arm64(&[POOL, CACHE_8, ("proc/sys/kernel/osrelease", "6.1.0-vendor")]).root(), None);
        assert!(facts.bounce_unaligned_kmalloc);
        assert!(notes.iter().any(|note| note.contains("caches of 8 to 32 bytes")), "{notes:?}");
    }

    #[test]
    fn without_caches_the_minimum_alignment_follows_the_pool() {
        let (with, _) = read(&arm64(&[POOL, CONFIG]).root(), None);
        assert_eq!(with.kmalloc_minalign, 8);
        let (without, _) = read(&arm64(&[CONFIG, ("proc/cmdline", "swiotlb=noforce")]).root(), None);
        assert_eq!((without.kmalloc_minalign, without.pool.slots), (64, 0));
    }

    #[test]
    fn a_xen_guest_is_told_that_its_rule_is_not_modelled() {
        let xen = |hypervisor: &str| {
            let (_, notes) = read(&arm64(&[("sys/hypervisor/type", hypervisor)]).root(), None);
            notes.iter().any(|note| note.contains("swiotlb-xen"))
        };
        assert_eq!((xen("xen\n"), xen("other\n")), (true, false));
    }

    #[test]
    fn a_configuration_without_the_option_wins_over_the_release() {
        let (facts, _) = read(&arm64(&[POOL, (CONFIG.0, "CONFIG_SWIOTLB=y\n")]).root(), None);
        assert!(!facts.bounce_unaligned_kmalloc);
        assert_eq!(facts.kmalloc_minalign, 128);
    }

    #[test]
    fn everything_bounces_in_a_guest_whose_memory_is_encrypted() {
        let guest = |more: &[(&str, &str)]| {
            let (facts, _) = read(&arm64(&[&[("proc/cmdline", "quiet"), POOL], more].concat()).root(), None);
            (facts.encrypted_guest, facts.pool.force)
        };
        assert_eq!(guest(&[]), (None, false));
        assert_eq!(guest(&[("proc/cpuinfo", "flags\t\t: fpu tdx_guest\n")]), (Some("TDX".to_owned()), true));
        assert_eq!(guest(&[("sys/devices/system/cpu/sev/vmpl", "0\n")]), (Some("SEV-SNP".to_owned()), true));
    }

    #[test]
    fn x86_never_bounces_for_alignment() {
        let (facts, _) = read(&arm64(&[("proc/sys/kernel/arch", "x86_64")]).root(), None);
        assert!(!facts.bounce_unaligned_kmalloc);
        assert_eq!(facts.kmalloc_minalign, 8);
    }

    #[test]
    fn an_empty_system_gives_notes_and_no_panic() {
        let (facts, notes) = read(&SampleRoot::new(&[]).root(), None);
        assert_eq!((facts.page_size, facts.possible_cpus, facts.pool.slots), (4096, 1, 0));
        for what in ["page size", "CPUs", "MemTotal", "cmdline", "config", "debugfs", "kmalloc caches", "kcore"] {
            assert!(notes.iter().any(|note| note.contains(what)), "no note on {what}: {notes:?}");
        }
    }
}
