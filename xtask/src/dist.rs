//! `cargo xtask dist`: archives and Debian packages for other machines, each with one static binary, completions, man pages and checksums.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use workspace::static_build::{ARM64, Target, X86_64};

mod check;
mod checksums;
mod deb;
mod elf;

/// A phone or a small board has to hold it: bytes, stripped.
const LARGEST: u64 = 10 << 20;
const PROFILE: &str = "dist";
/// Completions, by the shell's name and the file name that the shell looks for.
const SHELLS: [(&str, &str); 3] = [("bash", "bouncescope.bash"), ("zsh", "_bouncescope"), ("fish", "bouncescope.fish")];
/// Files of the workspace that go along.
const ALONG: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Machines to build for, as `uname -m` calls them
    #[arg(long, value_name = "MACHINE", value_delimiter = ',', default_value = "aarch64,x86_64", value_parser = ["aarch64", "x86_64"])]
    machine: Vec<String>,
    /// Where the archives go [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pack below target/dist-check instead, and read each archive back
    #[arg(long, conflicts_with = "out")]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    let usual = root.join(if args.check { "target/dist-check" } else { "target/dist" });
    let out = args.out.clone().unwrap_or(usual);
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let out = out.canonicalize()?;
    let targets = [ARM64, X86_64].into_iter().filter(|target| args.machine.iter().any(|one| one == target.machine));
    let mut made = Vec::new();
    for target in targets {
        say(&format!("building bouncescope {} for {} (profile {PROFILE})", env!("CARGO_PKG_VERSION"), target.machine));
        let binary = binary(root, &target, &[])?;
        made.extend(pack(root, &out, &binary, &target, args.check)?);
    }
    // With those of earlier runs, for other machines.
    let is_ours = |file: &String| ["gz", "deb"].iter().any(|kind| Path::new(file).extension() == Some(kind.as_ref()));
    let packed = checksums::files(&out)?.into_iter().filter(is_ours);
    checksums::write(&out, &packed.collect::<Vec<_>>())?;
    made.push("SHA256SUMS".to_owned());
    for file in made {
        println!("{}", out.join(file).display());
    }
    Ok(())
}

/// What is going on, on standard error; standard output names what was made.
fn say(what: &str) {
    eprintln!("dist: {what}");
}

/// Packs an archive and a package of the same files, and reads them back where that is asked for. Their names.
fn pack(root: &Path, out: &Path, binary: &Path, target: &Target, check: bool) -> Result<Vec<String>> {
    let name = format!("bouncescope-{}-{}-linux", env!("CARGO_PKG_VERSION"), target.machine);
    let dir = out.join(&name);
    gather(root, &dir, binary)?;
    say(&format!("packing {name}.tar.gz"));
    let mut made = vec![archive(out, &name)?];
    if deb::is_possible() {
        say(&format!("packing the Debian package for {}", deb::architecture(target.machine)));
        made.push(deb::package(root, out, &dir, target)?);
    } else {
        say("no Debian package: there is no dpkg-deb on this machine");
    }
    if check {
        say(&format!("reading back {}", made.join(" and ")));
        if let Some(package) = made.get(1) {
            deb::check(out, package, &dir)?;
        }
        fs::remove_dir_all(&dir)?;
        check::archive(out, &made[0])?;
    } else {
        fs::remove_dir_all(&dir)?;
    }
    Ok(made)
}

/// What a phone records with: pages are made, and served, elsewhere.
pub(crate) const FOR_A_PHONE: &[&str] = &["--no-default-features", "--features", "live"];

/// Builds the binary for a machine with these options of cargo, and makes sure that it runs anywhere and fits.
pub(crate) fn binary(root: &Path, target: &Target, options: &[&str]) -> Result<PathBuf> {
    let status = target.cargo_build(root, PROFILE)?.args(["--package", "bouncescope"]).args(options).status();
    ensure!(status.context("cannot run cargo")?.success(), "bouncescope did not compile for {}", target.machine);
    let binary = target.built(root, PROFILE).join("bouncescope");
    runs_anywhere(&binary, target)?;
    Ok(binary)
}

/// Makes sure that a binary is static and no larger than it may be.
fn runs_anywhere(binary: &Path, target: &Target) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    ensure!(elf::is_static(&bytes), "{} needs a dynamic loader: it would not run elsewhere", binary.display());
    fits(bytes.len() as u64, target.machine)
}

fn fits(size: u64, machine: &str) -> Result<()> {
    let mib = size as f64 / f64::from(1 << 20);
    ensure!(size <= LARGEST, "the binary for {machine} has {mib:.1} MiB, more than the {} it may have", LARGEST >> 20);
    say(&format!("{machine}: {mib:.1} MiB of at most {}", LARGEST >> 20));
    Ok(())
}

/// Puts what belongs to a machine into a directory, with its checksums.
fn gather(root: &Path, dir: &Path, binary: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("completions")).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::copy(binary, dir.join("bouncescope"))?;
    for file in ALONG {
        fs::copy(root.join(file), dir.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    for (shell, file) in SHELLS {
        fs::write(dir.join("completions").join(file), of_product(root, &["completions".as_ref(), shell.as_ref()])?)?;
    }
    of_product(root, &["man".as_ref(), dir.join("man").as_os_str()])?;
    checksums::write(dir, &checksums::files(dir)?)
}

/// Packs a directory. The archive's name.
fn archive(out: &Path, name: &str) -> Result<String> {
    let archive = format!("{name}.tar.gz");
    // The same files give the same archive, whoever packs them and when.
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"])
        .arg(format!("--mtime=@{}", env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".to_owned())))
        .args(["-czf", &archive, name])
        .current_dir(out);
    ensure!(tar.status().context("cannot run tar")?.success(), "tar did not pack {archive}");
    Ok(archive)
}

/// What the product, built for this machine, prints for some arguments.
fn of_product(root: &Path, arguments: &[&std::ffi::OsStr]) -> Result<Vec<u8>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["run", "--quiet", "--locked", "--package", "bouncescope", "--"])
        .args(arguments)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("bouncescope {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_mebibytes_fit_and_a_byte_more_does_not() {
        assert!(fits(LARGEST, "aarch64").is_ok());
        let said = fits(LARGEST + 1, "aarch64").unwrap_err().to_string();
        assert!(said.contains("aarch64") && said.contains("10.0 MiB"), "{said}");
    }
}
