//! A Debian package of what an archive holds. The program is static, so that the package depends on nothing.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use workspace::static_build::Target;

use super::checksums;

/// What is installed where: from the directory that is packed, or from the workspace.
pub(super) const FILES: [(&str, &str, u32); 10] = [
    ("bouncescope", "usr/bin/bouncescope", 0o755),
    ("completions/bouncescope.bash", "usr/share/bash-completion/completions/bouncescope", 0o644),
    ("completions/_bouncescope", "usr/share/zsh/vendor-completions/_bouncescope", 0o644),
    ("completions/bouncescope.fish", "usr/share/fish/vendor_completions.d/bouncescope.fish", 0o644),
    ("README.md", "usr/share/doc/bouncescope/README.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/bouncescope/CHANGELOG.md", 0o644),
    ("packaging/deb/copyright", "usr/share/doc/bouncescope/copyright", 0o644),
    ("packaging/systemd/bouncescope-flight.service", "usr/lib/systemd/system/bouncescope-flight.service", 0o644),
    ("packaging/systemd/bouncescope.service", "usr/lib/systemd/system/bouncescope.service", 0o644),
    ("packaging/initramfs-tools/bouncescope", "usr/share/initramfs-tools/hooks/bouncescope", 0o755),
];

/// What Debian calls a machine.
pub(super) fn architecture(machine: &str) -> &str {
    match machine {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

/// Whether packages can be made on this machine.
pub(super) fn is_possible() -> bool {
    Command::new("dpkg-deb").arg("--version").output().is_ok()
}

/// Makes a package of what is in `packed`. Its name.
pub(super) fn package(root: &Path, out: &Path, packed: &Path, target: &Target) -> Result<String> {
    let architecture = architecture(target.machine);
    let name = format!("bouncescope_{}_{architecture}.deb", env!("CARGO_PKG_VERSION"));
    let dir = out.join(format!("{name}.root"));
    let _ = fs::remove_dir_all(&dir);
    for (from, to, mode) in FILES {
        let from = if from.starts_with("packaging/") { root.join(from) } else { packed.join(from) };
        install(&from, &dir.join(to), mode)?;
    }
    let pages = dir.join("usr/share/man/man1");
    for entry in fs::read_dir(packed.join("man")).context("no man pages")? {
        let page = entry?;
        let to = pages.join(page.file_name());
        install(&page.path(), &to, 0o644)?;
        must(Command::new("gzip").args(["-9", "-n"]).arg(&to), "gzip")?;
    }
    let files = checksums::files(&dir)?;
    let bytes = files.iter().map(|file| fs::metadata(dir.join(file)).map(|file| file.len()));
    let bytes: u64 = bytes.sum::<std::io::Result<_>>()?;
    let sums = must(Command::new("md5sum").args(&files).current_dir(&dir), "md5sum")?;
    let control = dir.join("DEBIAN");
    fs::create_dir(&control)?;
    for (name, text) in
        [("control", self::control(architecture, bytes.div_ceil(1024)).into()), ("md5sums", sums.stdout)]
    {
        fs::write(control.join(name), text)?;
        fs::set_permissions(control.join(name), fs::Permissions::from_mode(0o644))?;
    }
    each_dir(&dir, &mut |dir| Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?))?;
    // The same files give the same package, whoever makes it and when.
    let epoch = env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".to_owned());
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(&dir).arg(out.join(&name)).env("SOURCE_DATE_EPOCH", epoch);
    must(&mut dpkg, "dpkg-deb")?;
    fs::remove_dir_all(&dir)?;
    Ok(name)
}

fn control(architecture: &str, kib: u64) -> String {
    format!(
        "Package: bouncescope
Version: {}
Architecture: {architecture}
Maintainer: The bouncescope developers
Installed-Size: {kib}
Section: utils
Priority: optional
Description: DMA bouncing and small kmalloc caches, traced and predicted
 Records the DMA mappings and kmalloc allocations of a running kernel, shows
 which buffers the kernel copied through swiotlb, for which device and why,
 and predicts the same for another pool, cache line size or kernel policy.
 .
 The services bouncescope.service (metrics for Prometheus) and
 bouncescope-flight.service (flight recorder) are not enabled.
",
        env!("CARGO_PKG_VERSION")
    )
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let dir = to.parent().context("no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Goes through a directory and all in it.
fn each_dir(dir: &Path, take: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    take(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            each_dir(&entry.path(), take)?;
        }
    }
    Ok(())
}

fn must(command: &mut Command, name: &str) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output)
}

/// Unpacks a package and makes sure that everything is in it, with the modes it should have, and the program of the archive.
pub(super) fn check(out: &Path, name: &str, packed: &Path) -> Result<()> {
    let dir = out.join(format!("{name}.check"));
    let _ = fs::remove_dir_all(&dir);
    must(Command::new("dpkg-deb").arg("--extract").arg(out.join(name)).arg(&dir), "dpkg-deb")?;
    let checked = (|| {
        for (_, to, mode) in FILES {
            let file = fs::metadata(dir.join(to)).with_context(|| format!("no {to}"))?;
            ensure!(file.len() > 0, "{to} is empty");
            ensure!(file.permissions().mode() & 0o777 == mode, "{to} has the wrong mode");
        }
        each_dir(&dir.join("usr"), &mut |dir| {
            let mode = fs::metadata(dir)?.permissions().mode() & 0o777;
            ensure!(mode == 0o755, "{} has the mode {mode:o}", dir.display());
            Ok(())
        })?;
        ensure!(dir.join("usr/share/man/man1/bouncescope-record.1.gz").exists(), "no man pages");
        ensure!(
            fs::read(dir.join("usr/bin/bouncescope"))? == fs::read(packed.join("bouncescope"))?,
            "the program is not that of the archive"
        );
        let fields =
            must(Command::new("dpkg-deb").arg("--field").arg(out.join(name)).args(["Package", "Version"]), "dpkg-deb")?;
        let fields = String::from_utf8_lossy(&fields.stdout).into_owned();
        ensure!(fields.contains(concat!("Version: ", env!("CARGO_PKG_VERSION"), "\n")), "it says {fields}");
        Ok(())
    })();
    fs::remove_dir_all(&dir)?;
    checked.with_context(|| format!("{name} is not whole"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace::static_build::X86_64;

    /// A directory as it is packed, with a workspace that is this one.
    fn packed() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in FILES.iter().map(|(from, ..)| *from).chain(["man/bouncescope.1", "man/bouncescope-record.1"]) {
            if !file.starts_with("packaging/") {
                let path = dir.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
        }
        dir
    }

    #[test]
    fn a_package_holds_every_file_and_is_the_same_each_time() {
        if !is_possible() {
            eprintln!("not run: there is no dpkg-deb");
            return;
        }
        let (packed, out) = (packed(), tempfile::tempdir().unwrap());
        let name = package(workspace::root(), out.path(), packed.path(), &X86_64).unwrap();
        assert_eq!(name, concat!("bouncescope_", env!("CARGO_PKG_VERSION"), "_amd64.deb"));
        check(out.path(), &name, packed.path()).unwrap();
        let first = fs::read(out.path().join(&name)).unwrap();
        package(workspace::root(), out.path(), packed.path(), &X86_64).unwrap();
        assert!(first == fs::read(out.path().join(&name)).unwrap());
        fs::write(packed.path().join("bouncescope"), "another").unwrap();
        assert!(
            format!("{:#}", check(out.path(), &name, packed.path()).unwrap_err()).contains("not that of the archive")
        );
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing else is left");
    }
}
