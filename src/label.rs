//! `bouncescope label`: what captures say of the machines that they were made on, and other labels for them.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use tracer::{
    capture::{self, relabel::relabel},
    labels::{Label, Labels},
    output::Access,
    plain::plain,
    report::machine::{Document as _, Labelled, LabelledCapture},
};

use crate::{
    input::{identity_of, input_path, print, print_json},
    output,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope label phone.bounce                                   show its identity and its labels
  bouncescope label phone.bounce --label board=rk3588-evb --label build=1234
  bouncescope label nightly/*.bounce --label day=2026-11-30        the same label for many captures
  bouncescope label phone.bounce --remove serial -o to-send.bounce

`record --label` sets labels while it records. A capture's identity is made of its content without the labels: it stays the same when \
they change, and two captures with the same identity are one recording.")]
pub(crate) struct Args {
    /// Captures; - for standard input
    #[arg(required = true, value_name = "CAPTURE", value_parser = input_path())]
    captures: Vec<PathBuf>,
    /// Set this label, in place of one of the same name; may be given more than once
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Label>,
    /// Remove the label of this name; may be given more than once
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Write the capture with its new labels to this file, and leave the capture as it is [default: replace the capture]
    #[arg(short, long, value_name = "FILE", value_parser = output::path())]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let changes = !args.labels.is_empty() || !args.remove.is_empty();
    ensure!(args.output.is_none() || args.captures.len() == 1, "-o takes one capture: it is one file");
    ensure!(changes || args.output.is_none(), "-o needs a change: --label or --remove");
    let mut labelled = Labelled::default();
    for path in &args.captures {
        let name = || path.display().to_string();
        let (identity, labels) = if changes { change(args, path).with_context(name)? } else { identity_of(path)? };
        labelled.captures.push(LabelledCapture { file: name(), identity: identity.to_string(), labels });
    }
    // Standard output may be the capture itself.
    if args.json {
        print_json(&labelled.to_json())?;
    } else if !changes {
        print(&text(&labelled))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a capture with other labels, in its own place or elsewhere.
fn change(args: &Args, path: &Path) -> Result<(capture::relabel::Identity, Labels)> {
    let input = File::open(path).context("cannot open it")?;
    let (target, inputs) = if let Some(output) = &args.output {
        (output.as_path(), vec![path])
    } else {
        ensure!(input.metadata()?.is_file(), "it is no file that can be replaced; name another with -o");
        ensure!(
            capture::is_whole(path),
            "it has no end: is it still being recorded? With -o FILE, a copy gets the labels"
        );
        (path, Vec::new())
    };
    let (mut refused, mut missing) = (None, None);
    let mut output = output::open(target, Access::Kept, &inputs)?;
    let done = relabel(BufReader::new(input), &mut output, |labels| {
        missing = args.remove.iter().find(|name| !labels.remove(name));
        refused = args.labels.iter().find_map(|label| labels.set(label.clone()).err());
    });
    if let Some(missing) = missing {
        bail!("it has no label {missing:?} to remove; without options, `label` shows those that it has");
    }
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    let done = done?;
    output.finish()?;
    Ok(done)
}

fn text(labelled: &Labelled) -> String {
    let mut text = String::new();
    for capture in &labelled.captures {
        text += &format!("{}\n  identity  {}\n", plain(&capture.file), capture.identity);
        let widest = capture.labels.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().max(8);
        for (name, value) in capture.labels.iter() {
            text += &format!("  {:widest$}  {}\n", plain(name), plain(value));
        }
        if capture.labels.is_empty() {
            text += "  no labels\n";
        }
    }
    text
}
