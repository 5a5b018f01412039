//! `bouncescope report`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use tracer::{
    model::policy::{Caches, Policy},
    replay::{Wanted, proposals, settings::WhatIf},
    report::{
        document::Document,
        html, markdown,
        page::{self, Subject, plan::Plan},
    },
};

use crate::{
    input::{print, replay_capture},
    limit::Limit,
    output,
    policy_files::policies,
};

/// What a report compares where nothing else is asked for. Policies that look at long buffers too make every mapping a step of each
/// simulated kernel, which on a long capture takes longer than all the rest; `packed` needs a second pass.
pub(crate) const POLICIES: &str = "mainline,legacy,dynamic,always-small";

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope report phone.bounce -o phone.html              one page, to be opened in any browser and sent along
  bouncescope report before.bounce after.bounce -o diff.html    what changed, then both
  bouncescope report phone.bounce --md | less                for a mail or a pull request, without plots
  bouncescope report phone.bounce --policy mainline,mine.toml -o mine.html

The page loads nothing from anywhere. docs/report.md says what stands in it.")]
pub(crate) struct Args {
    /// Capture to report on [default: the embedded sample]; with a second one, report what changed
    #[arg(value_name = "CAPTURE", num_args = 0..=2)]
    captures: Vec<PathBuf>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
    /// Write Markdown, without plots
    #[arg(long)]
    md: bool,
    /// Policies to compare: names (see `bouncescope policies`), all, or TOML files
    #[arg(long, value_delimiter = ',', default_value = POLICIES, value_name = "NAME,…")]
    policy: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let policies = policies(&args.policy)?;
    let subject = |path| subject(path, &policies, args.limit);
    let document = match &args.captures[..] {
        [before, after] => page::comparison(&subject(Some(before))?, &subject(Some(after))?),
        captures => page::document(&subject(captures.first())?),
    };
    let text = written(&document, args.md);
    match &args.output {
        Some(path) => {
            let captures = args.captures.iter().map(PathBuf::as_path);
            let inputs: Vec<&Path> = captures.chain(args.policy.iter().map(Path::new)).collect();
            output::write(path, &inputs, &text)?;
        }
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn written(document: &Document, md: bool) -> String {
    if md { markdown::text(document) } else { html::page(document, None) }
}

/// A capture, replayed under everything that a report shows.
pub(crate) fn subject(path: Option<&PathBuf>, policies: &[Policy], limit: Limit) -> Result<Subject> {
    let what_if = what_if(path, policies, limit)?;
    let mut plan = Plan::default();
    let replayed = replay_capture(path, limit, |start| {
        plan = Plan::new(&start.kernel, policies, &what_if);
        plan.wanted()
    })?;
    let name = path.map_or_else(|| "the embedded capture".to_owned(), |path| name(path));
    Ok(Subject { name, results: plan.results(replayed) })
}

/// The file's name alone: where it lies is nobody's business who is sent the page.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What `packed` packs where it is asked for: found in a pass of its own.
fn what_if(path: Option<&PathBuf>, policies: &[Policy], limit: Limit) -> Result<WhatIf> {
    if policies.iter().all(|policy| policy.caches != Caches::Packed) {
        return Ok(WhatIf::default());
    }
    let replayed = replay_capture(path, limit, |_| Wanted::default())?;
    Ok(WhatIf { packed_sites: proposals::packed_sites(&replayed), ..WhatIf::default() })
}
