//! `cargo xtask api`: lists the public items of every library that is meant for others, a file a crate in `tracer/api`. With `--check`,
//! compares them with those files, so that nothing becomes public, or goes, unseen.
//!
//! rustdoc describes a crate as JSON, and the crate `public-api` makes a list of that. The lists are those of the Rust version that
//! CONTRIBUTING.md names: another one may describe the same crate in other words, or in a format that is not understood, which is said.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use public_api::Builder;

use crate::package::published;

/// The JSON is not stable yet, so rustdoc has to be told to write it. Said to rustdoc alone: dependencies stay as they were compiled.
const RUSTDOC: &str = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail with the difference if the lists are not those of `tracer/api`
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root().canonicalize()?;
    let folder = root.join("tracer/api");
    fs::create_dir_all(&folder)?;
    describe(&root)?;
    let mut difference = String::new();
    for package in published(&root)? {
        let Some(library) = package.library else { continue };
        let new = public_items(&root.join(format!("target/doc/{library}.json")))?;
        let file = folder.join(format!("{}.txt", package.name));
        if args.check {
            let old = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            difference += &changes(&package.name, &old, &new);
        } else {
            fs::write(&file, new).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    ensure!(difference.is_empty(), "public items changed; `cargo xtask api` writes the lists anew:\n{difference}");
    Ok(())
}

/// Has rustdoc describe the crates, with the features that a build of the whole workspace gives them.
fn describe(root: &Path) -> Result<()> {
    let rustdoc = rustdoc(&root.join("target"))?;
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args(["doc", "--quiet", "--workspace", "--no-deps", "--locked"]);
    cargo.env("RUSTDOC", rustdoc).env("RUSTDOCFLAGS", "-Z unstable-options --output-format json");
    ensure!(cargo.status().context("cannot run cargo")?.success(), "rustdoc could not describe the crates");
    Ok(())
}

fn rustdoc(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let file = folder.join("rustdoc-json");
    fs::write(&file, RUSTDOC).with_context(|| format!("cannot write {}", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

/// One item a line, without the traits that every type has.
fn public_items(json: &Path) -> Result<String> {
    let mut builder = Builder::from_rustdoc_json(json);
    builder = builder.omit_blanket_impls(true).omit_auto_trait_impls(true).omit_auto_derived_impls(true);
    let api = builder.build().with_context(|| format!("{}: is it of another Rust version?", json.display()))?;
    let lines: Vec<String> = api.items().map(ToString::to_string).collect();
    Ok(lines.join("\n") + "\n")
}

/// Lines that went and lines that came, under the crate's name.
fn changes(package: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (old.lines().collect(), new.lines().collect());
    let went = old.difference(&new).map(|line| format!("- {line}\n"));
    let came = new.difference(&old).map(|line| format!("+ {line}\n"));
    format!("{package}:\n") + &went.chain(came).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_the_lines_that_went_and_came() {
        assert_eq!(changes("model", "a\nb\n", "a\nb\n"), "");
        assert_eq!(changes("model", "a\nb\n", "b\nc\n"), "model:\n- a\n+ c\n");
        assert_eq!(changes("model", "a\nb\n", "b\na\n"), "model:\n", "another order is no silent one");
    }
}
