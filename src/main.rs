//! The command `bouncescope`: arguments in, exit code out. One file per subcommand; what they do is in the library.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

mod check;
mod doctor;
mod explain;
mod export;
mod import;
mod input;
mod manual;
mod output;
mod packed;
mod policies;
mod progress;
#[cfg(all(target_os = "linux", feature = "live"))]
mod record;
mod replay;
#[cfg(feature = "report")]
mod report;
#[cfg(feature = "report")]
mod serve;
mod stats;
mod top;
mod verify;

/// What small kmalloc caches and DMA bouncing really cost on a live arm64 system.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hold captures to rules: exit code 0 when all are kept, 1 when one is broken, 2 when one could not be told.
    Check(check::Args),
    /// One page about this kernel: what it does with small buffers, which hooks fire, what can be told.
    Doctor(doctor::Args),
    /// Say what the kernel's messages about bouncing really mean, and what would help.
    Explain(explain::Args),
    /// Write what a capture holds as tables (CSV, Parquet, Arrow), or as a timeline for Perfetto.
    Export(export::Args),
    /// Make a capture of a text trace: ftrace, trace-cmd or perf script.
    Import(import::Args),
    /// Print the completions of a shell, to be put where it looks for them.
    #[command(hide = true)]
    Completions(manual::Completions),
    /// Write a man page for the program and each of its commands.
    #[command(hide = true)]
    Man(manual::Man),
    /// Trace this kernel and write a capture.
    #[cfg(all(target_os = "linux", feature = "live"))]
    Record(record::Args),
    /// Propose call sites of kmalloc that never reach DMA, for `__GFP_PACKED`.
    Packed(packed::Args),
    /// List and explain the policies, or print one as TOML.
    Policies(policies::Args),
    /// Replay a capture under other settings and predict what would bounce.
    Replay(replay::Args),
    /// Write a page about a capture, with plots; or about what changed from one capture to another.
    #[cfg(feature = "report")]
    Report(report::Args),
    /// Serve metrics for Prometheus, and the page of `report`, of a capture or of the running kernel.
    #[cfg(feature = "report")]
    Serve(serve::Args),
    /// Show what happened in a capture, without any what-if.
    Stats(stats::Args),
    /// Watch this kernel, or a capture, in the terminal.
    Top(top::Args),
    /// Hold the prediction for the captured kernel's own settings against what that kernel did.
    Verify(verify::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Completions(args) => manual::completions(&args, &mut Cli::command()),
        Command::Man(args) => manual::pages(&args, Cli::command()),
        #[cfg(all(target_os = "linux", feature = "live"))]
        Command::Record(args) => record::run(args),
        Command::Packed(args) => packed::run(&args),
        Command::Policies(args) => policies::run(&args),
        Command::Replay(args) => replay::run(&args),
        #[cfg(feature = "report")]
        Command::Report(args) => report::run(&args),
        #[cfg(feature = "report")]
        Command::Serve(args) => serve::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Verify(args) => verify::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            input::say(&format!("bouncescope: {}\n", one_line(&error)));
            ExitCode::from(2)
        }
    }
}

/// The error and its causes in one line; causes that the errors above them have already quoted are left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}
