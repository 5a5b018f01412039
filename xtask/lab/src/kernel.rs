//! An arm64 kernel in the cache, ready to be booted: where its image, configuration and modules are, and what it can do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

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
    /// Finds the parts, which lie in `/boot` or, in newer packages, beside the modules.
    pub(super) fn locate(series: &str, dir: &Path, release: &str) -> Result<Self> {
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

    /// Whether it is for real time, as Debian names it.
    pub(super) fn is_real_time(&self) -> bool {
        self.series.ends_with("-rt")
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
