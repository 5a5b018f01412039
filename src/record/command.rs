//! COMMAND of `record`: started for the recording, and ended with it, together with what it started.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::fd::OwnedFd,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::process::{Child, Command};

/// How long processes have to end after SIGTERM, before they get SIGKILL.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A command that runs, or none.
pub(super) struct Running(Option<Child>);

impl Running {
    /// Starts it, in the recorder's own process group: ^C reaches both, and a shell stops and continues both.
    pub(super) fn start(command: &[OsString]) -> Result<Self> {
        let Some((program, arguments)) = command.split_first() else { return Ok(Self(None)) };
        let child = Command::new(program).args(arguments).kill_on_drop(true).spawn();
        Ok(Self(Some(child.with_context(|| format!("cannot run {}", program.display()))?)))
    }

    /// Waits until it ends by itself; for ever where there is none. What it left running in the background goes on.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let Some(child) = &mut self.0 else { return std::future::pending().await };
        let status = child.wait().await?;
        self.0 = None;
        Ok(status)
    }

    /// Ends it and all that descends from it: they were started for the recording, which is over.
    fn end(&mut self) {
        let Some(child) = &mut self.0 else { return };
        let Some(root) = child.id().and_then(|id| Pid::from_raw(id as i32)) else { return };
        let mut processes = tree(root);
        for process in &processes {
            // Those of another user (a set-user-id program) can refuse.
            pidfd_send_signal(process, Signal::TERM).ok();
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Reaped, so that it is gone for others too.
            child.try_wait().ok();
            processes.retain(|process| !has_ended(process));
            if processes.is_empty() {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        // Those that were started meanwhile too.
        for process in processes.iter().chain(&tree(root)) {
            pidfd_send_signal(process, Signal::KILL).ok();
        }
        child.start_kill().ok();
    }
}

impl Drop for Running {
    /// Whatever ended the recording.
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a process has ended.
pub(super) fn has_ended(process: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(process, PollFlags::IN)];
    poll(&mut descriptors, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A process and those that descend from it; without /proc it alone.
fn tree(root: Pid) -> Vec<OwnedFd> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, parent(pid)?))) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![(root.as_raw_pid(), None)];
    let mut at = 0;
    while let Some((pid, _)) = found.get(at).copied() {
        found.extend(children.remove(&pid).into_iter().flatten().map(|child| (child, Some(pid))));
        at += 1;
    }
    let opened = |(pid, expected): (i32, Option<i32>)| {
        let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // The number may belong to another process by now; what is opened keeps it.
        (expected.is_none() || parent(pid) == expected).then_some(descriptor)
    };
    found.into_iter().filter_map(opened).collect()
}

/// The process that a process descends from: the fourth field of `/proc/PID/stat`, the second behind the name in parentheses.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_dropped_ends_with_all_that_it_started() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let started = dir.path().join("started");
        // The inner shell takes no notice of SIGTERM.
        let script =
            format!("sh -c 'trap \"\" TERM; echo $$ > {0}; while :; do sleep 1; done' & wait", started.display());
        let inner: i32 = runtime.block_on(async {
            let running = Running::start(&["sh".into(), "-c".into(), script.into()]).unwrap();
            let inner = loop {
                if let Some(pid) = fs::read_to_string(&started).ok().and_then(|text| text.trim().parse().ok()) {
                    break pid;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            };
            assert!(parent(inner).is_some());
            drop(running);
            inner
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let lives = || fs::read_to_string(format!("/proc/{inner}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(Instant::now() < deadline, "process {inner} goes on");
            thread::sleep(LOOK_EVERY);
        }
    }
}
