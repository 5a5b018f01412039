//! The root directory in which a suite's tools run in a guest: their packages with the libraries that these depend on, of which only the
//! files that the programs load go in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{cpio::Archive, fetch, packages};

/// Where Debian keeps arm64 libraries, in the order in which they are looked for; Perfetto has one of its own.
const LIBRARIES: [&str; 4] = ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib", "usr/lib/perfetto"];
/// The one that starts programs; also a library.
const LOADER: &str = "ld-linux-aarch64.so.1";
/// What trace-cmd prints some events with.
const PLUGINS: &str = "usr/lib/aarch64-linux-gnu/traceevent/plugins";

/// A suite of Debian's, and what of it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suite {
    /// As the mirror calls it.
    pub(super) name: &'static str,
    /// Packages, and their programs.
    pub(super) packages: &'static [(&'static str, &'static [&'static str])],
}

/// A suite's tools, unpacked.
pub(super) struct Root {
    suite: Suite,
    dir: PathBuf,
    /// Version of each package, by its name.
    versions: BTreeMap<&'static str, String>,
}

impl Root {
    /// Fetches what is newest, unless the cache has it.
    pub(super) fn fetch(cache: &Path, suite: Suite) -> Result<Self> {
        let index = fetch::packages_index(cache, suite.name, "arm64")?;
        let names: Vec<_> = suite.packages.iter().map(|(name, _)| *name).collect();
        let packages = packages::with_libraries(&index, &names)
            .map_err(|name| anyhow::anyhow!("Debian's {} has no package {name} for arm64", suite.name))?;
        let all: String = packages.iter().map(|package| package.sha256.as_str()).collect();
        let dir = cache.join("tools").join(format!("{}-{:.12}", suite.name, format!("{:x}", Sha256::digest(all))));
        if !dir.is_dir() {
            fetch::unpack(cache, &dir, &packages)?;
        }
        let version = |name: &'static str| {
            let package = packages.iter().find(|package| package.name == name)?;
            Some((name, package.version()))
        };
        Ok(Self { suite, dir, versions: names.into_iter().filter_map(version).collect() })
    }

    /// The version of one of its packages, without Debian's own part.
    pub(super) fn version(&self, package: &str) -> &str {
        self.versions.get(package).map_or("?", |version| version)
    }

    /// Adds the programs and the libraries that they load below `tools/SUITE`.
    pub(super) fn pack(&self, archive: &mut Archive) -> Result<()> {
        let root = format!("tools/{}", self.suite.name);
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut wanted = Vec::new();
        for program in self.suite.packages.iter().flat_map(|(_, programs)| *programs) {
            let path = self.dir.join(program);
            archive.program(&format!("{root}/{program}"), &read(&path)?);
            wanted.extend(needed(&path)?);
        }
        let plugins = self.dir.join(PLUGINS);
        for plugin in fs::read_dir(&plugins).with_context(|| format!("cannot list {}", plugins.display()))? {
            let path = plugin?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.file(&format!("{root}/{PLUGINS}/{name}"), &read(&path)?);
        }
        let mut seen = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let path = self.library(&name)?;
            if name == LOADER {
                archive.program(&format!("{root}/lib/{name}"), &read(&path)?);
            } else {
                archive.file(&format!("{root}/lib/aarch64-linux-gnu/{name}"), &read(&path)?);
            }
            wanted.extend(needed(&path)?);
        }
        Ok(())
    }

    fn library(&self, name: &str) -> Result<PathBuf> {
        let found = LIBRARIES.iter().map(|dir| self.dir.join(dir).join(name)).find(|path| path.is_file());
        match found {
            Some(path) => Ok(path),
            None => bail!("no package of {} that the tools depend on has {name}", self.suite.name),
        }
    }
}

/// Libraries that a program or library names as needed.
fn needed(file: &Path) -> Result<Vec<String>> {
    let text = fetch::output(Command::new("aarch64-linux-gnu-readelf").args(["-d", "-W"]).arg(file))?;
    Ok(named(&String::from_utf8_lossy(&text)))
}

/// The names in what `readelf -d` prints.
fn named(dynamic: &str) -> Vec<String> {
    let lines = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_libraries_are_read_and_nothing_else() {
        let text = " 0x0000000000000001 (NEEDED)             Shared library: [libz.so.1]\n \
                    0x000000000000000e (SONAME)             Library soname: [libx.so.2]\n \
                    0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n";
        assert_eq!(named(text), ["libz.so.1", "libc.so.6"]);
    }
}
