//! A Debian arm64 kernel unpacked into the cache: where its image, configuration and modules are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{built_kernel, fetch, packages};

/// Where kernels are looked for, in this order: a series is in one of them.
pub(super) const SUITES: [&str; 4] = ["trixie", "trixie-backports", "bookworm", "bullseye"];

/// A kernel, ready to be booted.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// The series asked for, such as `6.12`.
    pub(super) series: String,
    /// `uname -r`.
    pub(super) release: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// Its configuration, as text.
    pub(super) config: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
    /// Its BTF, where it has none itself.
    pub(super) btf: Option<PathBuf>,
}

impl Kernel {
    /// The newest kernel of a series, fetched and unpacked unless the cache has it; or one that the lab builds itself.
    pub(super) fn newest(cache: &Path, series: &str) -> Result<Self> {
        if let Some(built) = built_kernel::kernel(cache, series)? {
            return Ok(built);
        }
        for suite in SUITES {
            let index = fetch::packages_index(cache, suite, "arm64")?;
            let Some(kernel) = packages::newest_kernel(&index, series) else { continue };
            let dir = cache.join("kernels").join(&kernel.release);
            if !dir.is_dir() {
                unpack(cache, &dir, &kernel.packages)?;
            }
            return Self::locate(series, &dir, &kernel.release);
        }
        bail!("no arm64 kernel {series} in Debian's {}", SUITES.join(", "));
    }

    /// Finds the parts, which lie in `/boot` or, in newer packages, beside the modules.
    fn locate(series: &str, dir: &Path, release: &str) -> Result<Self> {
        let modules = ["usr/lib/modules", "lib/modules"]
            .map(|path| dir.join(path).join(release))
            .into_iter()
            .find(|path| path.is_dir())
            .with_context(|| format!("no modules of {release} in {}; remove it and try again", dir.display()))?;
        let part = |name: &str| {
            [dir.join("boot").join(format!("{name}-{release}")), modules.join(name)]
                .into_iter()
                .find(|path| path.is_file())
                .with_context(|| format!("no {name} of {release} in {}; remove it and try again", dir.display()))
        };
        Ok(Self {
            series: series.to_owned(),
            release: release.to_owned(),
            image: part("vmlinuz")?,
            config: part("config")?,
            modules,
            btf: None,
        })
    }

    /// Whether it was built to bounce small buffers (`CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC`): arm64 from 6.5 on.
    pub(super) fn bounces_small(&self) -> Result<bool> {
        let config = fs::read_to_string(&self.config);
        let config = config.with_context(|| format!("cannot read {}", self.config.display()))?;
        Ok(config.lines().any(|line| line == "CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC=y"))
    }

    /// Whether its pages are of 16 KiB.
    pub(super) fn has_16k_pages(&self) -> bool {
        self.release.ends_with("-16k")
    }

    /// Model of the CPUs that it boots on: not every one has pages of 16 KiB.
    pub(super) fn cpu(&self) -> &'static str {
        if self.has_16k_pages() { "max" } else { "cortex-a72" }
    }

    /// Major and minor number of the release.
    pub(super) fn version(&self) -> (u32, u32) {
        let mut numbers = self.release.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// Fetches the packages and unpacks them, without installing anything.
pub(super) fn unpack(cache: &Path, dir: &Path, packages: &[packages::Package]) -> Result<()> {
    let part = dir.with_added_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part)?;
    for package in packages {
        let deb = fetch::fetch(&cache.join("debs"), &package.filename, &package.sha256)?;
        let status = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&part).status();
        let status = status.context("cannot run dpkg-deb, which unpacks Debian packages (package dpkg)")?;
        ensure!(status.success(), "dpkg-deb cannot unpack {}", deb.display());
        // Unpacked it is kept; the package itself would only take room.
        fs::remove_file(&deb)?;
    }
    fs::rename(&part, dir).with_context(|| format!("cannot create {}", dir.display()))
}
