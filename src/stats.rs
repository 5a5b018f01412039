//! `bouncescope stats`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use tracer::{replay::Wanted, report};

use crate::input::{print, print_json, replay_capture};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Capture to show; the embedded one without
    capture: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let replayed = replay_capture(args.capture.as_ref(), |_| Wanted { statistics: true, ..Wanted::default() })?;
    if args.json {
        print_json(&report::stats::json(&replayed))?;
    } else {
        print(&report::stats::text(&replayed))?;
    }
    Ok(ExitCode::SUCCESS)
}
