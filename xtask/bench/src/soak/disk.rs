//! Disks to write captures to: one that is too small, and one that is too slow.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// A file system in memory, unmounted when dropped.
pub(super) struct Small {
    pub(super) dir: PathBuf,
}

impl Small {
    /// Of so many bytes, mounted on a directory.
    pub(super) fn mount(dir: PathBuf, bytes: u64) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "bouncescope-soak"]).arg(&dir);
        ensure!(
            mount.status().context("cannot run mount")?.success(),
            "cannot mount a small disk on {}",
            dir.display()
        );
        Ok(Self { dir })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
    }
}

/// What is read from a pipe at once, bytes.
const PIECE: usize = 4 << 10;

/// A pipe with a name, and behind it a reader that takes so many bytes a second, until it recovers, and keeps them in a file. To whoever writes it is a
/// disk that is behind: a real one hides behind the page cache until memory is full of what it has not written yet.
pub(super) struct Slow {
    /// To be written to.
    pub(super) pipe: PathBuf,
    /// What came.
    pub(super) kept: PathBuf,
    writer_is_gone: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    recovered: Arc<AtomicBool>,
    reader: Option<JoinHandle<std::io::Result<()>>>,
}

impl Slow {
    /// In a directory, at a rate in bytes a second.
    pub(super) fn open(dir: &Path, rate: u64) -> Result<Self> {
        let (pipe, kept) = (dir.join("slow.pipe"), dir.join("slow.bounce"));
        let _ = fs::remove_file(&pipe);
        ensure!(
            Command::new("mkfifo").arg(&pipe).status().context("cannot run mkfifo")?.success(),
            "cannot make a pipe"
        );
        // Not to wait for whoever writes, who begins later.
        let from = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe)?;
        let into = File::create(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
        let [gone, failed, recovered] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let reader = thread::spawn({
            let (gone, failed, recovered) = (Arc::clone(&gone), Arc::clone(&failed), Arc::clone(&recovered));
            move || copy(from, into, || !recovered.load(Ordering::Relaxed), rate, &gone, &failed)
        });
        Ok(Self { pipe, kept, writer_is_gone: gone, failed, recovered, reader: Some(reader) })
    }

    /// The disk goes: nothing more is read.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// From now on it takes as much as comes.
    pub(super) fn recover(&self) {
        self.recovered.store(true, Ordering::Relaxed);
    }

    /// Waits until everything is read, once whoever writes has ended.
    pub(super) fn close(mut self) -> Result<PathBuf> {
        self.writer_is_gone.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow::anyhow!("the reader of the pipe panicked"))??;
        }
        fs::remove_file(&self.pipe)?;
        Ok(self.kept.clone())
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.fail();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn copy(
    mut from: File,
    mut into: File,
    is_slow: impl Fn() -> bool,
    rate: u64,
    writer_is_gone: &AtomicBool,
    failed: &AtomicBool,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    while !failed.load(Ordering::Relaxed) {
        // Looked at before reading: what it wrote until it went is there to be read.
        let gone = writer_is_gone.load(Ordering::Relaxed);
        match from.read(&mut piece) {
            // Nobody writes yet, or any more.
            Ok(0) if gone => break,
            Ok(0) => thread::sleep(Duration::from_millis(10)),
            Ok(bytes) => {
                into.write_all(&piece[..bytes])?;
                if is_slow() {
                    thread::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_slow_disk_takes_its_time_and_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let slow = Slow::open(dir.path(), 1 << 20).unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let begin = Instant::now();
        fs::write(&slow.pipe, &bytes).unwrap();
        let kept = slow.close().unwrap();
        assert!(begin.elapsed() > Duration::from_millis(180), "{:?}", begin.elapsed());
        assert_eq!(fs::read(kept).unwrap(), bytes);
    }

    #[test]
    fn a_disk_that_goes_fails_whoever_writes() {
        let dir = tempfile::tempdir().unwrap();
        let slow = Slow::open(dir.path(), 1 << 20).unwrap();
        let mut pipe = File::options().write(true).open(&slow.pipe).unwrap();
        slow.fail();
        let refused = (0..100).find_map(|_| pipe.write_all(&[0; PIECE]).err());
        assert_eq!(refused.unwrap().kind(), ErrorKind::BrokenPipe);
    }
}
