//! `bouncescope check`.

use std::{collections::HashSet, path::Path, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use tracer::{
    capture::Reader,
    check::{Judgement, Rules, Verdict, judge, judge_against, unreadable},
    replay::{Replayed, Wanted, proposals},
    report::{
        self,
        machine::{Check, Document as _},
    },
};

use crate::{
    input::{fail, input_path, note, one_line, print, print_json, read_text, replay_capture},
    limit::Limit,
    output,
};

#[derive(clap::Args)]
#[command(after_help = "\
Rules are written in TOML. docs/check.md has the table of figures. An example:
  [[rule]]
  name = \"the modem's USB never bounces\"
  device = \"1-1\"             # or driver = \"...\", or call-site = \"...\"; * is any
  figure = \"bounces-per-second\"
  max = 0

  [[rule]]                    # without device, driver, call-site: for everything together
  figure = \"peak-percent\"
  max = \"50 %\"
  what-if = { policy = \"mainline\", swiotlb = \"4M\", cache-line-size = 128 }

Examples:
  bouncescope check lab.toml board.bounce
  bouncescope check lab.toml *.bounce --junit check.xml
  bouncescope check lab.toml board.bounce --json
  bouncescope check lab.toml board.bounce --baseline last-good.bounce    with rules such as max = \"before * 1.1\"

Exit code: 0 if every capture keeps every rule, 1 if a rule is broken, otherwise 2 if a rule is inconclusive or something
could not be read.")]
pub(crate) struct Args {
    /// File of rules
    #[arg(value_name = "RULES.toml", value_parser = input_path())]
    rules: PathBuf,
    /// Captures to check
    #[arg(required = true, value_name = "CAPTURE", value_parser = input_path())]
    captures: Vec<PathBuf>,
    /// Capture that rules compare with: their limits may be "before", "before * 1.1" or "before + 5"
    #[arg(long, value_name = "CAPTURE", value_parser = input_path())]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print KTAP, which LAVA and the kernel's own test tools read
    #[arg(long, conflicts_with = "json")]
    ktap: bool,
    /// Also write JUnit XML to this file
    #[arg(long, value_name = "FILE", value_parser = output::path())]
    junit: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let rules = read_rules(&args.rules).or_else(|error| match Reader::open(&args.rules) {
        Ok(_) => {
            bail!("{} is a capture; the rules come first: bouncescope check RULES.toml CAPTURE", args.rules.display())
        }
        Err(_) => Err(error),
    })?;
    let before = baseline(&rules, args)?;
    let mut judgements = Vec::new();
    for path in &args.captures {
        let capture = path.display().to_string();
        judgements.extend(match replay(&rules, path, args.limit) {
            Ok(replayed) => match &before {
                Some(before) => judge_against(&rules, &capture, &replayed, before),
                None => judge(&rules, &capture, &replayed),
            },
            // The other captures may break a rule all the same.
            Err(error) => unreadable(&rules, &capture, &one_line(&error)),
        });
    }
    let written = args.junit.as_ref().map_or(Ok(()), |path| {
        let inputs: Vec<&Path> =
            [&args.rules].into_iter().chain(&args.captures).chain(&args.baseline).map(PathBuf::as_path).collect();
        output::write(path, &inputs, &report::junit::xml(&judgements))
    });
    let printed = if args.json {
        print_json(&Check::new(&judgements).to_json())
    } else if args.ktap {
        print(&report::ktap::text(&judgements))
    } else {
        print(&report::check::text(&judgements))
    };
    let broken = judgements.iter().any(|judgement| judgement.verdict == Verdict::Broken);
    match written.and(printed) {
        Ok(()) => Ok(ExitCode::from(exit_code(&judgements))),
        // A broken rule comes first.
        Err(error) if broken => {
            fail(&error);
            Ok(ExitCode::from(1))
        }
        Err(error) => Err(error),
    }
}

/// What rules compare with; where none does, that is said.
fn baseline(rules: &Rules, args: &Args) -> Result<Option<Replayed>> {
    match (&args.baseline, rules.compare()) {
        (None, true) => bail!(
            "{} has rules that compare with a capture before (max = \"before\"): name it with --baseline CAPTURE",
            args.rules.display()
        ),
        (None, false) => Ok(None),
        (Some(path), compare) => {
            // One that cannot be read is an error even if no rule needs it yet.
            let before = replay(rules, path, args.limit)?;
            if !compare {
                note("no rule compares with the baseline: none has a limit such as max = \"before * 1.1\"");
            }
            Ok(compare.then_some(before))
        }
    }
}

/// 1 if a rule is broken, otherwise 2 if one is inconclusive, otherwise 0.
pub(crate) fn exit_code(judgements: &[Judgement]) -> u8 {
    let any = |is: fn(&Verdict) -> bool| judgements.iter().any(|judgement| is(&judgement.verdict));
    if any(|verdict| *verdict == Verdict::Broken) {
        1
    } else if any(|verdict| verdict.why().is_some()) {
        2
    } else {
        0
    }
}

/// Rules from a file, and the policies that it names beside it.
pub(crate) fn read_rules(path: &Path) -> Result<Rules> {
    let named = || path.display().to_string();
    let text = read_text(path)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let read = |policy: &str| read_text(&beside.join(policy)).map_err(|error| one_line(&error));
    Rules::from_toml(&text, read).with_context(named)
}

/// A capture replayed as the rules want it.
fn replay(rules: &Rules, path: &PathBuf, limit: Limit) -> Result<Replayed> {
    let packed_sites = if rules.packs() { never_mapped(path, limit)? } else { Arc::default() };
    replay_capture(Some(path), limit, |start| Wanted {
        settings: rules.settings(&start.kernel, &packed_sites),
        verdict: true,
        overlaps: rules.look_at_overlaps(),
        holders: true,
        ..Wanted::default()
    })
}

/// The call sites that `replay` packs too where it is not told others.
fn never_mapped(path: &PathBuf, limit: Limit) -> Result<Arc<HashSet<u64>>> {
    let replayed = replay_capture(Some(path), limit, |_| Wanted::default())?;
    Ok(proposals::packed_sites(&replayed))
}
