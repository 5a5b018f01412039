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
    let (mut others, mut incomplete) = (Vec::new(), None);
    for suite in fetch::SUITES {
        let index = fetch::packages_index(cache, suite, "arm64")?;
        let Some(kernel) = packages::newest_kernel(&index, series) else {
            others.push(format!("{suite} has {}", packages::series(&index).join(", ")));
            let lacking = packages::newest_incomplete(&index, series);
            incomplete =
                incomplete.or(lacking.map(|(release, part)| format!(" ({suite} has {release}, but no {part})")));
            continue;
        };
        let dir = cache.join("kernels").join(&kernel.release);
        if !dir.is_dir() {
            fetch::unpack(cache, &dir, &kernel.packages)?;
        }
        return Kernel::locate(series, &dir, &kernel.release);
    }
    bail!(
        "Debian's archive has no arm64 kernel {series}, or has it no longer{}; {}",
        incomplete.unwrap_or_default(),
        others.join("; ")
    );
}
