//! `bouncescope replay`.

use std::{path::PathBuf, process::ExitCode};

use anstyle::AnsiColor;
use anyhow::{Result, bail};
use tracer::{
    replay::{
        Wanted,
        scenarios::{Value, combinations, parse_sweep},
        settings::Settings,
    },
    report::{
        self,
        advice::{
            self, Tried,
            several::{self, Recording, Several},
        },
        answer::{By, Verdict, answer},
        machine::{Document as _, Replay},
    },
    stream::Streamed,
};

use crate::{
    input::{input_path, of_embedded, print, print_json, print_verdict, replay_capture, warn},
    limit::Limit,
    what_if::{WhatIfArgs, explain_pools},
};

#[derive(clap::Args)]
#[command(after_help = concat!(
    "Examples:\n",
    of_embedded!("  bouncescope replay                                   the embedded capture of a real arm64 kernel\n"),
    "  bouncescope replay phone.bounce --policy mainline,always-small,mine.toml
  bouncescope replay phone.bounce --swiotlb none       the effect of swiotlb=noforce there
  bouncescope replay phone.bounce --sweep swiotlb=512K,1M,2M,4M --sweep cache-line-size=64,128
  bouncescope replay phone.bounce --advise             the smallest pool, the cheapest safe policy, the drivers to fix
  bouncescope replay --advise mon.bounce tue.bounce …  one pool for several recordings, and how sure it is
  bouncescope replay phone.bounce --non-coherent 1d84000.ufshc --json

`bouncescope policies` lists and explains the policies."))]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to replay; - for standard input", of_embedded!(" [default: the embedded sample]"), ". With --advise, several captures are answered together"),
        value_name = "CAPTURE", value_parser = input_path(),
    )]
    captures: Vec<PathBuf>,
    #[command(flatten)]
    what_if: WhatIfArgs,
    /// Try each of these values, combined with every policy and every other sweep: cache-line-size=16..256,
    /// minalign=8,64, swiotlb=512K,1M, lists=whole-list,flagged, when-full=fail,fallback
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_sweep)]
    sweep: Vec<Vec<Value>>,
    /// Begin with advice: the smallest pool for the first policy that bounces, what it saves and costs, the cheapest
    /// policy without hazards, and the drivers to fix
    #[arg(long)]
    advise: bool,
    /// Percentage of the advised pool that must stay free when it is fullest
    #[arg(long, value_name = "PERCENT", default_value = "25", value_parser = parse_percent, requires = "advise")]
    headroom: u8,
    #[command(flatten)]
    limit: Limit,
    /// Print every figure, and bounces and hazards by device, driver, call site, direction and length
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    wide: bool,
    /// Group bounces by this key
    #[arg(long, value_name = "KEY", value_parser = By::ALL.map(|(_, name)| name), default_value = "device", conflicts_with_all = ["json", "csv", "wide"])]
    by: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the table of policies as CSV; the last row is what the kernel did
    #[arg(long, conflicts_with_all = ["json", "advise"])]
    csv: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.captures[..] {
        [] => one(args, None),
        [capture] => one(args, Some(capture)),
        several => advise(args, several),
    }
}

