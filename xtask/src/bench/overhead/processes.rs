//! What a tool takes of the CPUs while it traces: it, its threads, and everything it started.

use std::{collections::HashMap, fs};

/// CPU time of a process and its descendants so far, without one of them and what that one started, ns.
pub(super) fn cpu_ns(root: u32, without: u32) -> u64 {
    let parents: HashMap<u32, u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    let descends = |pid: u32| {
        let mut ancestors = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        ancestors.find(|pid| *pid == root || *pid == without) == Some(root)
    };
    parents.keys().copied().filter(|pid| descends(*pid)).map(of_threads).sum()
}

/// The fourth field of `/proc/PID/stat`; the second is in parentheses, and may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The first field of `schedstat` is the time on CPUs, in ns.
fn of_threads(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command};

    use super::*;

    #[test]
    fn a_parent_is_found_whatever_the_name() {
        assert_eq!(parent("17 (a) b (c)) S 4 17 17 0"), Some(4));
        assert_eq!(parent("17"), None);
    }

    #[test]
    fn a_busy_child_counts_unless_it_is_left_out() {
        let before = cpu_ns(process::id(), 0);
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let with = cpu_ns(process::id(), 0) - before;
        let alone = cpu_ns(child.id(), 0);
        let without = cpu_ns(child.id(), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(alone > 0 && with >= alone && without == 0, "{with} {alone} {without}");
    }
}
