//! Captures as arguments, and output that may go into a pipe.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tracer::{
    capture::{Ahead, Reader},
    replay::{Replayed, Wanted},
    stream::{Source, Start},
    sweep::sweep,
};

use crate::progress::Progress;

/// What is read without a capture: [`captures/README.md`](../captures/README.md) says how it was made.
pub(crate) const EMBEDDED: &[u8] = include_bytes!("../captures/default.bounce");

/// Replays the capture, or the embedded one.
pub(crate) fn replay_capture(path: Option<&PathBuf>, wanted: impl FnOnce(&Start) -> Wanted) -> Result<Replayed> {
    match path {
        Some(path) => {
            let reader = Reader::open(path)?;
            let ahead = Ahead::new(reader).context("cannot start a thread to read with")?;
            // Without a length, as of a pipe, no progress can be told.
            let length = fs::metadata(path).map_or(0, |file| file.len());
            replay_source(&mut Progress::new(ahead, length), wanted).with_context(|| named(path))
        }
        None => replay_source(&mut Reader::new(EMBEDDED)?, wanted).context("the embedded capture"),
    }
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

fn replay_source<S: Source>(source: &mut S, wanted: impl FnOnce(&Start) -> Wanted) -> Result<Replayed> {
    Ok(sweep(source, wanted)?)
}

/// Prints to standard output; a reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Says something on standard error. Where that cannot be written (a log on the disk that is full, a closed pipe) nothing is said, and
/// what is going on goes on, with its own exit code; `eprint!` would panic.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints JSON, indented, with a line end.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}
