//! A kernel's modules: found by name, decompressed, and put into the order in which they can be loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::fetch::output;

/// What the share alone needs.
pub(super) const FOR_SHARE: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];
/// What the workloads' machine needs. No driver for USB input devices: their endpoints are to be claimed by the workloads.
pub(super) const FOR_WORKLOADS: [&str; 9] =
    ["virtio_pci", "9pnet_virtio", "9p", "nvme", "virtio_blk", "xhci_pci", "ehci_pci", "sd_mod", "usb_storage"];

/// A module ready to be loaded.
pub(super) struct Module {
    /// Its name, `_` for `-`.
    pub(super) name: String,
    /// The ELF object, not compressed.
    pub(super) object: Vec<u8>,
}

/// The wanted modules of the kernel in `dir` (`lib/modules/RELEASE`), each after those it depends on. What is built in
/// is left out.
pub(super) fn in_load_order(dir: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&dir.join("kernel"), &mut files).with_context(|| format!("cannot list the modules in {}", dir.display()))?;
    let listed = fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
    let built_in: BTreeSet<_> = listed.lines().map(|line| module_name(Path::new(line))).collect();

    let mut objects: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let order = sorted(wanted, |name| {
        if built_in.contains(name) {
            return Ok(None);
        }
        let Some(file) = files.get(name) else { bail!("the kernel has no module {name}") };
        let object = decompressed(file)?;
        let depends = depends(&object);
        objects.insert(name.to_owned(), object);
        Ok(Some(depends))
    })?;
    Ok(order.into_iter().filter_map(|name| objects.remove(&name).map(|object| Module { name, object })).collect())
}

/// Depth first: what a name depends on comes before it. `depends` says on what, `None` when it is not to be loaded.
fn sorted(wanted: &[&str], mut depends: impl FnMut(&str) -> Result<Option<Vec<String>>>) -> Result<Vec<String>> {
    enum Step {
        Enter(String),
        Leave(String),
    }
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    let mut stack: Vec<_> = wanted.iter().rev().map(|&name| Step::Enter(name.to_owned())).collect();
    while let Some(step) = stack.pop() {
        match step {
            Step::Leave(name) => order.push(name),
            Step::Enter(name) if !seen.insert(name.clone()) => {}
            Step::Enter(name) => {
                if let Some(needed) = depends(&name)? {
                    stack.push(Step::Leave(name));
                    stack.extend(needed.into_iter().rev().map(Step::Enter));
                }
            }
        }
    }
    Ok(order)
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().contains(".ko")) {
            files.insert(module_name(&path), path);
        }
    }
    Ok(())
}

/// `…/xhci-pci.ko.xz` is `xhci_pci`.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or(&name).replace('-', "_")
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    output(Command::new(program).arg("-dc").arg(file))
}

/// The `depends=` of a module's `.modinfo`, a section of NUL-terminated `KEY=VALUE`s.
fn depends(object: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = object.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = object[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_depends_on_comes_before_it_and_once() {
        let needs = |name: &str| -> Result<Option<Vec<String>>> {
            Ok(match name {
                "built_in" => None,
                "nvme" => Some(vec!["nvme_core".into(), "built_in".into()]),
                "nvme_core" => Some(vec!["auth".into()]),
                "xhci" => Some(vec!["usbcore".into(), "auth".into()]),
                _ => Some(Vec::new()),
            })
        };
        assert_eq!(
            sorted(&["nvme", "xhci", "nvme_core"], needs).unwrap(),
            ["auth", "nvme_core", "nvme", "usbcore", "xhci"]
        );
    }

    #[test]
    fn modules_that_depend_on_each_other_do_not_hang_the_order() {
        let needs = |name: &str| Ok(Some(vec![if name == "a" { "b" } else { "a" }.to_owned()]));
        assert_eq!(sorted(&["a"], needs).unwrap(), ["b", "a"]);
    }

    #[test]
    fn a_missing_module_is_an_error() {
        assert!(sorted(&["gone"], |name| bail!("no {name}")).is_err());
    }

    #[test]
    fn depends_is_read_from_modinfo_with_dashes_as_underscores() {
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=usb-common,usbcore\0name=x\0"), ["usb_common", "usbcore"]);
        assert!(depends(b"\0depends=\0name=x\0").is_empty());
        assert!(depends(b"").is_empty());
    }

    #[test]
    fn a_module_is_named_by_its_file_without_suffix_and_dashes() {
        assert_eq!(module_name(Path::new("kernel/drivers/usb/host/xhci-pci.ko.xz")), "xhci_pci");
        assert_eq!(module_name(Path::new("9p.ko")), "9p");
    }
}
