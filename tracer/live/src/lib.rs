//! The running kernel as a stream: load, attach, drain. The only room that knows aya.
//!
//! A [`Session`] yields the same [`bouncescope_capture::stream::Item`]s that a capture does. It decides nothing about what they mean,
//! and knows no file and no terminal.
//!
//! ```no_run
//! use bouncescope_capture::{create, stream::Item};
//! use bouncescope_live::{Options, Session};
//!
//! # async fn record(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
//! // `options` says what is traced, and `start` which hooks this kernel has. Needs root, or the capabilities to trace.
//! let (mut session, start) = Session::start(options)?;
//! let mut capture = create("running.bounce".as_ref())?;
//! capture.write(&Item::Start(start))?;
//! for _ in 0..100 {
//!     session.ring_fills().await?;
//!     for item in session.drain() {
//!         capture.write(&item)?;
//!     }
//! }
//! for item in session.stop()? {
//!     capture.write(&item)?;
//! }
//! capture.finish()?;
//! # Ok(())
//! # }
//! ```

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod clock;
mod decode;
mod hooks;
pub mod kernel;
mod load;
mod log_clock;
mod map_entries;
mod memory;
mod naming;
mod options;
mod programs_log;
mod provoke;
mod recording;
mod renounce;
mod rings;
mod run_times;
mod self_test;
mod session;
mod tallies;

use std::io;

pub use clock::{now_ns, thread_cpu_ns};
pub use hooks::Places;
pub use log_clock::{LogClock, LogTime};
pub use map_entries::MapEntries;
pub use options::{ObjectRings, Options};
pub use recording::{DRAIN_EVERY, Sink, TALLY_EVERY, record, ticks};
pub use renounce::{renounce, renounce_unless};
pub use self_test::self_test;
pub use session::{Drained, Session};

use crate::kernel::btf::BtfError;
use bouncescope_capture::event::Batch;
use bouncescope_capture::facts::Device;

/// Why the running kernel cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Not root, and none of the capabilities that would do.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// The hard limit on open files is too low.
    #[error(
        "tracing takes up to {needed} open files, and no more than {limit} are allowed: raise the hard limit (ulimit -Hn)"
    )]
    FewDescriptors {
        /// The hard limit.
        limit: u64,
        /// How many a recording may take.
        needed: u64,
    },
    /// The file that was named as this kernel's BTF holds none.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The second witness was asked for and cannot be had.
    #[error("cannot count with tracefs: {0}")]
    NoTracefs(String),
    /// The program that runs is damaged.
    #[error("cannot unpack the BPF programs: {0}")]
    Unpack(#[source] io::Error),
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
