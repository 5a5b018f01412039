//! `fleet replay`: simulated kernels over many captures, from the command line. The work is that of the table function `replay()`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use datafusion::arrow::array::RecordBatch;
use indicatif::{ProgressBar, ProgressStyle};
use tracer::{
    capture::Reader,
    plain::plain,
    stream::{Item, Source as _},
};

use crate::{
    capture::{Known, POLICIES, Scenarios, caught, identify, keys, one_line},
    ingest::found,
    lake::Lake,
    query::ResultArgs,
    replayed::Told,
    say, session,
};

/// As many reasons are printed.
const SAID: usize = 10;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope fleet replay lake --swiotlb 512K,1M,2M,4M                  which pool is enough, for how many captures
  bouncescope fleet replay lake --policy all --where \"soc = 'rk3588'\" -o rk3588.parquet
  bouncescope fleet replay nightly/ --policy mainline,mine.toml --cache-line-size 64,128

Without -o, a line for each simulated kernel is printed: how many captures there are, and in how many no mapping is refused (`fits`: for sure,
`fits_perhaps`: as far as was recorded). With -o, a row for each capture and kernel is written, with the columns of the table `outcomes`.

Exit code: 0, or 2 if a capture could not be replayed; its rows have the reason in the column `error`.")]
pub(crate) struct Args {
    /// A lake, or captures, directories and patterns as for `ingest`
    #[arg(required = true, value_name = "LAKE|CAPTURE")]
    inputs: Vec<PathBuf>,
    /// Policies: names, all, or TOML files
    #[arg(long, default_value = POLICIES, value_name = "NAME,…")]
    policy: String,
    /// Pools, as for `bouncescope replay` [default: the policy's own, mostly the captured one]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SIZE,…")]
    swiotlb: String,
    /// Cache line sizes, bytes [default: the captured one]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "BYTES,…")]
    cache_line_size: String,
    /// Only captures of which this holds: SQL about capture, board, soc, build, serial, host and day. The others are not opened
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// What is printed for people.
const SUMMARY: &str = "SELECT policy, swiotlb, cache_line_size AS line, count(*) AS captures, \
    sum(CASE WHEN failed_high = 0 THEN 1 ELSE 0 END) AS fits, sum(CASE WHEN failed = 0 THEN 1 ELSE 0 END) AS fits_perhaps, \
    sum(failed) AS refused, sum(bounces) AS bounces, sum(bytes_copied) AS bytes_copied, max(peak_slots) AS peak_slots, \
    sum(hazards_foreign) AS hazards_foreign, sum(hazards_unknown) AS hazards_unknown \
    FROM what_if WHERE error IS NULL GROUP BY policy, swiotlb, cache_line_size ORDER BY policy, swiotlb, cache_line_size";

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let scenarios = Scenarios::parse(&args.policy, &args.swiotlb, &args.cache_line_size)?;
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let call =
        format!("replay({}, {}, {})", literal(&args.policy), literal(&args.swiotlb), literal(&args.cache_line_size));
    let condition = args.condition.as_ref().map_or_else(String::new, |condition| format!(" WHERE {condition}"));
    let rows = format!("SELECT * FROM {call}{condition}");
    let progress = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.enable_steady_tick(Duration::from_millis(500));
    let told = Told { progress: progress.clone(), failed: Arc::default() };
    let mut unreadable = Vec::new();
    let lake = match &args.inputs[..] {
        [lake] if Lake::is_one(lake) => Some(Lake::open(lake)?),
        _ => None,
    };
    session::run(async {
        let context = match &lake {
            Some(lake) => session::of_lake_told(lake, told.clone())?,
            None => session::of_captures(&captures(&args.inputs, &mut unreadable)?, told.clone())?,
        };
        if args.result.output.is_some() || args.result.format.is_some() {
            let written = args.result.write(session::query(&context, &rows).await?).await?;
            progress.finish_and_clear();
            say(&format!("{written} rows of {} captures\n", written / scenarios.count()));
        } else {
            let summary = SUMMARY.replace("what_if", &format!("({rows})"));
            let summary = session::query(&context, &summary).await?;
            let none = RecordBatch::new_empty(Arc::clone(summary.schema().inner()));
            let mut summary = summary.collect().await?;
            progress.finish_and_clear();
            summary.insert(0, none);
            args.result.write(context.read_batches(summary)?).await?;
        }
        Ok(())
    })?;
    let mut failed = unreadable;
    failed.append(&mut told.failed.lock().unwrap_or_else(PoisonError::into_inner));
    failed.sort();
    for reason in failed.iter().take(SAID) {
        say(&format!("warning: {reason}\n"));
    }
    if failed.len() > SAID {
        say(&format!("warning: and {} captures more could not be replayed\n", failed.len() - SAID));
    }
    Ok(ExitCode::from(if failed.is_empty() { 0 } else { 2 }))
}

/// Captures that are in no lake. Those of which not even the beginning can be read are told apart.
fn captures(inputs: &[PathBuf], unreadable: &mut Vec<String>) -> Result<Vec<Known>> {
    let mut captures = Vec::new();
    for (path, _) in found(inputs, Path::new(""))? {
        let known = caught(|| {
            let (identity, labels, bytes) = identify(&path)?;
            let first = Reader::open(&path)?.next_item()?;
            let wall_clock_s = if let Some(Item::Start(start)) = first { Some(start.wall_clock_s) } else { None };
            Ok(Known { capture: identity.to_string(), keys: keys(&labels, wall_clock_s), path: path.clone(), bytes })
        });
        match known {
            Ok(known) => captures.push(known),
            Err(error) => unreadable.push(format!("{}: {}", plain(&path.display().to_string()), one_line(&error))),
        }
    }
    ensure!(!captures.is_empty() || !unreadable.is_empty(), "no capture found: a directory is searched for *.bounce");
    if captures.is_empty() {
        bail!("{}", unreadable.join("; "));
    }
    Ok(captures)
}
