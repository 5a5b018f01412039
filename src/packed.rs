//! `bouncescope packed`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use tracer::{
    replay::{Wanted, proposals},
    report,
};

use crate::input::{print, print_json, replay_capture};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope packed phone.bounce                      call sites that could be marked __GFP_PACKED, best first
  bouncescope packed phone.bounce > sites              the same as a list to be edited
  bouncescope replay phone.bounce --policy packed,mainline --packed-sites sites")]
pub(crate) struct Args {
    /// Capture to look at; the embedded one without
    capture: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let replayed = replay_capture(args.capture.as_ref(), |_| Wanted::default())?;
    let proposals = proposals::packed(&replayed, proposals::SMALLEST);
    if args.json {
        print_json(&report::packed::json(&proposals, &replayed))?;
    } else {
        print(&report::packed::text(&proposals, &replayed))?;
    }
    Ok(ExitCode::SUCCESS)
}
