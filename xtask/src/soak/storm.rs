//! What is recorded: as many allocations as the CPUs can do. A `writev()` of more than 8 pieces makes the kernel allocate and free a
//! copy of their list (`iovec_from_user()`, `lib/iov_iter.c`), and writing to `/dev/null` does no more.

use std::{
    fs::File,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;

/// More than the 8 for which the kernel has room on its stack (`UIO_FASTIOV`).
const PIECES: usize = 12;
/// What the kernel allocates for them, bytes.
pub(super) const BYTES: u64 = (PIECES * size_of::<libc::iovec>()) as u64;
/// Calls between two looks at whether it is over.
const BATCH: u64 = 256;

/// Threads that allocate, one for each CPU, until this is dropped.
pub(super) struct Storm {
    over: Arc<AtomicBool>,
    done: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    /// Begins.
    pub(super) fn begin() -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let mut storm = Self { over: Arc::clone(&over), done: Vec::new(), threads: Vec::new() };
        for _ in 0..thread::available_parallelism()?.get() {
            let null = File::options().write(true).open("/dev/null")?;
            let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::clone(&over));
            storm.done.push(Arc::clone(&done));
            storm.threads.push(thread::spawn(move || allocate(&null, &done, &over)));
        }
        Ok(storm)
    }

    /// Allocations so far, at least: what each thread does at this moment is not in it.
    pub(super) fn allocations(&self) -> u64 {
        self.done.iter().map(|done| done.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn allocate(null: &File, done: &AtomicU64, over: &AtomicBool) {
    let byte = [0_u8];
    let pieces = [libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 }; PIECES];
    while !over.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            // SAFETY: a valid descriptor, and valid pieces of memory that outlives the call, of which the kernel only reads.
            let written = unsafe { libc::writev(null.as_raw_fd(), pieces.as_ptr(), PIECES as i32) };
            done.fetch_add(u64::from(written == PIECES as isize), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_thread_allocates_until_it_is_over() {
        let storm = Storm::begin().unwrap();
        thread::sleep(Duration::from_millis(50));
        assert!(storm.done.iter().all(|done| done.load(Ordering::Relaxed) > 0));
        let done = storm.done.clone();
        drop(storm);
        let counts = || done.iter().map(|done| done.load(Ordering::Relaxed)).sum::<u64>();
        let after = counts();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(counts(), after);
    }
}
