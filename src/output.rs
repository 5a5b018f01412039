//! Files that the commands write.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Result;
use clap::builder::{PathBufValueParser, TypedValueParser};
use tracer::{
    capture::{self, FileWriter, Writer},
    output::{Access, Output, OutputError},
};

use crate::input::note;

/// How often a FIFO is tried that nobody reads yet.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// An output among the arguments; `-` is standard output.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| if path == Path::new("-") { "/dev/stdout".into() } else { path })
}

/// Begins an output, which is none of `inputs`; waits for the reader of a FIFO, and says so.
pub(crate) fn open(path: &Path, access: Access, inputs: &[&Path]) -> Result<Output> {
    let mut waits = false;
    loop {
        match Output::create(path, access, inputs) {
            Err(OutputError::NoReader { .. }) => {
                if !waits {
                    note(&format!("waiting for somebody to read {}", path.display()));
                }
                waits = true;
                thread::sleep(TRY_EVERY);
            }
            result => return Ok(result?),
        }
    }
}

/// Writes a text.
pub(crate) fn write(path: &Path, inputs: &[&Path], text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut output = open(path, Access::Shared, inputs)?;
    output.write_all(text.as_bytes()).map_err(|source| OutputError::System { path: path.to_owned(), source })?;
    Ok(output.finish()?)
}

/// Begins a capture.
pub(crate) fn begin_capture(path: &Path, inputs: &[&Path]) -> Result<FileWriter> {
    Ok(Writer::new(open(path, Access::Private, inputs)?)?)
}

/// What is added to the name of a file that makes way for a capture. The last whole capture is `.old`: one without an end does not take
/// its place, however often a recording fails.
pub(crate) fn suffix_of_old(path: &Path) -> &'static str {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    if capture::is_whole(Path::new(&old)) && !capture::is_whole(path) { ".cut" } else { ".old" }
}
