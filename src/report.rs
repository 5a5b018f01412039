//! `bouncescope report`.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use tracer::report::{
    document::Document,
    html, markdown,
    page::{self, Subject, plan::Plan},
};

use crate::{
    browser,
    input::{input_path, of_embedded, print, replay_capture},
    limit::Limit,
    output,
    what_if::WhatIfArgs,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope report phone.bounce -o phone.html              one page for any browser, to send along
  bouncescope report before.bounce after.bounce -o diff.html    what changed, then both
  bouncescope report phone.bounce --open                     write phone.html beside it, and show it in the browser
  bouncescope report phone.bounce --md | less                for a mail or a pull request, without plots
  bouncescope report phone.bounce --policy mainline,mine.toml -o mine.html

The page loads nothing from anywhere. docs/report.md describes what it contains.")]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to report on", of_embedded!(" [default: the embedded sample]"), "; with a second one, report what changed"),
        value_name = "CAPTURE", num_args = 0..=2, value_parser = input_path(),
    )]
    captures: Vec<PathBuf>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE", value_parser = output::path())]
    output: Option<PathBuf>,
    /// Show the finished page in the browser; without -o, the page is written beside the capture, as CAPTURE.html
    /// (BEFORE-AFTER.html for two, bouncescope.html here for none), replacing an earlier page. As root, or without a
    /// graphical session, it is written but not shown
    #[arg(long, conflicts_with = "md")]
    open: bool,
    #[command(flatten)]
    limit: Limit,
    /// Write Markdown, without plots
    #[arg(long)]
    md: bool,
    #[command(flatten)]
    what_if: WhatIfArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let subject = |path| subject(path, &args.what_if, args.limit);
    let document = match &args.captures[..] {
        [before, after] => page::comparison(&subject(Some(before))?, &subject(Some(after))?),
        captures => page::document(&subject(captures.first())?),
    };
    let text = written(&document, args.md);
    let output = match &args.output {
        Some(path) => Some(path.clone()),
        None if args.open => Some(beside(&args.captures)?),
        None => None,
    };
    match &output {
        Some(path) => {
            let captures = args.captures.iter().map(PathBuf::as_path);
            let inputs: Vec<&Path> = captures.chain(args.what_if.files()).collect();
            output::write(path, &inputs, &text)?;
            if args.open {
                browser::show(path);
            }
        }
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the page of captures goes that is to be shown, when no name was given: beside the last of them. A page of before gives way, and
/// nothing else.
fn beside(captures: &[PathBuf]) -> Result<PathBuf> {
    let stem = |capture: &Path| capture.file_stem().unwrap_or(capture.as_os_str()).to_os_string();
    let path = match captures {
        [before, after] => {
            let mut name = stem(before);
            name.push("-");
            name.push(stem(after));
            name.push(".html");
            after.with_file_name(name)
        }
        [capture] if !capture.starts_with("/dev") && capture.as_os_str() != "-" => capture.with_extension("html"),
        _ => PathBuf::from("bouncescope.html"),
    };
    ensure!(
        !fs::exists(&path)? || is_page(&path),
        "{} exists, and is not a report: name another file with --output",
        path.display()
    );
    Ok(path)
}

/// Whether a file is a page that `report` wrote.
fn is_page(path: &Path) -> bool {
    let begins_so = || {
        let mut beginning = Vec::new();
        File::open(path)?.take(html::BEGINNING.len() as u64).read_to_end(&mut beginning)?;
        io::Result::Ok(beginning == html::BEGINNING.as_bytes())
    };
    path.is_file() && begins_so().unwrap_or(false)
}

fn written(document: &Document, md: bool) -> String {
    if md { markdown::text(document) } else { html::page(document, None) }
}

/// A capture, replayed under everything that a report shows.
pub(crate) fn subject(path: Option<&PathBuf>, args: &WhatIfArgs, limit: Limit) -> Result<Subject> {
    let policies = args.policies()?;
    let what_if = args.of_capture(&policies, path, limit)?;
    let mut plan = Plan::default();
    let replayed = replay_capture(path, limit, |start| {
        plan = Plan::new(&start.kernel, &policies, &what_if);
        plan.wanted()
    })?;
    args.check_devices(&policies, &replayed)?;
    let name = path.map_or_else(|| "the embedded capture".to_owned(), |path| name(path));
    let results = plan.results(replayed);
    args.explain(&policies, &results.replayed);
    Ok(Subject { name, results })
}

/// The file's name alone: where it lies is nobody's business who is sent the page.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
