//! The kernel's count of what the programs cost (`BPF_ENABLE_STATS`, `kernel/bpf/syscall.c`). Counting itself costs more than a
//! short program does, two readings of the clock a run, and so it lasts only for the beginning of a session unless asked for.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::{
    programs::ProgramError,
    sys::{Stats, enable_stats},
};

/// How long the kernel counts at the least: enough for what happens all the time.
const WINDOW: Duration = Duration::from_millis(250);

/// Counts until it is told otherwise, or dropped.
pub(super) struct RunTimes {
    /// The kernel counts as long as this is open.
    stats: Option<OwnedFd>,
    began: Instant,
    /// How long it counted, once it is over.
    counted: Duration,
    throughout: bool,
}

impl RunTimes {
    /// Only `CAP_SYS_ADMIN` may.
    pub(super) fn begin(throughout: bool) -> Result<Self, ProgramError> {
        let stats = Some(enable_stats(Stats::RunTime)?);
        Ok(Self { stats, began: Instant::now(), counted: Duration::ZERO, throughout })
    }

    /// To be called now and then.
    pub(super) fn end_in_time(&mut self) {
        if !self.throughout && self.stats.is_some() && self.began.elapsed() >= WINDOW {
            self.stats = None;
            self.counted = self.began.elapsed();
        }
    }

    /// For how long the kernel has counted, ns.
    pub(super) fn counted_ns(&self) -> u64 {
        let counted = if self.stats.is_some() { self.began.elapsed() } else { self.counted };
        counted.as_nanos() as u64
    }
}
