//! Finds kernels: the newest of a series that Debian has, or one that the lab builds itself.

use std::path::Path;

use anyhow::{Result, bail};

use super::{built_kernel, fetch, kernel::Kernel, packages};

/// Kernels that are booted when none is named.
pub(super) const DEFAULT: [&str; 2] = ["6.12", "7.3"];

/// The newest kernel of a series, fetched and unpacked unless the cache has it; or one that the lab builds itself.
pub(super) fn newest(cache: &Path, series: &str) -> Result<Kernel> {
    if let Some(built) = built_kernel::kernel(cache, series)? {
        return Ok(built);
    }
    let mut others = Vec::new();
    for suite in fetch::SUITES {
        let index = fetch::packages_index(cache, suite, "arm64")?;
        others.push(format!("{suite} has {}", packages::series(&index).join(", ")));
        let Some(kernel) = packages::newest_kernel(&index, series) else { continue };
        let dir = cache.join("kernels").join(&kernel.release);
        if !dir.is_dir() {
            fetch::unpack(cache, &dir, &kernel.packages)?;
        }
        return Kernel::locate(series, &dir, &kernel.release);
    }
    bail!(
        "Debian's archive has no arm64 kernel {series}, or has it no longer; {}. Name those that it has with --kernel",
        others.join("; ")
    );
}
