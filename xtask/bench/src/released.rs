//! The product and this program as they are released, which is what is measured, or almost so; and where benchmarks keep their
//! files.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// Builds the product, and this program with its generator; the directory that they are in.
pub(crate) fn build() -> Result<PathBuf> {
    in_profile("release")
}

/// The same in another profile.
pub(crate) fn in_profile(profile: &str) -> Result<PathBuf> {
    packages(profile, &["bouncescope", "bench"])
}

/// This program alone, optimised.
pub(crate) fn this_program() -> Result<PathBuf> {
    Ok(packages("quick", &["bench"])?.join("bench"))
}

fn packages(profile: &str, packages: &[&str]) -> Result<PathBuf> {
    let status = workspace::cargo()
        .current_dir(workspace::root())
        .args(["build", "--quiet", "--locked", "--profile", profile])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .args(["--target-dir", "target"])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "{} did not compile", packages.join(" or "));
    Ok(workspace::root().join("target").join(profile))
}

/// Where captures are kept between runs.
pub(crate) fn dir() -> PathBuf {
    let root = workspace::root();
    root.canonicalize().unwrap_or_else(|_| root.to_owned()).join("target/bench")
}
