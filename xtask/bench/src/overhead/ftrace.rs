//! The tracing file system's own way, in an instance of its own: events on, and somebody reads `trace_pipe`.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::counts::numbers_after;

const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// Removed when it is dropped.
pub(super) struct Instance(PathBuf);

impl Instance {
    /// With these events on.
    pub(super) fn make(events: &[&str]) -> Result<Self> {
        let dir = Path::new(INSTANCES).join("bouncescope-bench");
        // One that a killed bench left has counted already.
        if dir.exists() {
            fs::remove_dir(&dir).with_context(|| format!("cannot remove {}, which is in use", dir.display()))?;
        }
        fs::create_dir(&dir).with_context(|| format!("cannot make {}; is tracefs mounted?", dir.display()))?;
        let instance = Self(dir);
        for event in events {
            instance.write(&format!("events/{event}/enable"), "1")?;
        }
        Ok(instance)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.0.join(file), text).with_context(|| format!("cannot write {file} of {}", self.0.display()))
    }

    /// No more events; what has been traced stays to be read.
    pub(super) fn stop(&self) -> Result<()> {
        self.write("tracing_on", "0")
    }

    /// Starts to read.
    pub(super) fn reader(&self) -> Result<Reader> {
        let mut pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(self.0.join("trace_pipe"))?;
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut bytes = 0;
            loop {
                match pipe.read(&mut buffer) {
                    Ok(read) if read > 0 => bytes += read as u64,
                    // Nothing there: the end, or not yet.
                    _ if end.load(Ordering::Relaxed) => return bytes,
                    _ => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Reader { thread: Some(thread), ends })
    }

    /// Events that were read, and those that were overwritten or dropped before.
    pub(super) fn read_and_lost(&self) -> Result<(u64, u64)> {
        let (mut read, mut lost) = (0, 0);
        for cpu in fs::read_dir(self.0.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            read += numbers_after(&stats, "read events:");
            lost += numbers_after(&stats, "overrun:") + numbers_after(&stats, "dropped events:");
        }
        Ok((read, lost))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// Somebody who reads `trace_pipe`, until it is dropped: while it does, the instance cannot be removed.
pub(super) struct Reader {
    thread: Option<JoinHandle<u64>>,
    ends: Arc<AtomicBool>,
}

impl Reader {
    /// Bytes that were read, once nothing more is there.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.end().context("the reader of trace_pipe panicked")
    }

    fn end(&mut self) -> Option<u64> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}
