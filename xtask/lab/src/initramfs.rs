//! What a guest boots into: its init, the product, the modules in load order, the kernel's configuration and the script.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, kernel::Kernel, modules::Module};

/// The arm64 programs that go in.
#[derive(Default)]
pub(super) struct Programs {
    /// `lab-guest`.
    pub(super) guest: PathBuf,
    /// `bouncescope`; `None` when workloads are to run without it.
    pub(super) product: Option<PathBuf>,
}

/// What a guest is to do, and what it needs to do it.
pub(super) struct Contents<'a> {
    /// The programs.
    pub(super) programs: &'a Programs,
    /// Loaded by init, in this order.
    pub(super) modules: &'a [Module],
    /// Loaded by the workload `drivers`, in this order; only boards have some.
    pub(super) later: &'a [Module],
    /// The object of the lab's own module, which the script loads.
    pub(super) test_module: Option<&'a [u8]>,
    /// BTF of a kernel that shows none itself.
    pub(super) btf: Option<&'a Path>,
    /// For init.
    pub(super) script: &'a str,
}

/// The archive, to be passed as `-initrd`.
pub(super) fn build(contents: &Contents, kernel: &Kernel) -> Result<Vec<u8>> {
    let &Contents { programs, modules, later, test_module, btf, script } = contents;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    for mount_point in ["proc", "sys", "dev", "tmp", "host"] {
        archive.directory(mount_point);
    }
    archive.program("init", &read(&programs.guest)?);
    if let Some(product) = &programs.product {
        archive.program("bin/bouncescope", &read(product)?);
    }
    for (dir, modules) in [("modules", modules), ("modules/later", later)] {
        if dir == "modules" || !modules.is_empty() {
            let order: String = modules.iter().flat_map(|module| [&module.name, ".ko\n"]).collect();
            archive.file(&format!("{dir}/order"), order.as_bytes());
        }
        for module in modules {
            archive.file(&format!("{dir}/{}.ko", module.name), &module.object);
        }
    }
    if let Some(object) = test_module {
        archive.file("lab/bounce_truth.ko", object);
    }
    if let Some(btf) = btf {
        archive.file("boot/vmlinux.btf", &read(btf)?);
    }
    archive.file(&format!("boot/config-{}", kernel.release), &read(&kernel.config)?);
    archive.file("script", script.as_bytes());
    Ok(archive.finish())
}
