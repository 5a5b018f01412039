//! `bouncescope check`.

use std::{collections::HashSet, fs, path::Path, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use tracer::{
    check::{Judgement, Rules, Verdict, judge, unreadable},
    replay::{Replayed, Wanted, proposals},
    report,
};

use crate::{
    input::{print, print_json, replay_capture, say},
    one_line,
};

#[derive(clap::Args)]
#[command(after_help = "\
Rules are TOML; docs/check.md has the table of figures, and an example:
  [[rule]]
  name = \"the modem's USB never bounces\"
  device = \"1-1\"             # or driver = \"...\", or call-site = \"...\"; * is any
  figure = \"bounces-per-second\"
  max = 0

  [[rule]]                    # without device, driver, call-site: of everything together
  figure = \"peak-percent\"
  max = \"50 %\"
  what-if = { policy = \"mainline\", swiotlb = \"4M\", cache-line-size = 128 }

Examples:
  bouncescope check lab.toml board.bounce
  bouncescope check lab.toml *.bounce --junit check.xml
  bouncescope check lab.toml board.bounce --json

Exit code: 0 when every rule is kept by every capture, 1 when one is broken, else 2 when one could not be told or
something could not be read.")]
pub(crate) struct Args {
    /// Rules
    #[arg(value_name = "RULES.toml")]
    rules: PathBuf,
    /// Captures that have to keep them
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let rules = read_rules(&args.rules)?;
    let mut judgements = Vec::new();
    for path in &args.captures {
        let capture = path.display().to_string();
        judgements.extend(match replay(&rules, path) {
            Ok(replayed) => judge(&rules, &capture, &replayed),
            // The other captures may break a rule all the same.
            Err(error) => unreadable(&rules, &capture, &one_line(&error)),
        });
    }
    let written = args.junit.as_ref().map_or(Ok(()), |path| {
        fs::write(path, report::junit::xml(&judgements)).with_context(|| format!("cannot write {}", path.display()))
    });
    let printed = if args.json {
        print_json(&report::check::json(&judgements))
    } else {
        print(&report::check::text(&judgements))
    };
    let broken = judgements.iter().any(|judgement| judgement.verdict == Verdict::Broken);
    match written.and(printed) {
        Ok(()) => Ok(ExitCode::from(exit_code(&judgements))),
        // A broken rule comes first.
        Err(error) if broken => {
            say(&format!("bouncescope: {}\n", one_line(&error)));
            Ok(ExitCode::from(1))
        }
        Err(error) => Err(error),
    }
}

fn exit_code(judgements: &[Judgement]) -> u8 {
    let any = |is: fn(&Verdict) -> bool| judgements.iter().any(|judgement| is(&judgement.verdict));
    if any(|verdict| *verdict == Verdict::Broken) {
        1
    } else if any(|verdict| matches!(verdict, Verdict::CannotTell(_))) {
        2
    } else {
        0
    }
}

fn read_rules(path: &Path) -> Result<Rules> {
    let named = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", named()))?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let read = |policy: &str| {
        let path = beside.join(policy);
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    Rules::from_toml(&text, read).with_context(named)
}

fn replay(rules: &Rules, path: &PathBuf) -> Result<Replayed> {
    let packed_sites = if rules.packs() { never_mapped(path)? } else { Arc::default() };
    replay_capture(Some(path), |start| Wanted {
        settings: rules.settings(&start.kernel, &packed_sites),
        verdict: true,
        ..Wanted::default()
    })
}

/// The call sites that `replay` packs too where it is not told others.
fn never_mapped(path: &PathBuf) -> Result<Arc<HashSet<u64>>> {
    let replayed = replay_capture(Some(path), |_| Wanted::default())?;
    let sites = proposals::packed(&replayed, proposals::SMALLEST).sites;
    Ok(Arc::new(sites.into_iter().map(|site| site.address).collect()))
}
