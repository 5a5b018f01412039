//! A process of the product at work: begun, watched, signalled and waited for.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::leaks::Objects;

/// To load and attach everything, or to write what is left, on a machine at its limit.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often memory is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// A process that traces.
pub(super) struct Tracer {
    child: Child,
    /// What it writes to standard error.
    said: PathBuf,
    memory: Arc<Mutex<Vec<u64>>>,
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

/// What became of one.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// What it wrote to standard error.
    pub(super) said: String,
    /// Resident memory every tenth of a second, bytes.
    pub(super) memory: Vec<u64>,
}

impl Tracer {
    /// Begins it; what it says goes to the file `said`.
    pub(super) fn begin(mut command: Command, said: &Path) -> Result<Self> {
        let file = File::create(said).with_context(|| format!("cannot create {}", said.display()))?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).spawn();
        let child = child.with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let (memory, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let watcher = thread::spawn({
            let (memory, over, pid) = (Arc::clone(&memory), Arc::clone(&over), child.id());
            move || {
                while !over.load(Ordering::Relaxed) {
                    let bytes = resident(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default());
                    memory.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
                    thread::sleep(WATCH_EVERY);
                }
            }
        });
        Ok(Self { child, said: said.to_owned(), memory, over, watcher: Some(watcher) })
    }

    /// Waits until the file is more than empty, which is when a recorder has attached everything.
    pub(super) fn wait_for(&mut self, file: &Path) -> Result<()> {
        self.wait_for_bytes(file, 1)
    }

    /// The same, with so many bytes in the file.
    pub(super) fn wait_for_bytes(&mut self, file: &Path, bytes: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !fs::metadata(file).is_ok_and(|file| file.len() >= bytes) {
            ensure!(self.child.try_wait()?.is_none(), "it ended before it began: {}", self.said()?);
            ensure!(Instant::now() < deadline, "it did not begin within {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until it, or what it started, holds programs: the kernel's numbers of them and of its maps.
    pub(super) fn objects(&mut self) -> Result<Objects> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut held = Objects::held_by(self.child.id());
            for child in self.children() {
                held.extend(&Objects::held_by(child));
            }
            if held.has_programs() {
                return Ok(held);
            }
            ensure!(self.child.try_wait()?.is_none(), "it ended before it traced: {}", self.said()?);
            ensure!(Instant::now() < deadline, "it holds no program after {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: a child that has not been waited for, so that its number is nobody else's.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        ensure!(sent == 0, "cannot send signal {signal}: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Kills what it started, which is how a program in a terminal of its own is reached.
    pub(super) fn kill_children(&self) -> Result<()> {
        let children = self.children();
        ensure!(!children.is_empty(), "it has started nothing");
        for child in children {
            // SAFETY: kill() takes no pointers; the number is that of a child of a child that lives.
            let sent = unsafe { libc::kill(child as libc::pid_t, libc::SIGKILL) };
            ensure!(sent == 0, "cannot kill {child}: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }

    fn children(&self) -> Vec<u32> {
        let pid = self.child.id();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) -> Result<Ended> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("it did not end within {} s", PATIENCE.as_secs()),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let said = self.said()?;
        let memory = std::mem::take(&mut *self.memory.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Ended { status, said, memory })
    }

    fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.said)?)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

impl Ended {
    /// How it should have ended and did not.
    pub(super) fn problem(&self, expected: Expected) -> Option<String> {
        let lines = self.said.lines().count();
        let right = match expected {
            Expected::Success => self.status.success() && lines == 0,
            Expected::Killed => self.status.signal() == Some(libc::SIGKILL),
            Expected::Refused(why) => self.status.code() == Some(2) && lines == 1 && self.said.contains(why),
        };
        (!right).then(|| format!("it ended with {}, saying {:?}, expected {expected:?}", self.status, self.said))
    }

    /// Most memory resident, bytes.
    pub(super) fn peak(&self) -> u64 {
        self.memory.iter().copied().max().unwrap_or(0)
    }
}

/// How a recorder is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// With 0, and without a word.
    Success,
    /// By SIGKILL.
    Killed,
    /// With 2, and one line that has this in it.
    Refused(&'static str),
}

/// `VmRSS` of `/proc/PID/status`, bytes.
fn resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_in_bytes_and_a_process_that_is_gone_has_none() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1 << 20));
        assert_eq!(resident("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_process_must_end_as_expected() {
        let ended = |script: &str| {
            let said = std::env::temp_dir().join(format!("soak-{}-{}", std::process::id(), script.len()));
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            let ended = Tracer::begin(shell, &said).unwrap().wait().unwrap();
            fs::remove_file(said).unwrap();
            ended
        };
        assert_eq!(ended("exit 0").problem(Expected::Success), None);
        assert!(ended("echo oh >&2").problem(Expected::Success).is_some());
        assert_eq!(ended("echo disk full >&2; exit 2").problem(Expected::Refused("disk full")), None);
        assert!(ended("echo a >&2; echo disk full >&2; exit 2").problem(Expected::Refused("disk full")).is_some());
        assert_eq!(ended("kill -9 $$").problem(Expected::Killed), None);
        assert!(ended("exit 9").problem(Expected::Killed).is_some());
    }
}
