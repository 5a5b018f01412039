//! Building static programs for a Linux machine of either architecture: which compiler and linker, and how they are called.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};

/// An architecture to build for. The C library is glibc, linked in: the musl targets' standard library is not packaged by
/// Debian, and zstd would need a C compiler for musl besides.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// `uname -m`.
    pub machine: &'static str,
    /// Rust's name for it.
    pub triple: &'static str,
    /// Links its programs and compiles its C; part of Debian's package of the same name.
    linker: &'static str,
    /// Names a compiler that has the target's standard library.
    rustc_variable: &'static str,
    /// Below the workspace. One for each compiler, so that two do not fight over it.
    dir: &'static str,
}

/// 64-bit Arm.
pub const ARM64: Target = Target {
    machine: "aarch64",
    triple: "aarch64-unknown-linux-gnu",
    linker: "aarch64-linux-gnu-gcc",
    rustc_variable: "ARM64_RUSTC",
    dir: "target-aarch64",
};

/// 64-bit x86.
pub const X86_64: Target = Target {
    machine: "x86_64",
    triple: "x86_64-unknown-linux-gnu",
    linker: "cc",
    rustc_variable: "X86_64_RUSTC",
    dir: "target-x86_64",
};

impl Target {
    /// A `cargo build` of static programs in a profile; packages and more are the caller's to add.
    pub fn cargo_build(&self, root: &Path, profile: &str) -> Result<Command> {
        self.cargo_build_with(root, profile, "")
    }

    /// The same with more flags for the compiler.
    pub fn cargo_build_with(&self, root: &Path, profile: &str, flags: &str) -> Result<Command> {
        let rustc = self.compiler()?;
        let Self { machine, linker, .. } = self;
        ensure!(
            Command::new(linker).arg("--version").output().is_ok(),
            "no {linker}, which links {machine} programs: run .ci/install, or install Debian's gcc for {machine} and its libc6-dev"
        );
        let (of_cargo, of_cc) = (self.triple.to_uppercase().replace('-', "_"), self.triple.replace('-', "_"));
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(root)
            .env("RUSTC", rustc)
            .env(format!("CARGO_TARGET_{of_cargo}_LINKER"), linker)
            .env(format!("CARGO_TARGET_{of_cargo}_RUSTFLAGS"), format!("-Ctarget-feature=+crt-static {flags}"))
            .env(format!("CC_{of_cc}"), linker)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .args(["build", "--quiet", "--locked", "--profile", profile, "--target", self.triple])
            .arg("--target-dir")
            .arg(root.join(self.dir));
        Ok(cargo)
    }

    /// Where the programs of a profile are when they are built.
    pub fn built(&self, root: &Path, profile: &str) -> PathBuf {
        root.join(self.dir).join(self.triple).join(profile)
    }

    /// A compiler that has the standard library for the target: the one named by the environment, Debian's own, or rustup's.
    fn compiler(&self) -> Result<PathBuf> {
        let Self { triple, rustc_variable, .. } = self;
        let candidates = [env::var_os(rustc_variable), Some("/usr/bin/rustc".into()), Some("rustc".into())];
        for rustc in candidates.into_iter().flatten() {
            let Ok(output) = Command::new(&rustc).args(["--print", "sysroot"]).output() else { continue };
            let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned());
            if sysroot.join("lib/rustlib").join(triple).is_dir() {
                return Ok(rustc.into());
            }
        }
        bail!(
            "no compiler has the standard library for {triple}: run .ci/install (Debian), or `rustup target add {triple}`, or \
             set {rustc_variable} to one that has"
        )
    }
}
