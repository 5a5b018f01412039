//! Benchmarks of the built binary against the project's limits, `cargo xtask bench`, and the soak test, `cargo xtask soak`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::live_dma;
use tracer::{
    capture::Reader,
    stream::{Item, Source},
};

mod allocations;
mod cpu;
mod generate;
mod holders;
mod import;
mod kernel;
mod measure;
mod memory;
mod objects;
mod overhead;
mod overlaps;
mod random;
mod read;
mod released;
mod replay;
#[cfg(target_os = "linux")]
mod soak;
mod traffic;

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "Measure what the product costs, against the project's limits"
)]
struct Cli {
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
    /// Time `replay` and a sweep against a bare `zstd -dc` of the same capture, and check both against their limits.
    Replay(replay::Args),
    /// Measure what it costs a replay to keep who holds slots.
    Holders(holders::Args),
    /// Measure the CPU time of one thread that reads, replays and sweeps a capture.
    Cpu(read::Args),
    /// Measure what it costs a recorder to look for overlaps.
    Overlaps(read::Args),
    /// Measure what allocations and frees take in a capture: bytes, and CPU time to write and read them.
    Objects(objects::Args),
    /// Time `import` of long texts, beside `wc -l` and `grep -c` of the same files.
    Import(import::Args),
    /// Read a capture and do nothing with it, as fast as possible on one thread.
    Read {
        /// Capture to read
        capture: PathBuf,
    },
    /// Measure in a guest of the lab what each program costs the kernel that runs it, in instructions.
    LiveDma(live_dma::Args),
    /// Make the capture alone.
    Generate {
        /// Mapping events: mappings and unmappings, single ones and lists
        #[arg(long, default_value_t = replay::EVENTS)]
        events: u64,
    },
    /// Record this machine's kernel at full rate while recorders are killed, stopped and run out of disk. Needs root.
    #[cfg(target_os = "linux")]
    #[command(override_usage = "cargo xtask soak [OPTIONS]")]
    Soak(soak::Args),
}

fn main() -> ExitCode {
    match run(&Cli::parse().bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Overhead(args) => overhead::run(args),
        Bench::Storm(args) => overhead::storm::run(args),
        Bench::Replay(args) => replay::run(args),
        Bench::Holders(args) => holders::run(args),
        Bench::Cpu(args) => cpu::run(args),
        Bench::Overlaps(args) => overlaps::run(args),
        Bench::Objects(args) => objects::run(args),
        Bench::Import(args) => import::run(args),
        Bench::Read { capture } => read(capture),
        Bench::LiveDma(args) => live_dma::run(args),
        Bench::Generate { events } => {
            let made = generate::capture(&released::dir(), *events)?;
            println!("{}", made.capture.display());
            Ok(())
        }
        #[cfg(target_os = "linux")]
        Bench::Soak(args) => soak::run(args),
    }
}

fn read(capture: &std::path::Path) -> Result<()> {
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
