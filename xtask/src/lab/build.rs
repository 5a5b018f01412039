//! Compiles the programs that run in the guests: static arm64 binaries of the product and of `lab-guest`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::initramfs::Programs;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";

/// Builds what goes into the initramfs; the product only when it is to record.
pub(super) fn programs(root: &Path, with_product: bool) -> Result<Programs> {
    let rustc = compiler()?;
    ensure!(
        Command::new(LINKER).arg("--version").output().is_ok(),
        "no {LINKER}, which links arm64 programs: run .ci/install, or install gcc-aarch64-linux-gnu and libc6-dev-arm64-cross"
    );
    // A target directory of its own, so that two compilers do not fight over one.
    let target_dir = root.join("target-aarch64");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .env("RUSTC", rustc)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CC_aarch64_unknown_linux_gnu", LINKER)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["build", "--quiet", "--locked", "--release", "--target", TARGET, "--package", "lab-guest"])
        .arg("--target-dir")
        .arg(&target_dir);
    if with_product {
        cargo.args(["--package", "bouncescope"]);
    }
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "the arm64 programs did not compile");
    let built = target_dir.join(TARGET).join("release");
    Ok(Programs { guest: built.join("lab-guest"), product: with_product.then(|| built.join("bouncescope")) })
}

/// A compiler that has the standard library for the target: `ARM64_RUSTC`, Debian's own, or rustup's.
fn compiler() -> Result<PathBuf> {
    let candidates = [env::var_os("ARM64_RUSTC"), Some("/usr/bin/rustc".into()), Some("rustc".into())];
    for rustc in candidates.into_iter().flatten() {
        let Ok(output) = Command::new(&rustc).args(["--print", "sysroot"]).output() else { continue };
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        if sysroot.join("lib/rustlib").join(TARGET).is_dir() {
            return Ok(rustc.into());
        }
    }
    bail!(
        "no compiler has the standard library for {TARGET}: run .ci/install (Debian), or `rustup target add {TARGET}`, or \
         set ARM64_RUSTC to one that has"
    )
}