fn one(args: &Args, capture: Option<&PathBuf>) -> Result<ExitCode> {
    let policies = args.what_if.policies()?;
    let what_if = args.what_if.of_capture(&policies, capture, args.limit)?;
    let mut shown = 0;
    let mut wrong = None;
    let mut chosen = Vec::new();
    let mut replayed = replay_capture(capture, args.limit, |start| {
        let kernel = &start.kernel;
        let all = combinations(kernel, &policies, &what_if, &args.sweep).unwrap_or_else(|error| {
            wrong = Some(error);
            Vec::new()
        });
        shown = all.len();
        let mut settings: Vec<_> = all.iter().map(|combination| combination.settings.clone()).collect();
        if args.advise {
            let all: Vec<_> = all.iter().map(|one| (&one.policy, &one.what_if, &one.settings)).collect();
            settings.extend(advice::tried(kernel, &all));
        }
        chosen.extend(all.iter().map(|about| about.what_if.pool.unwrap_or(about.policy.pool)));
        // Of a recording of every mapping, these are the most of the work.
        let overlaps = args.wide || args.csv || args.json || start.streamed != Streamed::All;
        Wanted { settings, verdict: !args.csv && !args.wide, overlaps, ..Wanted::default() }
    })?;
    if let Some(error) = wrong {
        return Err(error.into());
    }
    args.what_if.check_devices(&policies, &replayed)?;
    explain_pools(chosen.into_iter(), &replayed.start.kernel);
    let tried = Tried::split_from(&mut replayed, shown);
    args.what_if.explain_caches(&replayed.settings, &replayed.start.kernel);
    let advice = args.advise.then(|| advice::advice(&replayed, &tried, args.headroom));
    if args.json {
        print_json(&Replay::new(&replayed, advice.as_ref()).to_json())?;
    } else if args.csv {
        if let Some(missing) = report::losses::missing(&replayed) {
            warn(&format!("all figures cover only what was recorded: {missing}"));
        }
        print(&report::csv::text(&replayed))?;
    } else if args.wide {
        print(&report::replay::text(&replayed, advice.as_ref()))?;
    } else {
        let by = By::ALL.into_iter().find(|(_, name)| *name == args.by).map(|(by, _)| by).unwrap_or_default();
        let answer = answer(&replayed, advice.as_ref(), by);
        print_verdict(&answer.text, answer.verdict.word(), colour(answer.verdict))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn colour(verdict: Verdict) -> AnsiColor {
    match verdict {
        Verdict::Ok => AnsiColor::Green,
        Verdict::Fails => AnsiColor::Red,
        Verdict::CannotTell => AnsiColor::Yellow,
    }
}

/// One pool for several recordings.
fn advise(args: &Args, captures: &[PathBuf]) -> Result<ExitCode> {
    let one_only = [(!args.sweep.is_empty(), "--sweep"), (args.wide, "--wide"), (args.csv, "--csv")];
    if let Some((_, option)) = one_only.into_iter().find(|(is_given, _)| *is_given) {
        bail!("{option} is for one capture");
    }
    if !args.advise {
        bail!("several captures are replayed together with --advise only; `bouncescope diff` compares two");
    }
    let policies = args.what_if.policies()?;
    let mut recordings = Vec::new();
    let mut policy = String::new();
    for capture in captures {
        let what_if = args.what_if.of_capture(&policies, Some(capture), args.limit)?;
        let mut replayed = replay_capture(Some(capture), args.limit, |start| {
            let kernel = &start.kernel;
            let all: Vec<_> = policies.iter().map(|one| (one, Settings::what_if(kernel, one, &what_if))).collect();
            let all: Vec<_> = all.iter().map(|(one, settings)| (*one, &what_if, settings)).collect();
            let settings = all.iter().map(|(.., settings)| (*settings).clone()).chain(several::tried(kernel, &all));
            Wanted { settings: settings.collect(), occupancy: true, ..Wanted::default() }
        })?;
        args.what_if.check_devices(&policies, &replayed)?;
        let tried = Tried::split_from(&mut replayed, policies.len());
        policy.clone_from(&replayed.settings[advice::subject(&replayed.settings)].policy);
        recordings.push(Recording::new(capture.display().to_string(), &replayed, tried, args.headroom));
    }
    let several = Several::new(policy, recordings, args.headroom);
    if let Some((one, other)) = several.twice() {
        bail!("{one} and {other} are one and the same recording, which would count twice");
    }
    if args.json {
        print_json(&several.to_json())?;
    } else {
        let (verdict, text) = several::text(&several);
        print_verdict(&text, verdict.word(), colour(verdict))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `25` or `25%`.
fn parse_percent(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok();
    percent.filter(|percent| *percent < 100).ok_or_else(|| format!("'{text}' is not a percentage from 0 to 99"))
}
