//! The product's `verify` on a capture, as the lab asks it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::verdict::Verified;

/// What it says; its JSON stays beside the capture.
pub(crate) fn verify(product: &Path, capture: &Path) -> Result<Verified> {
    ensure!(capture.is_file(), "the guest left no capture");
    let output =
        Command::new(product).args(["verify", "--json"]).arg(capture).output().context("cannot run bouncescope")?;
    let json = String::from_utf8_lossy(&output.stdout);
    fs::write(capture.with_extension("verify.json"), &*json)?;
    let code = output.status.code().unwrap_or(-1);
    Verified::parse(code, &json)
        .map_err(|error| anyhow::anyhow!("{error} {}", String::from_utf8_lossy(&output.stderr).trim()))
}
