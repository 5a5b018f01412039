//! What `--version` says: the version, the commit (a package from a registry has none), and the features.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Sources that lie in somebody else's repository are not of its commit.
    let is_ours = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let commit = is_ours.then(|| git(&["rev-parse", "--short=12", "HEAD"])).flatten();
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for moves in ["HEAD"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", moves]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = commit.map_or_else(String::new, |commit| format!("commit {commit}, "));
    let features = ["live", "report", "export"];
    let is_on = |name: &&str| env::var_os(format!("CARGO_FEATURE_{}", name.to_uppercase())).is_some();
    let features: Vec<&str> = features.into_iter().filter(is_on).collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
    println!("cargo:rustc-env=BOUNCESCOPE_VERSION={} ({commit}features: {features})", env!("CARGO_PKG_VERSION"));
}

/// What a command of git prints, without its line end; `None` where it fails, or there is no git.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
