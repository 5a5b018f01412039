//! Builds the lab's own kernel module (`xtask/lab/module`) for a kernel that is to be booted, against Debian's headers of
//! that very release, and keeps it.
//!
//! The headers' build is that of a Debian machine of the kernel's own suite, and is taken elsewhere: its paths are
//! rewritten, its programs run with the C library that they were linked against, and what only its own compiler knows is
//! switched off.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::{
    fetch::{self, packages_index, packages_index_with},
    kernel::Kernel,
    packages::{self, Package},
};

/// Given to make besides paths. gcc 12 has no `-fmin-function-alignment`, for which the kernel's Makefile knows another
/// way; the module's own BTF would need pahole.
const OPTIONS: [&str; 3] =
    ["CC=aarch64-linux-gnu-gcc", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CONFIG_DEBUG_INFO_BTF_MODULES="];
/// Has the C library for the build's programs, whichever suite's they are.
const LIBC_SUITE: &str = "trixie";

/// Held while one is built: two boots may ask for the same.
static BUILDING: Mutex<()> = Mutex::new(());

/// The module for a kernel.
pub(super) fn of_lab(kernel: &Kernel) -> Result<Vec<u8>> {
    let _building = BUILDING.lock();
    object(&workspace::cache_dir().join("lab"), &workspace::root().join("xtask/lab/module"), kernel)
}

/// The module for a kernel, from the cache or built now.
fn object(cache: &Path, sources: &Path, kernel: &Kernel) -> Result<Vec<u8>> {
    let files = files(sources)?;
    let name = format!("{}-{}", kernel.release, key(&files));
    let kept = cache.join("test-module").join(format!("{name}.ko"));
    if !kept.is_file() {
        eprintln!("lab: building the test module for {}", kernel.release);
        let headers = Headers::get(cache, &kernel.release)?;
        let work = cache.join("test-module").join(name);
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work)?;
        for (name, content) in &files {
            fs::write(work.join(name), content)?;
        }
        headers.make(&work)?;
        fs::rename(work.join("bounce_truth.ko"), &kept).context("the build left no bounce_truth.ko")?;
        fs::remove_dir_all(&work)?;
    }
    fs::read(&kept).with_context(|| format!("cannot read {}", kept.display()))
}

/// Names and contents of the files in `dir`, by name.
fn files(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let wanted = paths.iter().filter(|path| {
        path.file_name().is_some_and(|name| name == "Kbuild")
            || path.extension().is_some_and(|kind| kind == "c" || kind == "h")
    });
    wanted
        .map(|path| Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), fs::read(path)?)))
        .collect()
}

/// What a build depends on besides the kernel, as a few hex digits.
fn key(files: &[(String, Vec<u8>)]) -> String {
    let mut hasher = Sha256::new();
    let parts = files.iter().flat_map(|(name, content)| [name.as_bytes(), content]);
    for part in parts.chain(OPTIONS.iter().map(|option| option.as_bytes())) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    format!("{:x}", hasher.finalize())[..16].to_owned()
}

/// Unpacked headers with the programs of their build.
struct Headers {
    dir: PathBuf,
    release: String,
    host: Host,
}

/// The building machine: Debian's name of its architecture, where libraries lie, and the loader among them.
struct Host {
    architecture: &'static str,
    libraries: &'static str,
    loader: &'static str,
}

