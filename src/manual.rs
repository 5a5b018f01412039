//! `bouncescope completions` and `bouncescope man`: made from the command line's own definition, for packages.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap_complete::Shell;

use crate::input::print;

#[derive(clap::Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct Man {
    /// Directory for the pages; made where it is missing
    dir: PathBuf,
}

pub(crate) fn completions(args: &Completions, command: &mut clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, command.get_name().to_owned(), &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn pages(args: &Man, command: clap::Command) -> Result<ExitCode> {
    let written = || format!("cannot write man pages to {}", args.dir.display());
    fs::create_dir_all(&args.dir).with_context(written)?;
    clap_mangen::generate_to(command, &args.dir).with_context(written)?;
    Ok(ExitCode::SUCCESS)
}
