//! `bouncescope policies`.

use std::process::ExitCode;

use anyhow::Result;
use tracer::{
    model::policy::{builtins, to_toml},
    report,
};

use crate::{input::print, policy_files::policy};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope policies                                 every policy with its rule and its origin
  bouncescope policies mainline > mine.toml            one policy as TOML, to start from
  bouncescope replay phone.bounce --policy mainline,mine.toml")]
pub(crate) struct Args {
    /// Print this policy as TOML: a name, or a file to validate
    name: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.name {
        Some(name) => print(&to_toml(&policy(name)?))?,
        None => print(&report::policies::text(builtins()))?,
    }
    Ok(ExitCode::SUCCESS)
}
