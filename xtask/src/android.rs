//! `cargo xtask android`: builds the arm64 program, and hands it to `bouncescope android`.

use std::{env, ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::dist;
use workspace::static_build::ARM64;

/// Becomes `bouncescope android` with these arguments, and the program that was built for it unless they name one.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let root = workspace::root();
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--locked", "--manifest-path"]).arg(root.join("Cargo.toml"));
    command.args(["--package", "bouncescope", "--", "android"]);
    if needs_program(arguments) {
        command.arg("--binary").arg(dist::binary(root, &ARM64, dist::FOR_A_PHONE)?);
    }
    Err(command.args(arguments).exec()).context("cannot run cargo")
}

/// Whether a program has to be built: none is named, and not only help is asked for.
fn needs_program(arguments: &[OsString]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--").map(|argument| argument.to_string_lossy());
    !own.into_iter().any(|argument| argument.starts_with("--binary") || argument == "--help" || argument == "-h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_built_unless_one_is_named_or_help_is_asked_for() {
        let needs = |line: &str| needs_program(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        assert!(needs("") && needs("-s A -d 5") && needs("-- --binary"));
        assert!(!needs("--binary x") && !needs("--binary=x") && !needs("--help") && !needs("-s A -h"));
    }
}