impl Host {
    fn this() -> Result<Self> {
        let (architecture, libraries, loader) = match env::consts::ARCH {
            "x86_64" => ("amd64", "usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
            "aarch64" => ("arm64", "usr/lib/aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
            other => bail!("the test module's build is not known on {other}"),
        };
        Ok(Self { architecture, libraries, loader })
    }
}

impl Headers {
    fn get(cache: &Path, release: &str) -> Result<Self> {
        let headers =
            Self { dir: cache.join("headers").join(release), release: release.to_owned(), host: Host::this()? };
        if !headers.dir.is_dir() {
            fetch::unpack(cache, &headers.dir, &headers.packages(cache)?)?;
        }
        headers.settle()?;
        Ok(headers)
    }

    /// What has to be fetched, from the suite that the kernel is of.
    fn packages(&self, cache: &Path) -> Result<Vec<Package>> {
        let (names, programs) = packages::headers(&self.release);
        let libc = packages_index(cache, LIBC_SUITE, self.host.architecture)?;
        let libc = packages::named(&libc, "libc6").with_context(|| format!("no libc6 in {LIBC_SUITE}"))?;
        for suite in fetch::SUITES {
            let index = packages_index(cache, suite, "arm64")?;
            if packages::named(&index, &names[0]).is_none() {
                continue;
            }
            let host_index = packages_index_with(cache, suite, self.host.architecture, &programs)?;
            let mut wanted = names.iter().map(|name| (&index, name)).chain([(&host_index, &programs)]);
            return wanted
                .try_fold(vec![libc], |mut found, (index, name)| {
                    found.push(packages::named(index, name)?);
                    Some(found)
                })
                .with_context(|| format!("{suite} has not all of {}, {programs}", names.join(", ")));
        }
        bail!("no {} in Debian's {}", names[0], fetch::SUITES.join(", "))
    }

    /// Makes them usable where they lie now; doing it again changes nothing.
    fn settle(&self) -> Result<()> {
        // Debian's Makefile only includes the common one, by its absolute path.
        let makefile = self.tree().join("Makefile");
        let text = fs::read_to_string(kept_aside(&makefile)?)?;
        fs::write(&makefile, text.replace("/usr/src/", &format!("{}/usr/src/", self.dir.display())))?;
        // modpost starts the modpost.real-* for the target's words and byte order from beside its own program, which the
        // loader is not.
        let (_, programs) = packages::headers(&self.release);
        let scripts = self.dir.join("usr/lib").join(programs).join("scripts");
        let fixdep = scripts.join("basic/fixdep");
        self.wrap(&fixdep, &kept_aside(&fixdep)?)?;
        let modpost = scripts.join("mod/modpost");
        kept_aside(&modpost)?;
        self.wrap(&modpost, &scripts.join("mod/modpost.real-lsb-64"))
    }

    /// Puts a script at `file` that runs `program` with its own C library.
    fn wrap(&self, file: &Path, program: &Path) -> Result<()> {
        let libraries = self.dir.join(self.host.libraries);
        let loader = libraries.join(self.host.loader);
        let [loader, libraries, program] = [loader.as_path(), &libraries, program].map(|path| path.display());
        fs::write(file, format!("#!/bin/sh\nexec '{loader}' --library-path '{libraries}' '{program}' \"$@\"\n"))?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn tree(&self) -> PathBuf {
        self.dir.join("usr/src").join(format!("linux-headers-{}", self.release))
    }

    fn make(&self, work: &Path) -> Result<()> {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(self.tree()).arg(format!("M={}", work.display())).args(OPTIONS).arg("modules");
        let output =
            make.output().context("cannot run make, which builds the test module (.ci/install installs it)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the test module does not compile for {}:\n{said}", self.release);
        Ok(())
    }
}

/// Where the original of a file that is replaced is kept; moves it there the first time.
fn kept_aside(file: &Path) -> Result<PathBuf> {
    let original = file.with_added_extension("debian");
    if !original.exists() {
        fs::rename(file, &original).with_context(|| format!("no {}", file.display()))?;
    }
    Ok(original)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> (String, Vec<u8>) {
        (name.to_owned(), content.as_bytes().to_vec())
    }

    #[test]
    fn any_change_of_the_sources_is_another_build() {
        let key_of = |files: &[(String, Vec<u8>)]| key(files);
        let one = key_of(&[file("a.c", "x"), file("b.c", "y")]);
        assert_eq!(one, key_of(&[file("a.c", "x"), file("b.c", "y")]));
        assert_ne!(one, key_of(&[file("a.c", "x"), file("b.c", "z")]));
        assert_ne!(one, key_of(&[file("a.c", "x"), file("c.c", "y")]));
        assert_ne!(one, key_of(&[file("a.c", "xb.c"), file("", "y")]));
    }

    #[test]
    fn a_file_is_moved_aside_once() {
        let dir = env::temp_dir().join(format!("lab-aside-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("fixdep");
        fs::write(&file, "original").unwrap();
        let original = kept_aside(&file).unwrap();
        fs::write(&file, "script").unwrap();
        assert_eq!(fs::read_to_string(kept_aside(&file).unwrap()).unwrap(), "original");
        assert_eq!(original, dir.join("fixdep.debian"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
