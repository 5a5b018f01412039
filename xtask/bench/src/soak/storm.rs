//! What is recorded: as many allocations as the CPUs can do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;

use crate::allocations::Allocations;

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
            let allocations = Allocations::new()?;
            let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::clone(&over));
            storm.done.push(Arc::clone(&done));
            storm.threads.push(thread::spawn(move || allocate(&allocations, &done, &over)));
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

fn allocate(allocations: &Allocations, done: &AtomicU64, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) && allocations.make(1).is_ok() {
        done.fetch_add(1, Ordering::Relaxed);
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
