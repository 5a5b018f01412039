//! The capture file: append-only frames of compressed payloads, each with its own checksum. Layout, versions and rules:
//! `docs/capture-format.md`.
//!
//! The file knows nothing of what events mean. A reader takes any bytes: cut files are read as far as they are good,
//! damaged frames are skipped and counted, unknown frame types are skipped.

mod ahead;
mod column;
mod events;
mod frame;
mod reader;
mod writer;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

pub use ahead::Ahead;
pub use reader::{Place, Reader};
pub use writer::Writer;

/// The format that this version writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// A capture being written to a file.
pub type FileWriter = Writer<BufWriter<File>>;

/// Why a capture cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file could not be created.
    #[error("cannot create {path}: {source}")]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed; what was written before is readable.
    #[error("cannot write the capture: {0}; what was written until now is readable")]
    Io(#[from] io::Error),
    /// A part of the stream could not be put into its frame.
    #[error("cannot encode a {what} frame: {source}")]
    Encode {
        /// What kind of frame.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A frame is larger than any reader accepts.
    #[error("a {what} frame of {bytes} bytes is larger than the format allows")]
    TooLarge {
        /// What kind of frame.
        what: &'static str,
        /// Its size before compression, bytes.
        bytes: usize,
    },
    /// A scatterlist is longer than any reader accepts.
    #[error("a scatterlist of {found} segments is longer than the format allows")]
    TooManySegments {
        /// Its segments.
        found: usize,
    },
}

/// Why a file cannot be read as a capture at all. Damage inside it is no error: see [`crate::stream::Gaps`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read the capture: {0}")]
    Io(#[from] io::Error),
    /// There is nothing in it, not even the header that [`create`] writes.
    #[error("the file is empty, not a bouncescope capture")]
    Empty,
    /// It does not begin as a capture does.
    #[error("not a bouncescope capture")]
    NotACapture,
    /// It was written by a later version.
    #[error("the capture has format version {found}; this bouncescope reads up to {VERSION}: use a newer one")]
    TooNew {
        /// The file's version.
        found: u32,
    },
    /// What is wrong with a file opened by name.
    #[error("{path}: {source}")]
    In {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Self>,
    },
}

/// Creates `path` for a capture, readable and writable by its owner alone (0600): it contains kernel addresses. A file
/// that is there already is emptied, and given that mode too. The header is on its way to the disk when this returns.
pub fn create(path: &Path) -> Result<FileWriter, WriteError> {
    let named = |source| WriteError::Create { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    // Not truncated by opening: the mode has to be narrow before, not after, the old content makes way for the new.
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(named)?;
    if file.metadata().map_err(named)?.is_file() {
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(named)?;
        file.set_len(0).map_err(named)?;
    }
    let mut writer = Writer::new(BufWriter::new(file))?;
    writer.flush()?;
    Ok(writer)
}

#[cfg(test)]
mod tests;
