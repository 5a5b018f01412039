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
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_parent_is_found_whatever_the_name() {
        assert_eq!(parent("17 (a) b (c)) S 4 17 17 0"), Some(4));
        assert_eq!(parent("17"), None);
    }

    #[test]
    fn a_busy_child_counts_unless_it_is_left_out() {
        let mut outer = Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut inner = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut inner).unwrap();
        let inner: u32 = inner.trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while cpu_ns(outer.id(), 0) < 100_000_000 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let (with, without) = (cpu_ns(outer.id(), 0), cpu_ns(outer.id(), inner));
        // SAFETY: kill() has no precondition.
        unsafe { libc::kill(inner as i32, libc::SIGKILL) };
        outer.wait().unwrap();
        assert!(with >= 100_000_000 && without < 50_000_000, "{with} {without}");
    }
}
