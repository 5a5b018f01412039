//! `SHA256SUMS`, as `sha256sum --check` reads it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Writes `SHA256SUMS` into a directory, over these of its files.
pub(super) fn write(dir: &Path, files: &[String]) -> Result<()> {
    let mut text = String::new();
    for file in files {
        let path = dir.join(file);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text += &format!("{:x}  {file}\n", Sha256::digest(&bytes));
    }
    let path = dir.join("SHA256SUMS");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// All files below a directory, by their paths in it, in order.
pub(super) fn files(dir: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(dir.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(path) } else { files.push(path.display().to_string()) }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_cover_every_file_in_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("man")).unwrap();
        for file in ["b", "man/a.1", "a"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        write(dir.path(), &files(dir.path()).unwrap()).unwrap();
        let sums = fs::read_to_string(dir.path().join("SHA256SUMS")).unwrap();
        let names: Vec<_> = sums.lines().map(|line| line.split_once("  ").unwrap().1).collect();
        assert_eq!(names, ["a", "b", "man/a.1"]);
        // sha256sum of one "a".
        assert!(sums.starts_with("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a\n"), "{sums}");
    }
}
