//! `bouncescope stats`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use tracer::{
    replay::Wanted,
    report::{
        self,
        machine::{Document as _, Stats},
    },
};

use crate::{
    duration::parse_duration,
    input::{input_path, of_embedded, print, print_json, replay_capture},
    limit::Limit,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to show; - for standard input", of_embedded!(" [default: the embedded sample]")),
        value_parser = input_path(),
    )]
    capture: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
    /// Show only who held slots at this moment, counted from the beginning of the recording, as 90, 1.5s or 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    at: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let limit = args.at.map_or(args.limit, |at| args.limit.until(at));
    let wanted = Wanted { statistics: true, overlaps: true, holders: true, ..Wanted::default() };
    let replayed = replay_capture(args.capture.as_ref(), limit, |_| wanted)?;
    if let Some(at) = args.at {
        let lasted = Duration::from_nanos(replayed.span_ns);
        ensure!(at <= lasted, "--at {at:?} is after the end: the recording took {:.3} s", lasted.as_secs_f64());
    }
    if args.json {
        print_json(&Stats::new(&replayed).to_json())?;
    } else if args.at.is_some() {
        print(&report::holders::at(&replayed))?;
    } else {
        print(&report::stats::text(&replayed))?;
    }
    Ok(ExitCode::SUCCESS)
}
