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

/// What is built.
#[derive(Clone, Copy)]
pub(crate) struct Build {
    profile: &'static str,
    /// For cargo.
    options: &'static [&'static str],
    /// For the compiler.
    flags: &'static str,
    /// How large it may be, stripped, bytes.
    largest: u64,
    /// What an archive is called after its machine.
    suffix: &'static str,
}

/// All commands, for a board.
const WHOLE: Build = Build { profile: "dist", options: &[], flags: "", largest: 10 << 20, suffix: "linux" };
/// What a phone records with: pages are made, and served, elsewhere, and captures are named.
pub(crate) const FOR_A_PHONE: Build = Build {
    profile: "phone",
    options: &["--no-default-features", "--features", "live"],
    // It aborts where it panics, so nothing reads the tables for unwinding.
    flags: "-Cforce-unwind-tables=no",
    largest: 6 << 20,
    suffix: "phone",
};
/// Completions, by the shell's name and the file name that the shell looks for.
const SHELLS: [(&str, &str); 3] = [("bash", "bouncescope.bash"), ("zsh", "_bouncescope"), ("fish", "bouncescope.fish")];
/// Files of the workspace that go along.
const ALONG: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Machines to build for, as `uname -m` calls them
    #[arg(long, value_name = "MACHINE", value_delimiter = ',', default_value = "aarch64,x86_64", value_parser = ["aarch64", "x86_64"])]
    machine: Vec<String>,
    /// Build for a phone: arm64, as small as can be, without pages, without a capture of its own, and without recording from boot
    #[arg(long, conflicts_with = "machine")]
    phone: bool,
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
    let (build, machines) =
        if args.phone { (FOR_A_PHONE, vec![ARM64.machine.to_owned()]) } else { (WHOLE, args.machine.clone()) };
    let targets = [ARM64, X86_64].into_iter().filter(|target| machines.iter().any(|one| one == target.machine));
    let mut made = Vec::new();
    for target in targets {
        say(&format!(
            "building bouncescope {} for {} (profile {})",
            env!("CARGO_PKG_VERSION"),
            target.machine,
            build.profile
        ));
        let binary = binary(root, &target, build)?;
        made.extend(pack(root, &out, &binary, &target, build, args.check)?);
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
fn pack(root: &Path, out: &Path, binary: &Path, target: &Target, build: Build, check: bool) -> Result<Vec<String>> {
    let name = format!("bouncescope-{}-{}-{}", env!("CARGO_PKG_VERSION"), target.machine, build.suffix);
    let dir = out.join(&name);
    gather(root, &dir, binary)?;
    say(&format!("packing {name}.tar.gz"));
    let mut made = vec![archive(out, &name)?];
    if build.profile == FOR_A_PHONE.profile {
        // adb pushes the binary.
    } else if deb::is_possible() {
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

/// Builds the binary for a machine, and makes sure that it runs anywhere and fits.
pub(crate) fn binary(root: &Path, target: &Target, build: Build) -> Result<PathBuf> {
    let mut cargo = target.cargo_build_with(root, build.profile, build.flags)?;
    let status = cargo.args(["--package", "bouncescope"]).args(build.options).status();
    ensure!(status.context("cannot run cargo")?.success(), "bouncescope did not compile for {}", target.machine);
    let binary = target.built(root, build.profile).join("bouncescope");
    runs_anywhere(&binary, target, build.largest)?;
    Ok(binary)
}

/// Makes sure that a binary is static and no larger than it may be.
fn runs_anywhere(binary: &Path, target: &Target, largest: u64) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    ensure!(elf::is_static(&bytes), "{} needs a dynamic loader: it would not run elsewhere", binary.display());
    fits(bytes.len() as u64, target.machine, largest)
}

fn fits(size: u64, machine: &str, largest: u64) -> Result<()> {
    let mib = size as f64 / f64::from(1 << 20);
    ensure!(size <= largest, "the binary for {machine} has {mib:.2} MiB, more than the {} it may have", largest >> 20);
    say(&format!("{machine}: {mib:.2} MiB of at most {}", largest >> 20));
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
    fn what_is_as_large_as_it_may_be_fits_and_a_byte_more_does_not() {
        for Build { largest, .. } in [WHOLE, FOR_A_PHONE] {
            assert!(fits(largest, "aarch64", largest).is_ok());
            let said = fits(largest + 1, "aarch64", largest).unwrap_err().to_string();
            assert!(said.contains("aarch64") && said.contains(&format!("{}.00 MiB", largest >> 20)), "{said}");
        }
    }
}
