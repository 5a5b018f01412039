//! The machine and the kernel's own name: release, command line, page size, CPUs, memory. What depends on the kernel's
//! configuration is in [`super::facts`].

use super::root::Root;

/// `major.minor` of a kernel release. For the few things that nothing but the release tells; where the kernel itself
/// can be asked it is, since stable and vendor trees backport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

impl Release {
    /// From `uname -r`; 0.0 when it does not start like a release.
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        Self { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
    }

    /// Whether this is `major.minor` or later.
    pub fn is_at_least(self, major: u32, minor: u32) -> bool {
        self >= Self { major, minor }
    }
}

/// `uname -r`.
pub(super) fn release(root: &Root) -> Option<String> {
    root.text("proc/sys/kernel/osrelease").ok()
}

/// Whether the kernel runs on Xen, and may have `xen_swiotlb_dma_ops` for its devices (`xen_swiotlb_detect()`,
/// `arch/arm/xen/mm.c`).
pub(super) fn is_xen_guest(root: &Root) -> bool {
    root.text("sys/hypervisor/type").is_ok_and(|name| name.trim() == "xen")
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

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    #[test]
    fn releases_compare_by_number_and_not_by_text() {
        let release = Release::parse("6.12.117+deb12-arm64");
        assert_eq!(release, Release { major: 6, minor: 12 });
        assert!(release.is_at_least(6, 5) && release.is_at_least(6, 12) && release.is_at_least(5, 19));
        assert!(!release.is_at_least(6, 13) && !release.is_at_least(7, 0));
        assert_eq!(Release::parse("7.3-rc1"), Release { major: 7, minor: 3 });
        assert_eq!(Release::parse("unknown"), Release { major: 0, minor: 0 });
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
