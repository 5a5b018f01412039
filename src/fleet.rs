//! `bouncescope fleet`: hands over to `bouncescope-fleet`, a program of its own, as cargo and git do with theirs.

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result, bail};

/// The program.
const PROGRAM: &str = "bouncescope-fleet";

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope fleet ingest captures/ -o lake
  bouncescope fleet query lake \"SELECT soc, count(*) FROM captures GROUP BY soc\"
  bouncescope fleet replay lake --swiotlb 1M,2M,4M
  bouncescope fleet help                                   the commands of the program

This needs the program bouncescope-fleet, which has an SQL engine in it and is built by itself: docs/fleet.md.")]
pub(crate) struct Args {
    /// What bouncescope-fleet is to do
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = Command::new(PROGRAM);
    command.args(&args.arguments);
    let error = match start(&mut command) {
        Ok(status) => return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::NotFound {
        bail!("{PROGRAM} is not on the PATH; from a checkout: cargo install --locked --path fleet (docs/fleet.md)");
    }
    Err(error).with_context(|| format!("cannot run {PROGRAM}"))
}

/// Becomes the program, and returns only if that failed.
#[cfg(unix)]
fn start(command: &mut Command) -> io::Result<ExitStatus> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

#[cfg(not(unix))]
fn start(command: &mut Command) -> io::Result<ExitStatus> {
    command.status()
}
