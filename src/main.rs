//! The command `bouncescope`: arguments in, exit code out. One file per subcommand; what they do is in the library.

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

#[cfg(all(unix, feature = "report"))]
mod android;
#[cfg(all(target_os = "linux", feature = "live"))]
mod boot;
#[cfg(feature = "report")]
mod browser;
mod bundle;
mod check;
mod convert;
mod diff;
mod doctor;
mod duration;
mod explain;
mod export;
#[cfg(feature = "report")]
mod fleet;
mod foreign;
mod import;
mod input;
mod label;
mod limit;
mod manual;
mod output;
mod packed;
mod policies;
mod policy_files;
mod progress;
#[cfg(all(target_os = "linux", feature = "live"))]
mod record;
#[cfg(all(target_os = "linux", feature = "live"))]
mod recording;
mod replay;
#[cfg(feature = "report")]
mod report;
#[cfg(feature = "report")]
mod serve;
mod stats;
mod top;
mod verify;
mod what_if;

use input::one_line;

/// Measure the cost of small kmalloc caches and DMA bouncing on a live arm64 system, and predict both for other
/// settings.
#[derive(Parser)]
#[command(version, long_version = env!("BOUNCESCOPE_VERSION"), max_term_width = 100)]
struct Cli {
    /// Colours: auto (on a terminal, unless `NO_COLOR` is set), always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: clap::ColorChoice,
    #[command(subcommand)]
    command: Command,
}

/// In the order of use: this kernel, a capture, other people's files.
#[derive(Subcommand)]
enum Command {
    /// Show what this kernel does with small buffers, which hooks work on it, and what can be measured.
    Doctor(doctor::Args),
    /// Trace this kernel and write a capture.
    #[cfg(all(target_os = "linux", feature = "live"))]
    Record(record::Args),
    /// Record on phones over adb, and pull the captures.
    #[cfg(all(unix, feature = "report"))]
    Android(android::Args),
    /// Watch this kernel, or a capture, in the terminal.
    Top(top::Args),
    /// Serve Prometheus metrics and the report, for a capture or for this kernel.
    #[cfg(feature = "report")]
    Serve(serve::Args),
    /// Predict bounces, pool use and refused mappings of a capture under other settings; --advise says what to do.
    Replay(replay::Args),
    /// Compare the prediction for the captured kernel's own settings with what that kernel did.
    Verify(verify::Args),
    /// Show what a capture contains, without any prediction.
    Stats(stats::Args),
    /// Write a report with plots about a capture, or about the differences between two.
    #[cfg(feature = "report")]
    Report(report::Args),
    /// Compare two captures: what got better or worse, with an exit code for conditions.
    Diff(diff::Args),
    /// Check captures against rules: exit code 0 if all are kept, 1 if one is broken, 2 if one is inconclusive.
    Check(check::Args),
    /// Propose call sites for `__GFP_PACKED`: those whose kmalloc objects never reach DMA.
    Packed(packed::Args),
    /// List the policies with their rules, or print one as TOML.
    Policies(policies::Args),
    /// Explain kernel messages about DMA bouncing, and say what would help.
    Explain(explain::Args),
    /// Show the labels of captures (board, build, …), or set them.
    Label(label::Args),
    /// Pack a capture and what it shows into one archive to send, without kernel addresses.
    Bundle(bundle::Args),
    /// Convert a trace of ftrace, trace-cmd, perf or Perfetto into a capture.
    Import(import::Args),
    /// Write a capture in the newest version of its format.
    Convert(convert::Args),
    /// Write a capture as tables (CSV, Parquet, Arrow) or as a timeline for Perfetto.
    Export(export::Args),
    /// Ask many captures one question: take them into a lake, query it with SQL, replay them all (bouncescope-fleet).
    #[cfg(feature = "report")]
    Fleet(fleet::Args),
    /// Print completions for a shell.
    Completions(manual::Completions),
    /// Write man pages for the program and each of its commands.
    Man(manual::Man),
}

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", feature = "live"))]
    boot::take_over();
    let Cli { color, command } = Cli::parse();
    input::choose_colours(color);
    let result = match command {
        #[cfg(all(unix, feature = "report"))]
        Command::Android(args) => android::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Export(args) => export::run(&args),
        #[cfg(feature = "report")]
        Command::Fleet(args) => fleet::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Label(args) => label::run(&args),
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
            input::fail(&error);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_capture_of_its_own_does_not_offer_one() {
        for command in Cli::command().get_subcommands_mut() {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            let takes_none = ["convert", "label", "check", "diff", "bundle"].contains(&name.as_str());
            let offers = help.contains("embedded");
            assert!(!offers || cfg!(feature = "embedded") && !takes_none, "{name}: {help}");
            assert!(name != "replay" || offers == cfg!(feature = "embedded"), "{help}");
        }
    }
}
