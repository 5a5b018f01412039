//! What a guest boots into: its init, the product, the modules in load order, the kernel's configuration and the script.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, kernel::Kernel, modules::Module};

/// The arm64 programs that go in.
pub(super) struct Programs {
    /// `lab-guest`.
    pub(super) guest: PathBuf,
    /// `bouncescope`; `None` when workloads are to run without it.
    pub(super) product: Option<PathBuf>,
}

/// The archive, to be passed as `-initrd`.
pub(super) fn build(programs: &Programs, kernel: &Kernel, modules: &[Module], script: &str) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    for mount_point in ["proc", "sys", "dev", "tmp", "host"] {
        archive.directory(mount_point);
    }
    archive.program("init", &read(&programs.guest)?);
    if let Some(product) = &programs.product {
        archive.program("bin/bouncescope", &read(product)?);
    }
    let order: String = modules.iter().flat_map(|module| [&module.name, ".ko\n"]).collect();
    archive.file("modules/order", order.as_bytes());
    for module in modules {
        archive.file(&format!("modules/{}.ko", module.name), &module.object);
    }
    archive.file(&format!("boot/config-{}", kernel.release), &read(&kernel.config)?);
    archive.file("script", script.as_bytes());
    Ok(archive.finish())
}
