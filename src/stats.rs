//! `bouncescope stats`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use tracer::{
    replay::Wanted,
    report::{
        self,
        machine::{Document as _, Stats},
    },
};

use crate::{
    input::{input_path, print, print_json, replay_capture},
    limit::Limit,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Capture to show; - for standard input [default: the embedded sample]
    #[arg(value_parser = input_path())]
    capture: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let replayed =
        replay_capture(args.capture.as_ref(), args.limit, |_| Wanted { statistics: true, ..Wanted::default() })?;
    if args.json {
        print_json(&Stats::new(&replayed).to_json())?;
    } else {
        print(&report::stats::text(&replayed))?;
    }
    Ok(ExitCode::SUCCESS)
}
