//! The capture file: append-only frames of compressed payloads, each with its own checksum. Layout, versions and rules:
//! `docs/capture-format.md`.
//!
//! The file knows nothing of what events mean. A reader takes any bytes: cut files are read as far as they are good,
//! damaged frames are skipped and counted, unknown frame types are skipped.
//!
//! A capture is a stream of [`stream::Item`]s: a [`Writer`] takes them, a [`Reader`] returns them.
//!
//! ```
//! use bouncescope_capture::{
//!     Reader, Writer,
//!     facts::End,
//!     stream::{Item, Source as _, Start},
//! };
//!
//! let mut writer = Writer::new(Vec::new())?;
//! writer.write(&Item::Start(Start { recorder: "an example".into(), ..Start::default() }))?;
//! writer.write(&Item::End(End::default()))?;
//! let file = writer.into_inner()?;
//!
//! // Three bytes are missing, as if the disk had been full: what is whole is read.
//! let mut reader = Reader::new(&file[..file.len() - 3])?;
//! assert!(matches!(reader.next_item()?, Some(Item::Start(start)) if start.recorder == "an example"));
//! assert!(reader.next_item()?.is_none());
//! assert!(reader.gaps().no_end && reader.gaps().cut_bytes > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod ahead;
mod blocks;
mod coherent;
mod column;
pub mod event;
mod events;
pub mod facts;
mod filling;
mod frame;
pub mod labels;
pub mod limits;
pub mod names;
pub mod objects;
pub mod output;
pub mod passed;
pub mod plain;
pub mod pseudonym;
pub mod reach;
mod reader;
pub mod relabel;
mod split;
pub mod stream;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use ahead::Ahead;
pub use filling::{FRAME_EVENTS, Filling, Frame};
use output::{Access, Output, OutputError};
pub use reader::{Place, Reader};
pub use writer::Writer;

/// The format that this version writes, and the newest that it reads.
pub const VERSION: u32 = 2;

/// A capture being written to a file.
pub type FileWriter = Writer<Output>;

/// Why a capture cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file cannot be made, or not be put into its place.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Writing failed; what was written before is readable.
    #[error("cannot write the capture (what was written until now is readable): {0}")]
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
    /// Totals of events cannot take the events' place.
    #[error("totals of events that were not read cannot be written")]
    Passed,
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

/// Begins a capture that is to lie at `path`, readable and writable by its owner alone (0600): it contains kernel addresses. It takes
/// the place of what is there once it is finished or published.
pub fn create(path: &Path) -> Result<FileWriter, WriteError> {
    Writer::new(Output::create(path, Access::Private, &[])?)
}

/// Whether a file is a capture with an end: whatever made it did not fail before that.
pub fn is_whole(path: &Path) -> bool {
    reader::ends_well(path).unwrap_or(false)
}

#[cfg(test)]
mod tests;
