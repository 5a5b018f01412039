//! Benchmarks of the built binary against the project's limits, on a capture that is made here.

use anyhow::Result;
use clap::Subcommand;

mod generate;
mod kernel;
mod measure;
mod memory;
mod random;
mod replay;
mod traffic;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Time `replay` and a sweep against a bare `zstd -dc` of the same capture, and hold both against their limits.
    Replay(replay::Args),
    /// Make the capture alone.
    Generate {
        /// Mapping events: mappings and unmappings, single ones and lists
        #[arg(long, default_value_t = replay::EVENTS)]
        events: u64,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.bench {
        Bench::Replay(args) => replay::run(args),
        Bench::Generate { events } => {
            let made = generate::capture(&replay::bench_dir(), *events)?;
            println!("{}", made.capture.display());
            Ok(())
        }
    }
}
