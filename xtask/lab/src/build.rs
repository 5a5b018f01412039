//! Compiles the programs that run in the guests: static arm64 binaries of the product and of `lab-guest`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use workspace::{QUICK_PROFILE, static_build::ARM64};

use super::initramfs::Programs;

/// Builds what goes into the initramfs; the product only when it is to record.
pub(super) fn programs(root: &Path, with_product: bool) -> Result<Programs> {
    let mut cargo = ARM64.cargo_build(root, QUICK_PROFILE)?;
    cargo.args(["--package", "lab-guest"]);
    if with_product {
        cargo.args(["--package", "bouncescope"]);
    }
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "the arm64 programs did not compile");
    let built = ARM64.built(root, QUICK_PROFILE);
    Ok(Programs { guest: built.join("lab-guest"), product: with_product.then(|| built.join("bouncescope")) })
}
