//! Small files of sysfs, tracefs and debugfs: read, write, wait for. What they mean is known elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Content without the line end; `None` when it cannot be read.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The number in a file; `None` when there is none.
pub(crate) fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    read(path)?.parse().ok()
}

/// Writes `text` in one `write()`, as such files want it.
pub(crate) fn write(path: impl AsRef<Path>, text: &str) -> Result<(), String> {
    write_with(fs::OpenOptions::new().write(true), path.as_ref(), text)
}

/// As [`write()`], to a file that would forget what it holds.
pub(crate) fn write_more(path: impl AsRef<Path>, text: &str) -> Result<(), String> {
    write_with(fs::OpenOptions::new().append(true), path.as_ref(), text)
}

fn write_with(options: &fs::OpenOptions, path: &Path, text: &str) -> Result<(), String> {
    options
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| format!("cannot write {text:?} to {}: {error}", path.display()))
}

/// Entries of a directory, sorted; none when it cannot be read.
pub(crate) fn entries(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The file name of a path, empty when it has none.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Waits until `look` finds something, at most `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            return Err(format!("{what} did not appear within {} s", limit.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}
