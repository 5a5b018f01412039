//! bouncescope's own chores, `cargo xtask …`. One folder or file per chore.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod allocations;
mod android;
mod bench;
mod build_ebpf;
mod dist;
mod fuzz;
mod jobs;
mod lab;
#[cfg(target_os = "linux")]
mod soak;
mod static_build;
mod written;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "bouncescope's own chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Record on a phone: push the binary over adb, run `doctor` and `record`, pull the capture.
    Android(android::Args),
    /// Time the built binary on a long capture, and hold it against the project's limits.
    Bench(bench::Args),
    /// Compile the eBPF programs for aarch64 and x86-64, or check that the committed objects are fresh.
    BuildEbpf(build_ebpf::Args),
    /// Pack static binaries for other machines, with completions, man pages and checksums.
    Dist(dist::Args),
    /// Search for inputs that panic, or take too much memory or time: every reader of bytes, and what comes after it.
    Fuzz(fuzz::Args),
    /// Boot real arm64 kernels in QEMU, record there, and verify the captures here.
    Lab(lab::Args),
    /// Record this machine's kernel at full rate while recorders are killed, stopped and run out of disk. Needs root.
    #[cfg(target_os = "linux")]
    Soak(soak::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Android(args) => android::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::BuildEbpf(args) => build_ebpf::run(&args),
        Chore::Dist(args) => dist::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Lab(args) => lab::run(&args),
        #[cfg(target_os = "linux")]
        Chore::Soak(args) => soak::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace, wherever the chore was started.
fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where downloads and tools are kept between runs: `$BOUNCESCOPE_CACHE`, else below the user's cache directory.
fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("BOUNCESCOPE_CACHE") {
        return dir.into();
    }
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    base.join("bouncescope")
}
