//! The clocks that a recording goes by.

use std::{fs, sync::OnceLock};

/// Now, by the clock of `bpf_ktime_get_ns()`: `CLOCK_MONOTONIC` of the first time namespace, ns.
pub fn now_ns() -> u64 {
    static AHEAD_NS: OnceLock<i64> = OnceLock::new();
    clock_ns(libc::CLOCK_MONOTONIC).wrapping_add_signed(-AHEAD_NS.get_or_init(namespace_offset_ns))
}

/// CPU time of this process so far.
pub(super) fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this thread so far, ns.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock and a valid place to write to.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How far this process's `CLOCK_MONOTONIC` is ahead of the first namespace's; 0 where there are no time namespaces.
fn namespace_offset_ns() -> i64 {
    let namespace = |name| fs::read_link(format!("/proc/self/ns/{name}")).ok();
    // The offsets are those of the namespace that children get (`proc_timens_show_offsets()`, `kernel/time/namespace.c`, 5.6).
    if namespace("time") != namespace("time_for_children") {
        return 0;
    }
    fs::read_to_string("/proc/self/timens_offsets").ok().and_then(|text| offset_ns(&text)).unwrap_or(0)
}

/// That of `CLOCK_MONOTONIC`: its name, seconds, nanoseconds.
fn offset_ns(offsets: &str) -> Option<i64> {
    let mut fields = offsets.lines().find_map(|line| line.strip_prefix("monotonic "))?.split_whitespace();
    let (seconds, nanoseconds): (i64, i64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace_is_read_in_nanoseconds() {
        assert_eq!(
            offset_ns("monotonic       -1000         0\nboottime            7         0\n"),
            Some(-1_000_000_000_000)
        );
        assert_eq!(offset_ns("monotonic           1 500000000\n"), Some(1_500_000_000));
        assert_eq!(offset_ns(""), None);
    }
}
