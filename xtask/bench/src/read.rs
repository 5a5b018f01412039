//! What benches that read a capture on one thread, round after round, are told.

use std::path::PathBuf;

use anyhow::Result;

use crate::{generate, released};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Capture to read, made with `--mappings all` where overlaps are looked for [default: the one that `generate` makes]
    capture: Option<PathBuf>,
    /// Mapping events of the one that is made
    #[arg(long, default_value_t = 4_000_000)]
    events: u64,
    /// How often everything is run, in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
}

impl Args {
    /// The capture, which is made if none was named.
    pub(crate) fn capture(&self) -> Result<PathBuf> {
        match &self.capture {
            Some(capture) => Ok(capture.clone()),
            None => Ok(generate::capture(&released::dir(), self.events)?.capture),
        }
    }
}
