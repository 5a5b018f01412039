//! `cargo xtask build-ebpf`: compiles the eBPF programs for both architectures and keeps the objects, compressed, with the hash of
//! the sources they came from, where the library embeds them. `--check` compiles nothing and fails when they are stale.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// Architectures whose registers the kprobe programs know: the object of each is of its own.
const ARCHITECTURES: [&str; 2] = ["aarch64", "x86_64"];
/// Where the library takes the objects from.
const OBJECTS: &str = "tracer/live/src/objects";
const SOURCES_HASH: &str = "sources.sha256";
/// zstd's level: an object is written once, and is a seventh of its size then.
const LEVEL: i32 = 19;
/// What of an object runs. The rest, names among it, depends on the directory that it was built in.
const CODE: [&str; 6] = [".text", "raw_tp", "kprobe", "kretprobe", ".rodata", "maps"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only check that the committed objects were built from the present sources
    #[arg(long)]
    check: bool,
    /// Write the objects there instead of into the library
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Build, and fail unless the committed objects have the same code to the byte; where they were built by another
    /// toolchain, only say so
    #[arg(long, conflicts_with_all = ["check", "out"])]
    compare: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    if args.check {
        return check(root);
    }
    let toolchain = Toolchain::find()?;
    let fresh = root.join("target-bpf/objects");
    let out = if args.compare { fresh } else { args.out.clone().unwrap_or_else(|| root.join(OBJECTS)) };
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    for architecture in ARCHITECTURES {
        let object = toolchain.build(root, architecture)?;
        let kept = out.join(kept_as(architecture));
        fs::write(&kept, zstd::bulk::compress(&object, LEVEL)?).with_context(|| kept.display().to_string())?;
        println!("{}: {} bytes, for {}", kept.display(), fs::metadata(&kept)?.len(), object.len());
    }
    fs::write(out.join(SOURCES_HASH), format!("{}\n{}\n", sources_hash(root)?, toolchain.version()?))?;
    if args.compare { toolchain.compare(&root.join(OBJECTS), &out) } else { Ok(()) }
}

/// Fails when the committed objects are missing or were built from other sources.
fn check(root: &Path) -> Result<()> {
    let objects = root.join(OBJECTS);
    let built_from = fs::read_to_string(objects.join(SOURCES_HASH))
        .with_context(|| format!("no {OBJECTS}/{SOURCES_HASH}; run `cargo xtask build-ebpf`"))?;
    for architecture in ARCHITECTURES {
        let kept = kept_as(architecture);
        ensure!(objects.join(&kept).is_file(), "no {OBJECTS}/{kept}");
    }
    if built_from.lines().next() != Some(sources_hash(root)?.as_str()) {
        bail!("the BPF objects in {OBJECTS} are stale: run `cargo xtask build-ebpf` and commit them");
    }
    Ok(())
}

/// Name of the file that has an architecture's object.
fn kept_as(architecture: &str) -> String {
    format!("{architecture}.o.zst")
}

