//! The machine and the kernel's own name: release, command line, page size, CPUs, memory. What depends on the kernel's
//! configuration is in [`super::facts`].

use super::root::Root;
use bouncescope_capture::facts::PhysicalMemory;

/// `uname -r`.
pub(super) fn release(root: &Root) -> Option<String> {
    root.text("proc/sys/kernel/osrelease").ok()
}

/// Whether the kernel runs on Xen, and may have `xen_swiotlb_dma_ops` for its devices (`xen_swiotlb_detect()`,
/// `arch/arm/xen/mm.c`).
pub(super) fn is_xen_guest(root: &Root) -> bool {
    root.text("sys/hypervisor/type").is_ok_and(|name| name.trim() == "xen")
}

/// What encrypts the memory of this guest, so that it can share none of it with a device but what it marks as shared: `None` where nothing
/// does.
///
/// x86 (`CC_ATTR_GUEST_MEM_ENCRYPT`) and arm64 (`is_realm_world()`) tell it in the boot log alone: `print_mem_encrypt_feature_info()`
/// in `arch/x86/mm/mem_encrypt.c`, `tdx_early_init()` in `arch/x86/coco/tdx/tdx.c`, `arm64_rsi_init()` in `arch/arm64/kernel/rsi.c`. The log
/// may have lost its beginning by now: TDX is a CPU's flag too, and a guest of SEV-SNP has its level of privilege in sysfs (6.12 on).
/// A guest of pKVM is none of these: its devices have restricted pools of the device tree.
pub(super) fn encrypted_guest(root: &Root, log: Option<&str>) -> Option<String> {
    let flags = root.text("proc/cpuinfo").unwrap_or_default();
    let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if flags.split_whitespace().any(|flag| flag == "tdx_guest") {
        return Some("TDX".to_owned());
    }
    if root.path("sys/devices/system/cpu/sev/vmpl").exists() {
        return Some("SEV-SNP".to_owned());
    }
    encrypted_in_log(log?).map(str::to_owned)
}

fn encrypted_in_log(log: &str) -> Option<&'static str> {
    let features = log.lines().find_map(|line| line.split_once("Memory Encryption Features active:"));
    let has = |word: &str| features.is_some_and(|(_, names)| names.split_whitespace().any(|name| name == word));
    [("SEV-SNP", "SEV-SNP"), ("SEV-ES", "SEV-ES"), ("SEV", "SEV"), ("TDX", "TDX")]
        .into_iter()
        .find_map(|(word, name)| has(word).then_some(name))
        .or_else(|| log.contains("tdx: Guest detected").then_some("TDX"))
        .or_else(|| log.contains("RME: Using RSI version").then_some("a realm of arm CCA"))
}

/// `uname -v`.
pub(super) fn version(root: &Root) -> Option<String> {
    root.text("proc/sys/kernel/version").ok()
}

/// `uname -m`; kernels before 6.1 show it in no file, and this program then runs on the machine it was built for.
pub(super) fn machine(root: &Root) -> String {
    root.text("proc/sys/kernel/arch").unwrap_or_else(|_| std::env::consts::ARCH.to_owned())
}

/// `AT_PAGESZ` of the auxiliary vector that the kernel gave this process.
pub(super) fn page_size(root: &Root) -> Option<u32> {
    const AT_PAGESZ: u64 = 6;
    let auxv = std::fs::read(root.path("proc/self/auxv")).ok()?;
    let words: Vec<u64> = auxv.chunks_exact(8).filter_map(|c| Some(u64::from_le_bytes(c.try_into().ok()?))).collect();
    words.chunks_exact(2).find(|pair| pair[0] == AT_PAGESZ).and_then(|pair| u32::try_from(pair[1]).ok())
}

/// `num_possible_cpus()`.
pub(super) fn possible_cpus(root: &Root) -> Option<u32> {
    cpus_in(&root.text("sys/devices/system/cpu/possible").ok()?)
}

