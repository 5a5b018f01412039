//! This workspace, as its developer tasks see it: where it and its caches are, how static programs are built from it, and the
//! sections of its documents that a task writes itself.

use std::{
    env,
    path::{Path, PathBuf},
};

pub mod jobs;
pub mod static_build;
pub mod written;

/// The profile of what is not measured: what the lab boots, and what soak records with. Without the release's link-time
/// optimization, which takes longer than all the rest of a build.
pub const QUICK_PROFILE: &str = "quick";

/// The root of the workspace, wherever the task was started.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Where downloads and tools are kept between runs: `$BOUNCESCOPE_CACHE`, else below the user's cache directory.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("BOUNCESCOPE_CACHE") {
        return dir.into();
    }
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    base.join("bouncescope")
}

/// The cargo that started the task, else the one on the path.
pub fn cargo() -> std::process::Command {
    std::process::Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
