//! `bouncescope packed`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use tracer::{
    replay::{Wanted, proposals},
    report::{
        self,
        machine::{Document as _, Packed},
    },
};

use crate::{
    input::{input_path, of_embedded, print, print_json, replay_capture},
    limit::Limit,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope packed phone.bounce                      call sites that could be marked __GFP_PACKED, best first
  bouncescope packed phone.bounce > sites              the same, as a list to edit
  bouncescope replay phone.bounce --policy packed,mainline --packed-sites sites")]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to read; - for standard input", of_embedded!(" [default: the embedded sample]")),
        value_parser = input_path(),
    )]
    capture: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let replayed = replay_capture(args.capture.as_ref(), args.limit, |_| Wanted::default())?;
    let proposals = proposals::packed(&replayed, proposals::SMALLEST);
    if args.json {
        print_json(&Packed::new(&proposals, &replayed).to_json())?;
    } else {
        print(&report::packed::text(&proposals, &replayed))?;
    }
    Ok(ExitCode::SUCCESS)
}
