//! `bouncescope convert`: a capture in the newest version of its format.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use tracer::{
    capture::{VERSION, Writer},
    output::{Access, Output},
    stream::{Item, Source as _},
};

use crate::{
    input::{input_path, open_capture},
    limit::Limit,
    output,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope convert old.bounce -o new.bounce      events in blocks, of which a replay opens what it needs
  bouncescope convert - -o new.bounce < old.bounce

All commands read every version, and say the same of each. Labels stay. The copy is another file with another identity. Of a capture \
with damage, or with more events than are read, no copy is made.")]
pub(crate) struct Args {
    /// Capture to convert; - for standard input
    #[arg(value_name = "CAPTURE", value_parser = input_path())]
    capture: PathBuf,
    #[command(flatten)]
    limit: Limit,
    /// Write the capture to this file
    #[arg(short, long, value_name = "FILE", value_parser = output::path())]
    output: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let output = output::open(&args.output, Access::Kept, &[&args.capture])?;
    convert(&args.capture, args.limit, output).with_context(|| args.capture.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn convert(capture: &Path, limit: Limit, output: Output) -> Result<()> {
    let length = fs::metadata(capture).map_or(0, |file| file.len());
    let mut reader = limit.of(open_capture(capture)?, length);
    let mut writer = Writer::new(output)?;
    while let Some(item) = reader.next_item()? {
        writer.write(&item)?;
        if let Item::Events(batch) = item {
            reader.take_back(batch);
        }
    }
    if let Some(left_out) = reader.left_out() {
        bail!("{left_out}; a copy without them would hide that");
    }
    let gaps = reader.gaps();
    ensure!(
        gaps.damaged_frames + gaps.unknown_frames == 0,
        "{} frames are damaged, and {} of a type that version {VERSION} does not have: a copy without them would hide that",
        gaps.damaged_frames,
        gaps.unknown_frames
    );
    writer.finish()?;
    Ok(())
}
