//! A kernel of the lab's own, as phones have them: Debian's kernel source with the configuration in `xtask/lab/kernel-config`,
//! built when it is first asked for (minutes) and kept. One of them has a change to its source, which lets the lab choose where kmalloc's
//! caches begin.
//!
//! It has no BTF. What a phone's owner would get from elsewhere is made here from its debug information, so that
//! `record --btf` can be tried as well.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::{
    fetch::{self, output, packages_index},
    kernel::Kernel,
    packages,
};

/// A kernel that the lab builds, from files of `xtask/lab/kernel-config`.
struct Recipe {
    /// What it is asked for by.
    name: &'static str,
    /// Its configuration; later files prevail.
    fragments: &'static [&'static str],
    /// A change to its source.
    patch: Option<&'static str>,
}

const KERNELS: [Recipe; 3] = [
    Recipe { name: "gki", fragments: &["gki.config"], patch: None },
    Recipe { name: "gki-64k", fragments: &["gki.config", "64k-pages.config"], patch: None },
    Recipe { name: ALLOCINFO, fragments: &["gki.config", "allocinfo.config"], patch: Some("minalign.patch") },
];

/// The kernel that counts allocations by call site. Where its caches begin can be chosen when it is booted.
pub(super) const ALLOCINFO: &str = "gki-allocinfo";

const SUITE: &str = "trixie";
const SOURCE: &str = "linux-source-6.12";
const CROSS: [(&str, &str); 2] = [("ARCH", "arm64"), ("CROSS_COMPILE", "aarch64-linux-gnu-")];

/// The kernel of that name, from the cache or built now; `None` where the lab builds none such.
pub(super) fn kernel(cache: &Path, series: &str) -> Result<Option<Kernel>> {
    let Some(recipe) = KERNELS.iter().find(|recipe| recipe.name == series) else { return Ok(None) };
    let path = |file: &&str| workspace::root().join("xtask/lab/kernel-config").join(file);
    let fragments: Vec<_> = recipe.fragments.iter().map(path).collect();
    let read = |file: &PathBuf| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    let wanted = prevailing(&fragments.iter().map(read).collect::<Result<Vec<_>>>()?);
    let patch = recipe.patch.as_ref().map(path);
    let index = packages_index(cache, SUITE, "arm64")?;
    let source = packages::named(&index, SOURCE).with_context(|| format!("no {SOURCE} in {SUITE}"))?;
    let change = patch.as_ref().map(read).transpose()?.unwrap_or_default();
    let key = format!("{:x}", Sha256::digest(format!("{}\n{wanted}{change}", source.sha256)));
    let kept = cache.join("kernels").join(format!("{series}-{}", &key[..16]));
    if !kept.is_dir() {
        tools()?;
        let work = cache.join("kernel-build");
        eprintln!("lab: building a kernel like a phone's from {} (once, some 10 minutes)", source.filename);
        // What a build left that failed.
        let _ = fs::remove_dir_all(&work);
        fetch::unpack(cache, &work, std::slice::from_ref(&source))?;
        let tree = unpacked(&work)?;
        if let Some(patch) = &patch {
            output(Command::new("patch").current_dir(&tree).args(["--silent", "--strip=1", "--input"]).arg(patch))?;
        }
        configure(&tree, &fragments, &wanted)?;
        build(&tree)?;
        keep(&tree, &kept)?;
        fs::remove_dir_all(&work)?;
    }
    let release = fs::read_to_string(kept.join("release"))?.trim().to_owned();
    Ok(Some(Kernel {
        series: series.to_owned(),
        release,
        image: kept.join("Image"),
        config: kept.join("config"),
        modules: kept.join("modules"),
        btf: Some(kept.join("vmlinux.btf")),
    }))
}

/// What fragments ask for together: of lines about one option the last.
fn prevailing(fragments: &[String]) -> String {
    let option = |line: &str| {
        let option = line.strip_prefix("# ").unwrap_or(line).split(['=', ' ']).next().unwrap_or_default().to_owned();
        option.starts_with("CONFIG_").then_some(option)
    };
    let lines: Vec<_> = fragments.iter().flat_map(|text| text.lines()).collect();
    let is_last = |(at, line): &(usize, &&str)| {
        option(line).is_none_or(|name| !lines[at + 1..].iter().any(|later| option(later).as_ref() == Some(&name)))
    };
    lines.iter().enumerate().filter(is_last).flat_map(|(_, line)| [line, "\n"]).collect()
}

