//! `bouncescope verify`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use tracer::{replay::Wanted, report};

use crate::input::{print, print_json, replay_capture};

#[derive(clap::Args)]
#[command(after_help = "\
Exit code: 0 when nothing disagrees, 1 on any disagreement, 2 when the capture can't be read.")]
pub(crate) struct Args {
    /// Capture to verify; the embedded one without
    capture: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let replayed = replay_capture(args.capture.as_ref(), |_| Wanted { verdict: true, ..Wanted::default() })?;
    if args.json {
        print_json(&report::verify::json(&replayed))?;
    } else {
        print(&report::verify::text(&replayed))?;
    }
    Ok(if replayed.verdict.agrees() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
