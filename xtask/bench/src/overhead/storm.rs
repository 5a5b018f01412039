//! The work that everything is measured by: as many allocations as the CPUs can do.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
    process,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::processes;
use crate::{allocations::Allocations, measure::thread_cpu_ns};

/// Calls between two looks at the clock.
const BATCH: u64 = 1024;
/// What a tool does at its beginning is over by then.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long)]
    seconds: f64,
    /// Process whose own CPU time is counted, with that of all its descendants; the parent without
    #[arg(long)]
    tool: Option<u32>,
    /// Allocations a second on each CPU, at the most; as many as it can without
    #[arg(long)]
    rate: Option<u64>,
    /// Where the result is written
    #[arg(long)]
    result: PathBuf,
}

/// What a storm was.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Storm {
    /// By all threads.
    pub(super) allocations: u64,
    /// CPU time of the threads that allocated, with all that the kernel did on their account.
    pub(super) cpu_ns: u64,
    /// CPU time of the tool meanwhile.
    pub(super) tool_ns: u64,
    /// From begin to end.
    pub(super) wall_ns: u64,
    /// Threads that allocated: one on each CPU.
    pub(super) threads: u64,
}

impl Storm {
    /// CPU time of an allocation and its free, the tool's own included, ns.
    pub(super) fn ns_each(&self) -> f64 {
        (self.cpu_ns + self.tool_ns) as f64 / self.allocations.max(1) as f64
    }

    /// How much of the CPUs it had, with the tool: the rest was idle, or somebody else's.
    pub(super) fn share(&self) -> f64 {
        (self.cpu_ns + self.tool_ns) as f64 / (self.wall_ns * self.threads).max(1) as f64
    }

    /// Allocations a second.
    pub(super) fn rate(&self) -> f64 {
        1e9 * self.allocations as f64 / self.wall_ns.max(1) as f64
    }

    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("no storm left its result in {}", file.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    thread::sleep(SETTLE);
    // SAFETY: getppid() has no precondition.
    let tool = args.tool.unwrap_or_else(|| unsafe { libc::getppid() } as u32);
    let cpus = thread::available_parallelism()?.get();
    let barrier = Barrier::new(cpus + 1);
    let duration = Duration::from_secs_f64(args.seconds);
    let storm = thread::scope(|scope| -> Result<Storm> {
        let threads: Vec<_> = (0..cpus)
            .map(|cpu| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<(u64, u64)> {
                    let ready = pin(cpu);
                    barrier.wait();
                    ready?;
                    allocate(duration, args.rate)
                })
            })
            .collect();
        barrier.wait();
        let before = processes::cpu_ns(tool, process::id());
        let began = Instant::now();
        let (mut allocations, mut cpu_ns) = (0, 0);
        for thread in threads {
            let (done, ns) = thread.join().map_err(|_| anyhow::anyhow!("a thread of the storm panicked"))??;
            allocations += done;
            cpu_ns += ns;
        }
        let wall_ns = began.elapsed().as_nanos() as u64;
        let tool_ns = processes::cpu_ns(tool, process::id()).saturating_sub(before);
        Ok(Storm { allocations, cpu_ns, tool_ns, wall_ns, threads: cpus as u64 })
    })?;
    Ok(fs::write(&args.result, serde_json::to_vec(&storm)?)?)
}

/// How often this thread allocated, and its CPU time.
fn allocate(duration: Duration, rate: Option<u64>) -> Result<(u64, u64)> {
    let allocations = Allocations::new()?;
    let mut done = 0;
    let (began, cpu) = (Instant::now(), thread_cpu_ns());
    while began.elapsed() < duration {
        allocations.make(BATCH).context("writev")?;
        done += BATCH;
        while rate.is_some_and(|rate| done as f64 > began.elapsed().as_secs_f64() * rate as f64) {
            thread::yield_now();
        }
    }
    Ok((done, thread_cpu_ns() - cpu))
}

fn pin(cpu: usize) -> Result<()> {
    // SAFETY: all-zero bytes are an empty set, and the CPU is checked against its size.
    let status = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        ensure!(cpu < 8 * size_of_val(&set), "CPU {cpu} is too many");
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    ensure!(status == 0, "cannot stay on CPU {cpu}: {}", io::Error::last_os_error());
    Ok(())
}
