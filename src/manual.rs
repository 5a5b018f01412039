//! `bouncescope completions` and `bouncescope man`: made from the command line's own definition, for packages.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap_complete::Shell;
use tracer::output::{Access, Directory};

use crate::input::print;

#[derive(clap::Args)]
pub(crate) struct Completions {
    /// Shell
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct Man {
    /// Directory for the pages, created if it is missing
    dir: PathBuf,
}

pub(crate) fn completions(args: &Completions, command: &mut clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, command.get_name().to_owned(), &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn pages(args: &Man, command: clap::Command) -> Result<ExitCode> {
    let dir = Directory::create(&args.dir, &[])?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_page(&dir, command.clone())?;
    for shown in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_page(&dir, shown.clone())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_page(dir: &Directory, command: clap::Command) -> Result<()> {
    let page = clap_mangen::Man::new(command);
    let mut output = dir.file(&page.get_filename(), Access::Shared)?;
    page.render(&mut output).with_context(|| format!("cannot write {}", page.get_filename()))?;
    Ok(output.finish()?)
}