/// SHA-256 over the names and contents of everything that the objects are made from, as lower-case hex.
fn sources_hash(root: &Path) -> Result<String> {
    let mut files = vec![PathBuf::from("tracer-ebpf/Cargo.toml")];
    collect(root, Path::new("tracer-ebpf/src"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(root.join(&file))?;
        hash.update(file.to_string_lossy().as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(dir)).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// What compiles and links for `bpfel-unknown-none`.
struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
    /// llvm-objcopy.
    objcopy: PathBuf,
}

enum Compiler {
    /// A rustc with a prebuilt core for the target (Debian's rustc-web).
    Prebuilt(PathBuf),
    /// rustup's nightly, which builds core from rust-src.
    Nightly,
}

impl Toolchain {
    fn find() -> Result<Self> {
        let linker = find_program("BPF_LINKER", "bpf-linker", &cached_linkers()).context(
            "no bpf-linker: run .ci/install (Debian), or `cargo install bpf-linker`, or set BPF_LINKER to its path",
        )?;
        let objcopy =
            find_program("LLVM_OBJCOPY", "llvm-objcopy", &[PathBuf::from("/usr/lib/llvm-22/bin/llvm-objcopy")])
                .context("no llvm-objcopy: install LLVM's tools, or set LLVM_OBJCOPY to its path")?;
        Ok(Self { compiler: Compiler::find()?, linker, objcopy })
    }

    /// Fails when the committed objects have other code than the fresh ones, although this toolchain made both.
    fn compare(&self, committed: &Path, fresh: &Path) -> Result<()> {
        let made_by =
            |dir: &Path| fs::read_to_string(dir.join(SOURCES_HASH)).with_context(|| dir.display().to_string());
        let (before, now) = (made_by(committed)?, made_by(fresh)?);
        for architecture in ARCHITECTURES {
            let object = kept_as(architecture);
            if self.code(&committed.join(&object))? == self.code(&fresh.join(&object))? {
                println!("{object}: the committed one has the same code");
            } else if before == now {
                bail!("{object} is not what its sources and toolchain make: run `cargo xtask build-ebpf`");
            } else {
                println!("{object}: another toolchain makes other code\n{before}{now}");
            }
        }
        Ok(())
    }

    /// The sections that run, of a compressed object.
    fn code(&self, kept: &Path) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let (object, dump) = (dir.path().join("object"), dir.path().join("section"));
        let file = fs::File::open(kept).with_context(|| format!("cannot open {}", kept.display()))?;
        fs::write(&object, zstd::decode_all(file).with_context(|| format!("cannot unpack {}", kept.display()))?)?;
        let mut code = Vec::new();
        for section in CODE {
            let status = Command::new(&self.objcopy)
                .arg(format!("--dump-section={section}={}", dump.display()))
                .args([&object, Path::new("/dev/null")])
                .status()
                .with_context(|| format!("cannot run {}", self.objcopy.display()))?;
            ensure!(status.success(), "no section {section} in {}", kept.display());
            code.extend(fs::read(&dump)?);
        }
        Ok(code)
    }

    /// What the bytes of an object depend on besides its sources, in one line.
    fn version(&self) -> Result<String> {
        let mut rustc = match &self.compiler {
            Compiler::Prebuilt(rustc) => Command::new(rustc),
            Compiler::Nightly => {
                let mut rustc = Command::new("rustc");
                rustc.arg("+nightly");
                rustc
            }
        };
        let version = |command: &mut Command| -> Result<String> {
            let output = command.arg("--version").output().with_context(|| format!("cannot run {command:?}"))?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Ok(format!("{}, {}", version(&mut rustc)?, version(&mut Command::new(&self.linker))?))
    }

    /// The object of an architecture.
    fn build(&self, root: &Path, architecture: &str) -> Result<Vec<u8>> {
        let target_dir = root.join("target-bpf");
        let rustflags = [
            format!("-Clinker={}", self.linker.display()),
            "-Clink-arg=--btf".into(),
            "-Cdebuginfo=2".into(),
            "--cfg".into(),
            format!("bpf_target_arch=\"{architecture}\""),
            format!("--remap-path-prefix={}=.", root.display()),
        ];
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        match &self.compiler {
            // aya-ebpf needs one unstable feature for this target, which a stable compiler lets no one else use.
            Compiler::Prebuilt(rustc) => cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1"),
            Compiler::Nightly => {
                cargo = Command::new("cargo");
                cargo.env_remove("CARGO").env("RUSTUP_TOOLCHAIN", "nightly").arg("-Zbuild-std=core")
            }
        };
        let status = cargo
            .current_dir(root.join("tracer-ebpf"))
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
            .args(["build", "--quiet", "--locked", "--release", "--target", "bpfel-unknown-none"])
            // How the product is optimised is no affair of these: bpf-linker does that.
            .args(["--config", "profile.release.lto='thin'", "--config", "profile.release.codegen-units=4"])
            .args(["--features", "programs", "--bin", "bouncescope-programs", "--target-dir"])
            .arg(&target_dir)
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "the eBPF programs did not compile for {architecture}");
        let built = target_dir.join("bpfel-unknown-none/release/bouncescope-programs");
        let object = built.with_extension("o");
        // The loader reads code, maps, relocations and BTF; DWARF and line info are six times as large.
        let status = Command::new(&self.objcopy)
            .args(["--strip-debug", "--remove-section=.BTF.ext", "--remove-section=.rel.BTF.ext"])
            .args([&built, &object])
            .status()
            .with_context(|| format!("cannot run {}", self.objcopy.display()))?;
        ensure!(status.success(), "{} failed on {}", self.objcopy.display(), built.display());
        Ok(fs::read(&object)?)
    }
}

impl Compiler {
    fn find() -> Result<Self> {
        let candidates = [env::var_os("BPF_RUSTC").map(PathBuf::from), Some(PathBuf::from("/usr/bin/rustc"))];
        for rustc in candidates.into_iter().flatten() {
            let Ok(output) = Command::new(&rustc).args(["--print", "sysroot"]).output() else { continue };
            let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned());
            if sysroot.join("lib/rustlib/bpfel-unknown-none").is_dir() {
                return Ok(Self::Prebuilt(rustc));
            }
        }
        let nightly = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output();
        if let Ok(output) = nightly
            && output.status.success()
            && Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("lib/rustlib/src/rust/library").is_dir()
        {
            return Ok(Self::Nightly);
        }
        bail!(
            "no core for bpfel-unknown-none: on Debian run .ci/install (rustc-web, libstd-rust-web-dev-bpf); elsewhere \
             `rustup toolchain install nightly --component rust-src`"
        )
    }
}

/// Where `.ci/install` keeps the linker that it built.
fn cached_linkers() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(workspace::cache_dir()) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().join("bin/bpf-linker")).collect()
}

/// The program that the variable names, else the one on PATH, else the first of `others` that exists.
fn find_program(variable: &str, name: &str, others: &[PathBuf]) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Some(path.into());
    }
    let on_path =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|dir| dir.join(name)).collect::<Vec<_>>();
    on_path.iter().chain(others).find(|path| path.is_file()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_objects_are_built_from_the_present_sources() {
        check(workspace::root()).unwrap();
    }
}
