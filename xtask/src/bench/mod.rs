//! Benchmarks of the built binary against the project's limits, on a capture that is made here.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use tracer::{
    capture::Reader,
    stream::{Item, Source},
};

use crate::lab::live_dma;

mod generate;
mod kernel;
mod measure;
mod memory;
mod overhead;
pub(crate) mod random;
mod replay;
mod traffic;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Measure what tracing costs the traced on this machine's kernel, next to other tools. Needs root.
    Overhead(overhead::Args),
    /// Allocate as fast as all CPUs can, which `overhead` measures by.
    #[command(hide = true)]
    Storm(overhead::storm::Args),
    /// Time `replay` and a sweep against a bare `zstd -dc` of the same capture, and hold both against their limits.
    Replay(replay::Args),
    /// Read a capture and do nothing with it, as fast as that goes on one thread.
    Read {
        /// Capture to read
        capture: PathBuf,
    },
    /// Measure in a guest of the lab what each program is to the kernel that runs it, in instructions.
    LiveDma(live_dma::Args),
    /// Make the capture alone.
    Generate {
        /// Mapping events: mappings and unmappings, single ones and lists
        #[arg(long, default_value_t = replay::EVENTS)]
        events: u64,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.bench {
        Bench::Overhead(args) => overhead::run(args),
        Bench::Storm(args) => overhead::storm::run(args),
        Bench::Replay(args) => replay::run(args),
        Bench::Read { capture } => {
            let mut reader = Reader::open(capture)?;
            let mut events = 0;
            while let Some(item) = reader.next_item()? {
                if let Item::Events(batch) = item {
                    events += batch.events.len();
                }
            }
            println!("{events} events");
            Ok(())
        }
        Bench::LiveDma(args) => live_dma::run(args),
        Bench::Generate { events } => {
            let made = generate::capture(&replay::bench_dir(), *events)?;
            println!("{}", made.capture.display());
            Ok(())
        }
    }
}

/// The product and this program, built as they are released; the directory that they are in.
pub(crate) fn released() -> Result<PathBuf> {
    replay::build()
}