/// How many CPUs a list such as `0-3,6` names.
fn cpus_in(cpu_list: &str) -> Option<u32> {
    cpu_list.split(',').try_fold(0u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// `MemTotal`, bytes.
pub(super) fn memory(root: &Root) -> Option<u64> {
    let text = root.text("proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The memory that the machine has, from `/proc/iomem`, which shows addresses to root alone.
pub(super) fn physical_memory(root: &Root) -> Option<PhysicalMemory> {
    let memory = memory_in(&root.text("proc/iomem").ok()?)?;
    Some(PhysicalMemory { beyond_dma_zone: beyond_dma_zone(root), ..memory })
}

/// Of lines such as `40000000-7fffffff : System RAM`. Beside these, arm64 lists memory that it does not map (`memblock_is_nomap()` in
/// `request_standard_resources()`, `arch/arm64/kernel/setup.c`) as `reserved`; what is indented is inside of another.
fn memory_in(iomem: &str) -> Option<PhysicalMemory> {
    let mut memory = PhysicalMemory::default();
    for line in iomem.lines() {
        let Some((range, name)) = line.split_once(" : ") else { continue };
        if range.starts_with(' ') || !matches!(name.trim(), "System RAM" | "reserved") {
            continue;
        }
        let (first, last) = range.trim().split_once('-')?;
        let address = |text: &str| u64::from_str_radix(text, 16).ok();
        let (first, last) = (address(first)?, address(last)?);
        memory.end = memory.end.max(last.checked_add(1)?);
        memory.bytes = memory.bytes.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    // Without the right to see them all addresses are 0.
    (memory.end > 1 && memory.bytes > 4096).then_some(memory)
}

/// Whether there is memory in a zone above the lowest, which ends at `arm64_dma_phys_limit` (`zone_sizes_init()`,
/// `arch/arm64/mm/init.c`), from `/proc/zoneinfo`.
pub(super) fn beyond_dma_zone(root: &Root) -> Option<bool> {
    let text = root.text("proc/zoneinfo").ok()?;
    let mut zone = None;
    let mut pages = std::collections::BTreeMap::new();
    for line in text.lines() {
        if let Some((_, name)) = line.split_once(", zone ") {
            zone = Some(name.trim());
        } else if let (Some(name), Some(spanned)) = (zone, line.trim().strip_prefix("spanned ")) {
            *pages.entry(name).or_insert(0) += spanned.trim().parse::<u64>().ok()?;
        }
    }
    let lowest = ["DMA", "DMA32"].into_iter().find(|name| pages.contains_key(name));
    // Without a zone of that kind everything is taken to reach everything.
    let Some(lowest) = lowest else { return pages.contains_key("Normal").then_some(false) };
    // Of movable memory it is not known which zone it was taken from.
    if pages.get("Movable").is_some_and(|spanned| *spanned > 0) {
        return None;
    }
    Some(["DMA32", "Normal"].iter().any(|name| *name != lowest && pages.get(name).is_some_and(|spanned| *spanned > 0)))
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    #[test]
    fn guests_with_encrypted_memory_are_known_by_the_log() {
        let line = |text: &str| format!("6,1,0,-;Linux version 6.12\n6,2,0,-;{text}\n");
        for (text, guest) in [
            ("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", Some("SEV-SNP")),
            ("AMD Memory Encryption Features active: SEV", Some("SEV")),
            ("Memory Encryption Features active: Intel TDX", Some("TDX")),
            ("tdx: Guest detected", Some("TDX")),
            ("RME: Using RSI version 1.0", Some("a realm of arm CCA")),
            // The host's own memory, which devices reach.
            ("Memory Encryption Features active: AMD SME", None),
            ("Booting", None),
        ] {
            assert_eq!(encrypted_in_log(&line(text)), guest, "{text}");
        }
    }

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(cpus_in("0-7"), Some(8));
        assert_eq!(cpus_in("0,2-3,9"), Some(4));
        assert_eq!(cpus_in("3-1"), None);
        assert_eq!(cpus_in(""), None);
        assert_eq!(cpus_in("0-4294967295"), None);
    }

    #[test]
    fn memory_is_bytes_though_the_kernel_shows_kib() {
        let root = SampleRoot::new(&[("proc/meminfo", "MemTotal:        1010848 kB\nMemFree:          855132 kB\n")]);
        assert_eq!(memory(&root.root()), Some(1_010_848 * 1024));
    }

    const IOMEM: &str = "\
09000000-09000fff : pl011@9000000
40000000-bbffffff : System RAM
  40200000-42a1ffff : Kernel code
  b0000000-b0ffffff : reserved
bc000000-bc3fffff : reserved
bc400000-101bfffff : System RAM
";

    #[test]
    fn physical_memory_is_what_iomem_lists_with_what_is_not_mapped() {
        let memory = memory_in(IOMEM).unwrap();
        assert_eq!((memory.end, memory.bytes), (0x1_01c0_0000, 0x1_01c0_0000 - 0x4000_0000));
        let hidden = IOMEM.lines().map(|line| format!("00000000-00000000 : {}\n", line.split_once(" : ").unwrap().1));
        assert_eq!(memory_in(&hidden.collect::<String>()), None, "who may not see addresses sees zeros");
        assert_eq!(memory_in("40000000-3fffffff : System RAM\n"), None);
    }

    #[test]
    fn memory_in_a_zone_above_the_lowest_is_beyond_what_all_devices_reach() {
        let zones = |spanned: &[(&str, u64)]| {
            let zone = |(name, pages): &(&str, u64)| {
                format!(
                    "Node 0, zone {name:>8}\n  pages free     5\n        spanned  {pages}\n        present  {pages}\n"
                )
            };
            let text: String = spanned.iter().map(zone).collect();
            beyond_dma_zone(&SampleRoot::new(&[("proc/zoneinfo", &text)]).root())
        };
        assert_eq!(zones(&[("DMA", 262_144), ("DMA32", 0), ("Normal", 0), ("Movable", 0)]), Some(false));
        assert_eq!(
            zones(&[("DMA", 262_144), ("DMA32", 5), ("Normal", 0)]),
            Some(true),
            "a zone of 1 GiB, as on a Pi 4"
        );
        assert_eq!(zones(&[("DMA32", 262_144), ("Normal", 7)]), Some(true), "CONFIG_ZONE_DMA is off");
        assert_eq!(zones(&[("DMA", 262_144), ("Normal", 0), ("Movable", 9)]), None);
        assert_eq!(beyond_dma_zone(&SampleRoot::new(&[]).root()), None);
    }

    #[test]
    fn the_page_size_is_in_the_auxiliary_vector() {
        let sample = SampleRoot::new(&[]);
        let words = [33u64, 0x7fff_0000, 6, 16384, 0, 0];
        sample.write("proc/self/auxv", &words.map(u64::to_le_bytes).concat());
        assert_eq!(page_size(&sample.root()), Some(16384));
        sample.write("proc/self/auxv", b"\x06\0\0\0\0");
        assert_eq!(page_size(&sample.root()), None);
    }
}
