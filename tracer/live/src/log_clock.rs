//! The clock of the kernel's log, beside ours.
//!
//! `printk()` stamps a message with `local_clock()` (`vprintk_store()`, `kernel/printk/printk.c`, 6.18). NTP does not adjust that clock, so it and
//! `CLOCK_MONOTONIC` drift apart. No system call reads it, but perf stamps its records with it too (`perf_clock()`, `kernel/events/core.c`). So a
//! thread gives itself the name that it has already, a perf event of this thread records that (`PERF_RECORD_COMM`), and our clock is read before
//! and after.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::{NonNull, null_mut},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::thread::{name, set_name};

use super::clock::now_ns;

/// `struct perf_event_attr`, as long as it was first (`PERF_ATTR_SIZE_VER0`, `include/uapi/linux/perf_event.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_DUMMY`, `PERF_SAMPLE_TIME`, `PERF_FLAG_FD_CLOEXEC`.
const SOFTWARE: u32 = 1;
const DUMMY: u64 = 9;
const SAMPLE_TIME: u64 = 1 << 2;
const CLOEXEC: libc::c_ulong = 1 << 3;
/// The bits `exclude_kernel`, `exclude_hv`, `comm` and `sample_id_all`: with the first two it needs no privilege up to
/// `kernel.perf_event_paranoid=2`.
const FLAGS: u64 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 18;
/// Where `struct perf_event_mmap_page` has `data_head` and `data_tail`, bytes.
const HEAD: usize = 1024;
const TAIL: usize = 1032;
/// `PERF_RECORD_COMM`.
const COMM: u32 = 3;
/// A reading is as exact as the time between two readings of our clock is short, so the shortest of so many counts.
const TRIES: usize = 5;

/// Tells what the clock of the kernel's log says. For the thread that opened it.
#[derive(Debug)]
pub struct LogClock {
    ring: Ring,
}

/// What both clocks say of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTime {
    /// The log's, ns.
    pub log_ns: u64,
    /// `CLOCK_MONOTONIC` a little before, ns.
    pub before_ns: u64,
    /// `CLOCK_MONOTONIC` a little after, ns.
    pub after_ns: u64,
}

impl LogClock {
    /// Opens a perf event of this thread. Reading needs no privilege later on.
    pub fn open() -> io::Result<Self> {
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: DUMMY,
            sample_type: SAMPLE_TIME,
            flags: FLAGS,
            ..Attributes::default()
        };
        let (this_thread, any_cpu, no_group) = (0, -1, -1);
        // SAFETY: the attributes are valid for as long as the call takes, and as long as they say.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, this_thread, any_cpu, no_group, CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that the kernel has just made, and that nothing else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Self { ring: Ring::map(event)? })
    }

    /// What it says now.
    pub fn read(&self) -> io::Result<LogTime> {
        let times = (0..TRIES).map(|_| self.read_once()).collect::<io::Result<Vec<_>>>()?;
        let shortest = times.into_iter().min_by_key(|time| time.after_ns.saturating_sub(time.before_ns));
        shortest.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn read_once(&self) -> io::Result<LogTime> {
        self.ring.empty();
        let same = name()?;
        let before_ns = now_ns();
        set_name(&same)?;
        let after_ns = now_ns();
        let log_ns = self.ring.time_of_comm().ok_or(io::ErrorKind::InvalidData)?;
        Ok(LogTime { log_ns, before_ns, after_ns })
    }
}

/// The pages that the kernel writes records of the event to: one that says how far, and one of records.
#[derive(Debug)]
struct Ring {
    pages: NonNull<u8>,
    page: usize,
    _event: OwnedFd,
}

impl Ring {
    fn map(event: OwnedFd) -> io::Result<Self> {
        // SAFETY: it asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, event.as_raw_fd());
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let pages = unsafe { libc::mmap(null_mut(), 2 * page, access, libc::MAP_SHARED, fd, 0) };
        let pages = if pages == libc::MAP_FAILED { None } else { NonNull::new(pages.cast()) };
        let pages = pages.ok_or_else(io::Error::last_os_error)?;
        Ok(Self { pages, page, _event: event })
    }

    /// A position of the first page, bytes since the beginning of the records.
    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: both lie in the first page, are aligned as the page is, and are mapped for as long as this is borrowed; the kernel accesses
        // them as whole words too.
        unsafe { self.pages.add(at).cast().as_ref() }
    }

    /// Gives back what was recorded.
    fn empty(&self) {
        let head = self.position(HEAD).load(Ordering::Acquire);
        self.position(TAIL).store(head, Ordering::Release);
    }

    /// When the one record that there is was made: its last eight bytes (`struct sample_id`). `None` where it is none of a new name, or not the
    /// only one.
    fn time_of_comm(&self) -> Option<u64> {
        let head = self.position(HEAD).load(Ordering::Acquire);
        let tail = self.position(TAIL).load(Ordering::Relaxed);
        let header = self.word(tail)?;
        let (kind, size) = (header as u32, header >> 48);
        (kind == COMM && head.checked_sub(tail) == Some(size) && size >= 16).then(|| self.word(head - 8))?
    }

    /// A word of the records, which are all of whole words, so that none of these lies on both ends of the page.
    fn word(&self, position: u64) -> Option<u64> {
        let at = (position % self.page as u64) as usize;
        // SAFETY: it lies in the second page, is aligned where it is a multiple of 8, and the kernel writes no record where none has been
        // given back.
        position.is_multiple_of(8).then(|| unsafe { self.pages.add(self.page + at).cast::<u64>().read() })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and nothing refers to it any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), 2 * self.page) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_log_goes_on_like_ours_and_the_name_of_the_thread_stays() {
        let clock = match LogClock::open() {
            Ok(clock) => clock,
            Err(error) => return eprintln!("not tested: perf_event_open(): {error}"),
        };
        let named = name().unwrap();
        let all: Vec<LogTime> = (0..500).map(|_| clock.read().unwrap()).collect();
        assert_eq!(name().unwrap(), named);
        for two in all.windows(2) {
            assert!(two[0].log_ns < two[1].log_ns && two[0].before_ns <= two[0].after_ns, "{two:?}");
        }
        // Half a percent is ten times as much as NTP may adjust.
        let [first, last] = [all[0], all[499]];
        let log_ns = (last.log_ns - first.log_ns) as f64;
        let most_ns = (last.after_ns - first.before_ns) as f64;
        let least_ns = last.before_ns.saturating_sub(first.after_ns) as f64;
        assert!((least_ns / 1.005..=most_ns * 1.005).contains(&log_ns), "{least_ns} {log_ns} {most_ns}");
    }
}
