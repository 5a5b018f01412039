//! `bouncescope convert`: a capture in the newest version of its format.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    capture::{VERSION, Writer},
    output::{Access, Output},
    stream::Source as _,
};

use crate::{
    input::{input_path, open_capture},
    output,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope convert old.bounce -o new.bounce      events in blocks, of which a replay opens what it needs
  bouncescope convert - -o new.bounce < old.bounce

All commands read every version, and say the same of each. Labels stay. The copy is another file with another identity.")]
pub(crate) struct Args {
    /// Capture to convert; - for standard input
    #[arg(value_name = "CAPTURE", value_parser = input_path())]
    capture: PathBuf,
    /// Write the capture to this file
    #[arg(short, long, value_name = "FILE", value_parser = output::path())]
    output: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let output = output::open(&args.output, Access::Kept, &[&args.capture])?;
    convert(&args.capture, output).with_context(|| args.capture.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn convert(capture: &Path, output: Output) -> Result<()> {
    let mut reader = open_capture(capture)?;
    let mut writer = Writer::new(output)?;
    while let Some(item) = reader.next_item()? {
        writer.write(&item)?;
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
