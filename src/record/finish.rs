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

use anyhow::{Context as _, Result, bail, ensure};
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
    input::{say, warn},
    output::{self, suffix_of_old},
};

/// What the recorder calls itself (its `argv[0]`).
pub(crate) const RECORDER: &str = "@bouncescope";
/// What it calls the memory that it records into.
pub(crate) const MEMFD: &str = "bouncescope-boot";

/// How long the recorder has to end the recording: it reads all maps once more.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const NOTHING_YET: &str = "the recorder of the boot has nothing recorded yet, or just ended";
/// Bytes of a capture's header, and of a part of the first frame: less is no recording.
const BEGUN: u64 = 64;

/// A recorder that was started at boot.
struct Recorder {
    process: OwnedFd,
    capture: File,
}

/// How a recording ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Everything is in the memory.
    Whole,
    /// The recorder ended before.
    Cut,
    /// The recorder has not said that everything is in the memory, and goes on.
    Unknown,
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
    fetch(Recorder::find()?, path, quiet, PATIENCE)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits no longer than `patience` for the end of the recording.
fn fetch(mut recorder: Recorder, path: &Path, quiet: bool, patience: Duration) -> Result<()> {
    let mut file = output::open(path, Access::Private, &[])?;
    let end = recorder.end(patience)?;
    ensure!(holds_recording(&recorder.capture), NOTHING_YET);
    let failed = |source| OutputError::System { path: path.to_owned(), source };
    let copied = recorder.capture.rewind().and_then(|()| io::copy(&mut recorder.capture, &mut file)).map_err(failed)?;
    file.complete()?;
    file.publish_keeping(suffix_of_old(path))?;
    if end != End::Unknown {
        // It has nothing left that is of use.
        pidfd_send_signal(&recorder.process, Signal::KILL).ok();
    }
    match end {
        End::Whole => {}
        End::Cut => warn("the recorder was ended before it could end the recording: the last second may be missing"),
        End::Unknown => warn(&format!(
            "the recorder has not said within {} s that the recording is over: the end may be missing. It keeps what it has; \
             dmesg | grep bouncescope may say why",
            patience.as_secs()
        )),
    }
    if !quiet {
        recorder.capture.rewind()?;
        say(&summary(&recorder.capture, copied, path)?);
    }
    Ok(())
}

/// What `record` says at its end, of so many bytes.
fn summary(capture: &File, bytes: u64, path: &Path) -> Result<String> {
    let mut seen = Seen::default();
    let mut reader = Reader::new(BufReader::new(capture.take(bytes)))?;
    while let Some(item) = reader.next_item()? {
        seen.item(&item);
    }
    Ok(seen.summary(bytes).text(path))
}

impl Recorder {
    /// The one that runs, the first where there are several, which is said; an error says why there is none.
    fn find() -> Result<Self> {
        let mut recorders = processes().filter(|process| is_recorder(process));
        let Some(process) = recorders.next() else {
            bail!(
                "no recording from boot is running. To start one, boot with init= or rdinit= set to the path of bouncescope; if you \
                 did, see: dmesg | grep bouncescope:"
            );
        };
        let others = recorders.count();
        if others > 0 {
            warn(&of_several(&process, others));
        }
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
            ErrorKind::NotFound => anyhow::anyhow!(NOTHING_YET),
            _ => anyhow::Error::new(error).context("cannot fetch the recording from boot"),
        })
    }

    /// Lets it end the recording, and waits for that no longer than `patience`. Whatever it holds by then, it keeps.
    fn end(&self, patience: Duration) -> Result<End> {
        if self.is_over() {
            return Ok(End::Whole);
        }
        pidfd_send_signal(&self.process, Signal::TERM).context("cannot end the recording from boot")?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if has_ended(&self.process) {
                return Ok(if self.is_over() { End::Whole } else { End::Cut });
            }
            if self.is_over() {
                return Ok(End::Whole);
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(End::Unknown)
    }

    /// The memory is sealed when everything is in it.
    fn is_over(&self) -> bool {
        fcntl_get_seals(&self.capture).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
    }
}

/// What is said where one recorder of several is taken.
fn of_several(process: &Path, others: usize) -> String {
    let id = process.file_name().unwrap_or_default().display();
    format!(
        "{} recorders from boot are running: this fetches the capture of process {id}, once more the next",
        others + 1
    )
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, Write as _},
        process::{Child, Command, Stdio},
    };

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    const CAPTURE: &[u8] = include_bytes!("../../tests/coherent.bounce");

    /// A process that takes no notice of SIGTERM, and memory with that in it.
    fn recorder(held: &[u8]) -> (Child, Recorder) {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; exec sleep 60"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut capture = File::from(memfd_create(MEMFD, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        capture.write_all(held).unwrap();
        (child, Recorder { process, capture })
    }

    fn fetched(recorder: Recorder) -> (Result<()>, Option<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot.bounce");
        (fetch(recorder, &path, false, Duration::from_millis(100)), fs::read(path).ok())
    }

    #[test]
    fn a_recorder_that_never_says_that_it_is_over_keeps_what_is_fetched() {
        // It may be in the middle of a record.
        let held = &CAPTURE[..CAPTURE.len() - 5];
        let (mut child, recorder) = recorder(held);
        let (result, file) = fetched(recorder);
        result.unwrap();
        assert_eq!(file.unwrap(), held);
        assert!(child.try_wait().unwrap().is_none(), "it was ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_recorder_that_is_over_goes_away_when_its_capture_is_fetched() {
        let (mut child, recorder) = recorder(CAPTURE);
        fcntl_add_seals(&recorder.capture, SealFlags::WRITE).unwrap();
        let (result, file) = fetched(recorder);
        result.unwrap();
        assert_eq!(file.unwrap(), CAPTURE);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_recorder_that_ended_before_the_end_is_told_from_one_that_goes_on() {
        let (mut child, recorder) = recorder(CAPTURE);
        assert_eq!(recorder.end(Duration::from_millis(100)).unwrap(), End::Unknown);
        child.kill().unwrap();
        assert_eq!(recorder.end(Duration::from_mins(1)).unwrap(), End::Cut);
        child.wait().unwrap();
    }

    #[test]
    fn nothing_recorded_leaves_no_file() {
        let (mut child, recorder) = recorder(b"");
        let (result, file) = fetched(recorder);
        assert_eq!((result.unwrap_err().to_string().as_str(), file), (NOTHING_YET, None));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn which_of_several_is_fetched_is_said() {
        let said = of_several(Path::new("/proc/41"), 1);
        assert!(said.starts_with("2 recorders") && said.contains("process 41"), "{said}");
    }
}
