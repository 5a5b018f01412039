//! The running kernel as a stream: load, attach, drain. The only room that knows aya.
//!
//! A [`Session`] yields the same [`crate::stream::Item`]s that a capture does. It decides nothing about what they mean,
//! and knows no file and no terminal.

mod clock;
mod decode;
mod hooks;
mod load;
mod map_entries;
mod options;
mod programs_log;
mod provoke;
mod renounce;
mod rings;
mod run_times;
mod self_test;
mod session;
mod tallies;

use std::io;

pub use hooks::Places;
pub use map_entries::MapEntries;
pub use options::Options;
pub use renounce::renounce;
pub use self_test::self_test;
pub use session::Session;

use crate::event::Batch;
use crate::facts::Device;
use crate::kernel::btf::BtfError;

/// Why the running kernel cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Not root, and none of the capabilities that would do.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// The file that was named as this kernel's BTF holds none.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The second witness was asked for and cannot be had.
    #[error("cannot count with tracefs: {0}")]
    NoTracefs(String),
    /// Loading failed for another reason.
    #[error("cannot load the BPF programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A map could not be opened or read.
    #[error("cannot read a BPF map: {0}")]
    Map(#[from] aya::maps::MapError),
    /// No hook at all could be attached.
    #[error("no hook could be attached: {0}")]
    NoHook(String),
    /// Waiting for the ring failed.
    #[error("cannot wait for events: {0}")]
    Wait(#[from] io::Error),
}

/// Decodes records of the ring, as a session does: the devices described, the events, and how many records made no sense. A door
/// for fuzzing.
#[doc(hidden)]
pub fn decode_records<'a>(records: impl Iterator<Item = &'a [u8]>) -> (Vec<Device>, Batch, u64) {
    let mut decoder = decode::Decoder::new(4096, None, false);
    for record in records {
        decoder.record(record);
    }
    (decoder.new_devices, decoder.batch, decoder.malformed)
}
