//! How long a process ran, and what it took of memory.

use std::{
    io,
    mem::MaybeUninit,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// One run of a process.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    /// From start to end.
    pub(super) wall: Duration,
    /// On all CPUs, user and system.
    pub(super) cpu: Duration,
    /// Most memory resident at one time, bytes.
    pub(super) peak_memory: u64,
}

/// Runs a command to its end, its output thrown away; an error when it fails.
pub(super) fn measure(command: &mut Command) -> Result<Measured> {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let child = child.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to memory of the right type that outlives the call, and all-zero bytes are a valid rusage.
    let (waited, usage) = unsafe {
        let waited = libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, usage.as_mut_ptr());
        (waited, usage.assume_init())
    };
    let wall = began.elapsed();
    ensure!(waited > 0, "cannot wait for a process: {}", io::Error::last_os_error());
    ensure!(status == 0, "{} failed (wait status {status:#x})", command.get_program().display());
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, 1000 * time.tv_usec as u32);
    Ok(Measured {
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        // Linux counts in KiB.
        peak_memory: 1024 * usage.ru_maxrss as u64,
    })
}

/// CPU time of this thread so far, ns.
pub(super) fn thread_cpu_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to memory of the right type, of which all-zero bytes are a valid value.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    1_000_000_000 * time.tv_sec as u64 + time.tv_nsec as u64
}