/// An error unless what the build calls can be run; what it lacks of libraries, it says itself.
fn tools() -> Result<()> {
    for tool in ["make", "patch", "flex", "bison", "bc", "pahole", "aarch64-linux-gnu-gcc"] {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.with_context(|| format!("no {tool}, to build a kernel with; bash .ci/install --kernel installs it"))?;
    }
    Ok(())
}

/// The package holds an archive of the sources.
fn unpacked(work: &Path) -> Result<PathBuf> {
    let sources = work.join("usr/src");
    let archive = sources.join(format!("{SOURCE}.tar.xz"));
    output(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&sources))?;
    fs::remove_file(archive)?;
    Ok(sources.join(SOURCE))
}

fn configure(tree: &Path, fragments: &[PathBuf], wanted: &str) -> Result<()> {
    make(tree, &["tinyconfig"])?;
    let mut merge = Command::new("scripts/kconfig/merge_config.sh");
    output(merge.current_dir(tree).envs(CROSS).args(["-m", ".config"]).args(fragments).stderr(Stdio::null()))?;
    make(tree, &["olddefconfig"])?;
    let unmet = unmet(wanted, &fs::read_to_string(tree.join(".config"))?);
    ensure!(unmet.is_empty(), "{SOURCE} cannot be configured with {}", unmet.join(", "));
    Ok(())
}

/// What a fragment asks for, and a configuration does not have.
fn unmet(fragment: &str, config: &str) -> Vec<String> {
    let is_set = |option: &str| config.lines().any(|line| line.split_once('=').is_some_and(|(name, _)| name == option));
    let holds = |line: &str| match line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set")) {
        Some(option) => !is_set(&format!("CONFIG_{option}")),
        None => config.lines().any(|have| have == line),
    };
    let asked = |line: &&str| line.starts_with("CONFIG_") || line.ends_with(" is not set");
    fragment.lines().filter(asked).filter(|line| !holds(line)).map(str::to_owned).collect()
}

fn build(tree: &Path) -> Result<()> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    make(tree, &[&format!("-j{jobs}"), "Image"])?;
    output(Command::new("pahole").current_dir(tree).args(["--btf_encode_detached=vmlinux.btf", "-J", "vmlinux"]))?;
    Ok(())
}

fn make(tree: &Path, arguments: &[&str]) -> Result<()> {
    output(Command::new("make").current_dir(tree).envs(CROSS).arg("-s").args(arguments)).map(drop)
}

/// Moves what is needed to boot it into the cache.
fn keep(tree: &Path, kept: &Path) -> Result<()> {
    let part = kept.with_added_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(part.join("modules/kernel"))?;
    for (from, to) in [
        ("arch/arm64/boot/Image", "Image"),
        (".config", "config"),
        ("vmlinux.btf", "vmlinux.btf"),
        ("include/config/kernel.release", "release"),
        ("modules.builtin", "modules/modules.builtin"),
    ] {
        fs::copy(tree.join(from), part.join(to)).with_context(|| format!("the build left no {from}"))?;
    }
    fs::rename(&part, kept).with_context(|| format!("cannot create {}", kept.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lines_about_an_option_the_last_prevails() {
        let fragments =
            ["# Why.\nCONFIG_A=y\nCONFIG_B=y\n".to_owned(), "# CONFIG_A is not set\nCONFIG_AB=y\n".to_owned()];
        assert_eq!(prevailing(&fragments), "# Why.\nCONFIG_B=y\n# CONFIG_A is not set\nCONFIG_AB=y\n");
    }

    #[test]
    fn options_that_did_not_take_are_named() {
        let config = "CONFIG_A=y\nCONFIG_C=m\n# CONFIG_D is not set\n";
        let fragment = "# Why.\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        assert_eq!(unmet(fragment, config), ["CONFIG_B=y", "# CONFIG_C is not set"]);
    }
}
