//! Running a program with a time limit, from init.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Runs it and waits, at most `limit`; then it is killed. Its exit code, or why there is none.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<i32, String> {
    let mut child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().ok_or_else(|| format!("ended by {status}")),
            Ok(None) if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("killed after {} s", limit.as_secs()));
            }
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("cannot wait for it: {error}")),
        }
    }
}

/// The command will not be preempted by ordinary processes, its own children among them. A task that is preempted while it reads a
/// BPF map makes every probe on its CPU be skipped until it goes on (`bpf_disable_instrumentation()`, `kernel/bpf/syscall.c`;
/// `trace_call_bpf()`, `kernel/trace/bpf_trace.c`).
pub(crate) fn undisturbed(command: &mut Command) {
    let first = || {
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: valid parameters; 0 is the calling process.
        let result =
            unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec one system call is made, and nothing is allocated.
    unsafe { command.pre_exec(first) };
}
