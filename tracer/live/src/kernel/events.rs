//! Which trace events this kernel has, and where its tracing file system is.

use std::path::PathBuf;

use super::btf::Btf;
use super::root::Root;

/// Where tracefs is mounted, of old below debugfs.
const PLACES: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// The tracing file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracefs {
    dir: PathBuf,
}

impl Tracefs {
    /// Where it is mounted and readable; `None` when it is neither here nor there.
    pub fn find(root: &Root) -> Option<Self> {
        PLACES.iter().map(|place| root.path(place)).find(|dir| dir.join("events").is_dir()).map(|dir| Self { dir })
    }

    /// What to do when [`Tracefs::find`] finds nothing.
    pub const REMEDY: &str =
        "tracefs is not mounted or not readable (as root: mount -t tracefs nodev /sys/kernel/tracing)";

    /// Its root.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Whether there is an event, such as `has_event("dma", "dma_map_phys")`.
    pub fn has_event(&self, group: &str, name: &str) -> bool {
        self.dir.join("events").join(group).join(name).is_dir()
    }
}

/// Whether the kernel has a trace event; `None` when neither tracefs nor BTF is there to tell.
///
/// In BTF each event has the typedef `btf_trace_NAME` (`include/trace/bpf_probe.h`, `CONFIG_BPF_EVENTS`); those of
/// modules are in the modules' own BTF.
pub fn has_event(tracefs: Option<&Tracefs>, btf: Option<&Btf>, group: &str, name: &str) -> Option<bool> {
    match (tracefs, btf) {
        (Some(tracefs), _) => Some(tracefs.has_event(group, name)),
        (None, Some(btf)) => Some(btf.has_typedef(&format!("btf_trace_{name}"))),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::sample::Builder;
    use super::super::root::sample::SampleRoot;
    use super::*;

    #[test]
    fn tracefs_is_found_in_both_places() {
        let old = SampleRoot::new(&[("sys/kernel/debug/tracing/events/dma/dma_map_page/format", "")]);
        let tracefs = Tracefs::find(&old.root()).unwrap();
        assert!(tracefs.has_event("dma", "dma_map_page"));
        assert!(!tracefs.has_event("dma", "dma_map_phys"));
        // An empty mount point is no tracefs.
        old.write("sys/kernel/tracing/README", b"");
        assert_eq!(Tracefs::find(&old.root()), Some(tracefs));
        assert_eq!(Tracefs::find(&SampleRoot::new(&[]).root()), None);
    }

    #[test]
    fn without_tracefs_the_events_typedef_tells() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        b.typedef("btf_trace_dma_map_phys", int);
        let btf = Btf::from_bytes(b.build()).unwrap();
        assert_eq!(has_event(None, Some(&btf), "dma", "dma_map_phys"), Some(true));
        assert_eq!(has_event(None, Some(&btf), "dma", "dma_map_page"), Some(false));
        assert_eq!(has_event(None, None, "dma", "dma_map_page"), None);
    }
}
