//! `bouncescope verify`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use tracer::{
    replay::Wanted,
    report::{
        self,
        machine::{Document as _, Verify},
    },
};

use crate::{
    input::{input_path, of_embedded, print, print_json, replay_capture},
    limit::Limit,
};

#[derive(clap::Args)]
#[command(after_help = "\
Exit code: 0 if everything compared agrees, 1 on any disagreement, 2 if nothing was mapped or the capture cannot be read.")]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to verify; - for standard input", of_embedded!(" [default: the embedded sample]")),
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
    let replayed =
        replay_capture(args.capture.as_ref(), args.limit, |_| Wanted { verdict: true, ..Wanted::default() })?;
    if args.json {
        print_json(&Verify::new(&replayed).to_json())?;
    } else {
        print(&report::verify::text(&replayed))?;
    }
    Ok(match (replayed.verdict.agrees(), report::verify::nothing(&replayed)) {
        (false, _) => ExitCode::from(1),
        (true, Some(_)) => ExitCode::from(2),
        (true, None) => ExitCode::SUCCESS,
    })
}
