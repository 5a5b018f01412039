//! Whether this process may trace the kernel, and what to do when it may not.

use super::root::Root;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What the process may do, as far as tracing depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privilege {
    /// Effective user id.
    pub euid: u32,
    /// Effective capabilities, bit n for capability n of `include/uapi/linux/capability.h`.
    pub capabilities: u64,
    /// The kernel is locked down to confidentiality, where BPF may not read kernel memory.
    pub locked_down: bool,
}

impl Privilege {
    /// This process's, from `/proc/self/status`; none when that is not readable.
    pub fn read(root: &Root) -> Self {
        let status = root.text("proc/self/status").unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let euid = field("Uid:").split_whitespace().nth(1).and_then(|uid| uid.parse().ok());
        let lockdown = root.text("sys/kernel/security/lockdown").unwrap_or_default();
        Self {
            euid: euid.unwrap_or(u32::MAX),
            capabilities: u64::from_str_radix(field("CapEff:").trim(), 16).unwrap_or(0),
            locked_down: lockdown.contains("[confidentiality]"),
        }
    }

    fn has(self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Whether programs can be loaded and attached. Since 5.8 `CAP_BPF` and `CAP_PERFMON` do, before and still
    /// `CAP_SYS_ADMIN`.
    pub fn can_trace(self) -> bool {
        !self.locked_down && (self.has(CAP_SYS_ADMIN) || (self.has(CAP_BPF) && self.has(CAP_PERFMON)))
    }

    /// One line that says what is missing and how to get it; `None` when nothing is.
    pub fn advice(self) -> Option<&'static str> {
        if self.can_trace() {
            None
        } else if self.locked_down {
            Some("the kernel is locked down (confidentiality): boot with lockdown=integrity, or without Secure Boot")
        } else if self.euid == 0 {
            Some(
                "root without capabilities (a container?): tracing needs CAP_BPF and CAP_PERFMON, and CAP_SYSLOG for names of call sites",
            )
        } else {
            Some(
                "tracing the kernel needs root: run it with sudo (on Android: su), or give it CAP_BPF and CAP_PERFMON, and for all that a \
                 capture can hold CAP_SYSLOG, CAP_DAC_READ_SEARCH and CAP_SYS_RAWIO (see `bouncescope record --help`)",
            )
        }
    }
}

/// One line that names a file system that is not mounted, and how to mount it; `None` where those are there that tracing reads.
pub fn not_mounted(root: &Root) -> Option<&'static str> {
    let needed = [
        ("proc/self/status", "/proc is not mounted: mount -t proc proc /proc"),
        ("sys/kernel", "/sys is not mounted: mount -t sysfs sysfs /sys"),
    ];
    needed.into_iter().find(|(path, _)| !root.path(path).exists()).map(|(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    fn privilege(euid: u32, capabilities: u64) -> Privilege {
        let status = format!("Name:\tx\nUid:\t1000\t{euid}\t1000\t1000\nCapEff:\t{capabilities:016x}\n");
        Privilege::read(&SampleRoot::new(&[("proc/self/status", &status)]).root())
    }

    #[test]
    fn root_with_all_capabilities_needs_no_advice() {
        let root = privilege(0, 0x1ff_ffff_ffff);
        assert_eq!(root.euid, 0);
        assert_eq!(root.advice(), None);
    }

    #[test]
    fn bpf_and_perfmon_together_suffice() {
        assert!(privilege(1000, 1 << 39 | 1 << 38).can_trace());
        assert!(!privilege(1000, 1 << 39).can_trace());
        assert!(privilege(1000, 1 << 21).can_trace());
    }

    #[test]
    fn advice_fits_what_is_missing() {
        assert!(privilege(1000, 0).advice().unwrap().contains("sudo"));
        assert!(privilege(0, 0).advice().unwrap().contains("container"));
        let lockdown = ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
        let locked = SampleRoot::new(&[("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t1ffffffffff\n"), lockdown]);
        assert!(Privilege::read(&locked.root()).advice().unwrap().contains("lockdown"));
    }

    #[test]
    fn what_is_not_mounted_is_named() {
        let (status, sys) = (("proc/self/status", ""), ("sys/kernel/notes", ""));
        let advice = |files: &[(&str, &str)]| not_mounted(&SampleRoot::new(files).root());
        assert!(advice(&[sys]).unwrap().contains("mount -t proc"));
        assert!(advice(&[status]).unwrap().contains("mount -t sysfs"));
        assert_eq!(advice(&[status, sys]), None);
    }

    #[test]
    fn an_unreadable_status_is_no_privilege() {
        assert!(!Privilege::read(&SampleRoot::new(&[]).root()).can_trace());
    }
}
