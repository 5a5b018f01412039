//! `record --finish`: fetches the recording from boot out of the memory of its recorder.

use std::{
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read as _, Seek as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{SealFlags, fcntl_get_seals},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tracer::{
    capture::Reader,
    output::{Access, OutputError},
    stream::Source as _,
};

use super::{capture::Seen, command::has_ended};
use crate::{
    input::say,
    output::{self, suffix_of_old},
};

/// What the recorder calls itself (its `argv[0]`).
pub(crate) const RECORDER: &str = "@bouncescope";
/// What it calls the memory that it records into.
pub(crate) const MEMFD: &str = "bouncescope-boot";

/// How long the recorder has to end the recording: it reads all maps once more.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of a capture's header, and of a part of the first frame: less is no recording.
const BEGUN: u64 = 64;

/// A recorder that was started at boot.
struct Recorder {
    process: OwnedFd,
    capture: File,
}

/// Whether one is running, as far as this process may see it.
pub(crate) fn records_from_boot() -> bool {
    processes().any(|process| is_recorder(&process))
}

/// Whether there is something in its memory.
pub(crate) fn holds_recording(capture: impl AsFd) -> bool {
    rustix::fs::fstat(capture).is_ok_and(|file| file.st_size as u64 > BEGUN)
}

/// Ends the recording, and brings the capture into a file; the recorder goes away only when it is there.
pub(super) fn run(path: &Path, quiet: bool) -> Result<ExitCode> {
    let mut recorder = Recorder::find()?;
    let mut file = output::open(path, Access::Private, &[])?;
    let whole = recorder.end()?;
    let failed = |source| OutputError::System { path: path.to_owned(), source };
    recorder.capture.rewind().and_then(|()| io::copy(&mut recorder.capture, &mut file)).map_err(failed)?;
    file.complete()?;
    file.publish_keeping(suffix_of_old(path))?;
    // It has nothing left that is of use.
    pidfd_send_signal(&recorder.process, Signal::KILL).ok();
    if !whole {
        say("bouncescope: the recorder was ended before it could end the recording: the last second may be missing\n");
    }
    if !quiet {
        recorder.capture.rewind()?;
        say(&summary(&recorder.capture, path)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What `record` says at its end.
fn summary(capture: &File, path: &Path) -> Result<String> {
    let mut seen = Seen::default();
    let mut reader = Reader::new(BufReader::new(capture))?;
    while let Some(item) = reader.next_item()? {
        seen.item(&item);
    }
    Ok(seen.summary(capture.metadata()?.len()).text(path))
}

impl Recorder {
    /// The one that runs; an error says why there is none.
    fn find() -> Result<Self> {
        let Some(process) = processes().find(|process| is_recorder(process)) else {
            bail!(
                "no recording from boot is running. To start one, boot with init= or rdinit= set to the path of bouncescope; if you \
                 did, see: dmesg | grep bouncescope:"
            );
        };
        let id = process.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
        let open = || -> io::Result<Self> {
            let id = id.ok_or(ErrorKind::NotFound)?;
            let opened = pidfd_open(id, PidfdFlags::empty())?;
            let capture = memory(&process)?;
            // The number was still the recorder's when its memory was opened.
            if !is_recorder(&process) || has_ended(&opened) {
                return Err(ErrorKind::NotFound.into());
            }
            Ok(Self { process: opened, capture })
        };
        open().map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                anyhow::anyhow!("only root may fetch the recording from boot: run it with sudo")
            }
            ErrorKind::NotFound => anyhow::anyhow!("the recorder of the boot has nothing recorded yet, or just ended"),
            _ => anyhow::Error::new(error).context("cannot fetch the recording from boot"),
        })
    }

    /// Lets it end the recording; whether it did so whole. Whatever it holds by then, it keeps.
    fn end(&self) -> Result<bool> {
        if self.is_over() {
            return Ok(true);
        }
        pidfd_send_signal(&self.process, Signal::TERM).context("cannot end the recording from boot")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.is_over() || has_ended(&self.process) {
                return Ok(self.is_over());
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!(
            "the recorder has not ended the recording within {} s: try again, nothing is lost yet",
            PATIENCE.as_secs()
        )
    }

    /// The memory is sealed when everything is in it.
    fn is_over(&self) -> bool {
        fcntl_get_seals(&self.capture).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
    }
}

/// Directories of /proc.
fn processes() -> impl Iterator<Item = PathBuf> {
    let is_process =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
    fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_process)
}

/// By its name; others than root may call themselves so, too.
fn is_recorder(process: &Path) -> bool {
    let mut name = [0; RECORDER.len() + 1];
    let read = File::open(process.join("cmdline")).and_then(|mut file| file.read_exact(&mut name));
    let is_named = read.is_ok() && name.strip_suffix(b"\0") == Some(RECORDER.as_bytes());
    is_named && fs::metadata(process).is_ok_and(|process| process.uid() == 0)
}

/// The memory that a recorder records into.
fn memory(process: &Path) -> io::Result<File> {
    let wanted = format!("/memfd:{MEMFD} (deleted)");
    for entry in fs::read_dir(process.join("fd"))? {
        let path = entry?.path();
        if fs::read_link(&path).is_ok_and(|link| link.as_os_str() == wanted.as_str()) {
            return File::open(path);
        }
    }
    Err(ErrorKind::NotFound.into())
}
