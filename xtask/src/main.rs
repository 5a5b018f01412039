//! bouncescope's developer tasks, `cargo xtask …`. One folder or file per task; the lab and the benchmarks are programs of their
//! own, which are only started here.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

mod android;
mod api;
mod build_ebpf;
mod dist;
mod fuzz;
mod golden;
mod package;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "bouncescope's developer tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the arm64 program, and record with it on a phone: `bouncescope android`.
    Android(Passed),
    /// List the public items of every library, or check that none came or went unseen.
    Api(api::Args),
    /// Measure what the product costs, on a long capture and on this machine's kernel, against the project's limits.
    Bench(Passed),
    /// Compile the eBPF programs for aarch64 and x86-64, or check that the committed objects are fresh.
    BuildEbpf(build_ebpf::Args),
    /// Pack static binaries for other machines as archives and Debian packages, with completions, man pages and checksums.
    Dist(dist::Args),
    /// Search for inputs that panic, or take too much memory or time: every reader of bytes, and what comes after it.
    Fuzz(fuzz::Args),
    /// Write every golden file anew: what the commands print, README and docs blocks, screens, pages.
    Golden(golden::Args),
    /// Boot real arm64 kernels in QEMU, record there, and verify the captures here.
    Lab(Passed),
    /// Pack every crate that is meant for others, as for a registry, and check that the packages are enough to build with.
    Package(package::Args),
    /// Record this machine's kernel at full rate while recorders are killed, stopped and run out of disk. Needs root.
    Soak(Passed),
}

/// Arguments of a program that is started, `--help` among them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
struct Passed {
    /// Passed on; `--help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Android(Passed { arguments }) => android::run(&arguments),
        Task::Api(args) => api::run(&args),
        Task::Bench(Passed { arguments }) => become_program("bench", &arguments),
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Golden(args) => golden::run(&args),
        Task::Lab(Passed { arguments }) => become_program("lab", &arguments),
        Task::Package(args) => package::run(&args),
        Task::Soak(Passed { arguments }) => become_program("bench", &[vec!["soak".into()], arguments].concat()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and runs a program of the workspace in place of this one, so that signals and exit code are its own.
fn become_program(package: &str, arguments: &[OsString]) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--manifest-path"]).arg(workspace::root().join("Cargo.toml"));
    let error = cargo.args(["--package", package, "--"]).args(arguments).exec();
    Err(error).context("cannot run cargo")
}
