//! `cargo xtask package`: the packages of every crate that is meant for others, as `cargo publish` would upload them.
//!
//! With `--check`, they are unpacked outside the workspace, and two things are built from them alone: a program that uses the library,
//! which is the library's own example, and the command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Largest package, bytes: the command's, most of which is the capture that it embeds. Registries refuse 10 MiB.
const LARGEST: u64 = 2 << 20;
/// The library's front page, and its example that makes a program of its own.
const LIBRARY: &str = "bouncescope-tracer";
const EXAMPLE: &str = "two_policies";
const COMMAND: &str = "bouncescope";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build a program and the command from the packages alone, and run the program
    #[arg(long)]
    check: bool,
}

/// A crate that is meant for others.
pub(crate) struct Package {
    pub(crate) name: String,
    version: String,
    /// What its library is called in code, if it has one.
    pub(crate) library: Option<String>,
}

impl Package {
    /// The folder that its archive unpacks to.
    fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root().canonicalize()?;
    let packages = published(&root)?;
    package(&root, &packages)?;
    let archives = root.join("target/package");
    for one in &packages {
        let archive = archives.join(format!("{}.crate", one.folder()));
        let size = fs::metadata(&archive).with_context(|| format!("no {}", archive.display()))?.len();
        ensure!(size <= LARGEST, "{} has {size} bytes, more than {LARGEST}: see its `include`", archive.display());
        println!("{:>5} KiB  {}", size.div_ceil(1024), archive.display());
    }
    if args.check {
        check(&root, &archives, &packages)?;
    }
    Ok(())
}

/// The members of the workspace that may be published.
pub(crate) fn published(root: &Path) -> Result<Vec<Package>> {
    let mut cargo = workspace::cargo();
    let output =
        cargo.current_dir(root).args(["metadata", "--no-deps", "--locked", "--format-version", "1"]).output()?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let members = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    // `publish = false` is an empty list of registries.
    let published = members.iter().filter(|member| member["publish"].is_null());
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a package without a name");
    let package = |one: &serde_json::Value| {
        let mut targets = one["targets"].as_array().into_iter().flatten();
        let library = targets.find(|target| target["kind"] == serde_json::json!(["lib"]));
        let library = library.map(|target| text(&target["name"])).transpose()?;
        Ok(Package { name: text(&one["name"])?, version: text(&one["version"])?, library })
    };
    published.map(package).collect()
}

/// Makes the archives. What is in them is verified by [`check`], all at once and with the dependencies that are built already.
fn package(root: &Path, packages: &[Package]) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    for one in packages {
        cargo.args(["--package", &one.name]);
    }
    ensure!(cargo.status().context("cannot run cargo")?.success(), "cargo package failed");
    Ok(())
}

/// Unpacks the archives into a workspace of their own, and builds there.
fn check(root: &Path, archives: &Path, packages: &[Package]) -> Result<()> {
    let outside = archives.join("outside");
    let _ = fs::remove_dir_all(&outside);
    fs::create_dir_all(&outside)?;
    for one in packages {
        let archive = archives.join(format!("{}.crate", one.folder()));
        let tar = Command::new("tar").arg("-xzf").arg(&archive).current_dir(&outside).status();
        ensure!(tar.context("cannot run tar")?.success(), "tar did not unpack {}", archive.display());
        licensed(&outside.join(one.folder()))?;
    }
    let of = |name: &str| packages.iter().find(|one| one.name == name).with_context(|| format!("no package {name}"));
    let library = of(LIBRARY)?;
    let example = outside.join(library.folder()).join(format!("examples/{EXAMPLE}.rs"));
    fs::create_dir_all(outside.join("program/src"))?;
    fs::copy(&example, outside.join("program/src/main.rs"))
        .with_context(|| format!("cannot copy {}", example.display()))?;
    fs::write(outside.join("program/Cargo.toml"), program(library))?;
    fs::write(outside.join("Cargo.toml"), outer(packages, &of(COMMAND)?.folder()))?;
    // The same versions of everything else, so that nothing is compiled or fetched again.
    fs::copy(root.join("Cargo.lock"), outside.join("Cargo.lock"))?;

    let capture = root.join("captures/default.bounce");
    let printed = built(root, &outside, &["run", "--package", "program", "--"], Some(&capture))?;
    let golden = root.join(format!("tracer/tests/examples/{EXAMPLE}.txt"));
    let expected = fs::read_to_string(&golden).with_context(|| format!("cannot read {}", golden.display()))?;
    ensure!(printed == expected, "a program outside of the workspace printed\n{printed}and not\n{expected}");
    print!("a program outside of the workspace:\n{printed}");
    built(root, &outside, &["check", "--package", COMMAND], None)?;
    println!("the packaged command compiles");
    Ok(())
}

/// Makes sure that a package brings the text of each of its licences.
fn licensed(folder: &Path) -> Result<()> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    let licenses = manifest.lines().find_map(|line| line.strip_prefix("license = ")).context("no license is named")?;
    for license in licenses.trim_matches('"').split(" OR ") {
        // `MIT` is in LICENSE-MIT, `Apache-2.0` in LICENSE-APACHE, `GPL-2.0-only` in LICENSE-GPL-2.0.
        let text = match license {
            "Apache-2.0" => "LICENSE-APACHE",
            "GPL-2.0-only" => "LICENSE-GPL-2.0",
            _ => "LICENSE-MIT",
        };
        ensure!(folder.join(text).is_file(), "{} has no {text}", folder.display());
    }
    Ok(())
}

/// The manifest of a program that depends on the library alone.
fn program(library: &Package) -> String {
    let Package { name, version, .. } = library;
    format!(
        "[package]\nname = \"program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\ntracer = {{ package = \"{name}\", version = \"{version}\" }}\n"
    )
}

/// The manifest of the workspace outside, in which unpacked archives stand in for the registry.
fn outer(packages: &[Package], command: &str) -> String {
    let mut text =
        format!("[workspace]\nresolver = \"3\"\nmembers = [\"program\", \"{command}\"]\n\n[patch.crates-io]\n");
    for one in packages.iter().filter(|one| one.name != COMMAND) {
        text += &format!("{} = {{ path = \"{}\" }}\n", one.name, one.folder());
    }
    text
}

/// What a command of cargo prints there. Built into this workspace's own `target`, whose dependencies are the same.
fn built(root: &Path, outside: &Path, arguments: &[&str], file: Option<&PathBuf>) -> Result<String> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(outside).env("CARGO_TARGET_DIR", root.join("target")).args(arguments).args(file);
    let output = cargo.output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo {} fails outside of the workspace: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).context("the program does not print text")
}
