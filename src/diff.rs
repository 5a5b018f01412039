//! `bouncescope diff`.

use std::{path::PathBuf, process::ExitCode};

use anstyle::AnsiColor;
use anyhow::{Result, bail};
use tracer::{
    check::{Condition, Rule, RunOf, WhatIf},
    replay::{Replayed, Wanted},
    report::{
        diff::{Diff, Side, Survey, Verdict, text},
        machine::{self, Document as _},
    },
};

use crate::{
    check::exit_code,
    input::{input_path, note, print_json, print_verdict, replay_capture},
    limit::Limit,
    what_if::WhatIfArgs,
};

#[derive(clap::Args)]
#[command(after_help = "\
A condition for --fail-if is a figure of `check` (docs/check.md) with a limit that it must not pass. A device, driver or call site \
may precede the figure; * matches any part of a name. The limit may be `before`, the same figure of BEFORE. One of the policies \
may follow the limit, in brackets; without one, the condition is about what the kernels did.

Examples:
  bouncescope diff before.bounce after.bounce
  bouncescope diff before.bounce after.bounce --fail-if 'failed > before' --fail-if 'bounces-per-second > before * 1.1'
  bouncescope diff before.bounce after.bounce --fail-if 'driver xhci_hcd: bounces-per-second > before + 5'
  bouncescope diff before.bounce after.bounce --swiotlb 4M --fail-if 'peak-percent > 50 % [mainline]'

Exit code: 0 if no condition is met, 1 if one is, otherwise 2 if one is inconclusive or a capture cannot be read.")]
pub(crate) struct Args {
    /// Capture to compare against
    #[arg(value_name = "BEFORE", value_parser = input_path())]
    before: PathBuf,
    /// Capture to compare with BEFORE
    #[arg(value_name = "AFTER", value_parser = input_path())]
    after: PathBuf,
    /// Exit with 1 if this condition is met, such as 'failed > before'; may be given more than once
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
    #[command(flatten)]
    what_if: WhatIfArgs,
    #[command(flatten)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let policies = args.what_if.policies()?;
    let change = args.what_if.but_for_call_sites();
    let simulated: Vec<WhatIf> =
        policies.iter().map(|policy| WhatIf { policy: policy.clone(), change: change.clone() }).collect();
    let conditions = args.fail_if.iter().map(|condition| rule(condition, &simulated)).collect::<Result<_>>()?;
    let survey = Survey::new(simulated, conditions);
    let replayed = |path: &PathBuf| -> Result<Replayed> {
        let packed_sites = args.what_if.packed(&policies, Some(path), args.limit)?;
        let replayed = replay_capture(Some(path), args.limit, |start| Wanted {
            settings: survey.rules().settings(&start.kernel, &packed_sites),
            verdict: true,
            overlaps: survey.rules().look_at_overlaps(),
            holders: true,
            ..Wanted::default()
        })?;
        args.what_if.check_devices(&policies, &replayed)?;
        Ok(replayed)
    };
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    let (before, after) = (replayed(&args.before)?, replayed(&args.after)?);
    args.what_if.explain(&policies, &after);
    let diff = survey.compare(Side { name: &names[0], replayed: &before }, Side { name: &names[1], replayed: &after });
    for words in diff.notes() {
        note(&words);
    }
    if args.json {
        print_json(&machine::Diff::new(&diff).to_json())?;
    } else {
        print_verdict(&text(&diff), diff.word(), colour(&diff))?;
    }
    Ok(ExitCode::from(exit_code(&diff.conditions)))
}

/// The condition as a rule about the run that it names.
fn rule(condition: &Condition, simulated: &[WhatIf]) -> Result<Rule> {
    let mut rule = condition.rule.clone();
    let Some(name) = &condition.policy else { return Ok(rule) };
    let Some(what_if) = simulated.iter().find(|one| one.policy.name == *name) else {
        let names: Vec<&str> = simulated.iter().map(|one| one.policy.name.as_str()).collect();
        bail!("no policy {name} is compared (--policy); there are: {}", names.join(", "));
    };
    if rule.figure.is_of_capture() {
        bail!("{} is a figure of the recording: leave out [{name}]", rule.figure.name());
    }
    rule.run = RunOf::WhatIf(Box::new(what_if.clone()));
    Ok(rule)
}

/// That of the verdict that comes first.
fn colour(diff: &Diff) -> AnsiColor {
    if diff.conditions.is_empty() {
        return match diff.verdict() {
            Verdict::Same | Verdict::Better => AnsiColor::Green,
            Verdict::Worse => AnsiColor::Red,
            Verdict::Mixed | Verdict::CannotTell => AnsiColor::Yellow,
        };
    }
    match exit_code(&diff.conditions) {
        0 => AnsiColor::Green,
        1 => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    }
}
